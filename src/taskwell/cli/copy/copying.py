"""Copy everything from one Taskwell database to another, on the same engine or a different one.

After a copy the target equals the source: ids, times, revisions, keys, deleted tasks, and the next id. Each side is one
transaction. The source is read as of one moment, while others may write to it. The target is written, read back and
compared, and only then committed. So there is never half a copy; after an interruption, run the copy again.

A copy can be repeated, and then brings what has changed since: copy once while the service runs, and a last time after
it has stopped. A row of the target is replaced only by a later version of itself, that is, by a row with the same origin
and a higher revision. Any other difference comes from elsewhere or was written to the target directly, so the copy is
refused and nothing is lost. One case cannot be detected: a task was written in the target, and later and more often in
the source. Then the last write wins, as it does within one database.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, cast

from sqlalchemy import Table

from taskwell.cli.copy.engines import Values, key_of
from taskwell.cli.copy.sides import CopyRefused, Side, opened
from taskwell.database.urls import DatabaseURL
from taskwell.tasks.tables import task, user_revision

__all__ = ["Copied", "CopyRefused", "copy"]

ROWS_AT_ONCE = 2000


class Copied(NamedTuple):
    """The number of rows in each database after the copy, including deleted tasks."""

    tasks: int
    users: int


async def copy(source: DatabaseURL, target: DatabaseURL) -> Copied:
    """Makes `target` hold exactly what `source` holds.

    Raises:
        CopyRefused: a role lacks a right, a row does not fit, or `target` holds something that is not from `source`.
        DatabaseError: one database, named in the message, cannot be used or failed. Running the copy again is safe.
    """
    async with opened("--from", source, to_write=False) as old, opened("--to", target, to_write=True) as new:
        # First, because it needs the one right that only the owner of the tables has.
        highest_id = max(await old.highest_id(), await new.highest_id())
        for kind in _KINDS:
            async for page in _compared(old, new, kind):
                if page.missing:
                    await new.write(kind.table, page.missing)
        copied = Copied(*[await _count_of_equal(old, new, kind) for kind in _KINDS])
        await new.commit(highest_id)
        return copied


# --- the tables


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table. The columns in `fixed` never change after a row is created; those in `rising` never decrease."""

    table: Table
    before_all: int | str
    fixed: Sequence[str]
    rising: Sequence[str]

    def is_later(self, row: Values, than: Values) -> bool:
        """Whether `row` is a later version of `than`. Erasing is the one change that takes no revision."""
        return (
            all(row[name] == than[name] for name in self.fixed)
            and not any(_is_less(row[name], than[name]) for name in self.rising)
            and (
                _is_less(than["revision"], row["revision"]) or bool(row.get("erased_at")) > bool(than.get("erased_at"))
            )
        )


class _Ordered(Protocol):
    def __lt__(self, other: object, /) -> bool: ...


def _is_less(one: object, other: object) -> bool:
    # Both are values of one column, so they have one type.
    return cast("_Ordered", one) < other


_TASKS = _Kind(task, before_all=0, fixed=("user_id", "created_at", "creation_key"), rising=("revision", "updated_at"))
_OWNERS = _Kind(user_revision, before_all="", fixed=("epoch",), rising=("revision",))
_KINDS = (_TASKS, _OWNERS)


# --- the comparison


class _Page(NamedTuple):
    rows: int
    missing: Sequence[Values]
    """The rows that the target lacks, or has in an earlier version."""


_START_ANEW = "Nothing was changed. Copy to a new database: create it, and run: taskwell migrate"


async def _compared(old: Side, new: Side, kind: _Kind) -> AsyncGenerator[_Page]:
    """Walks both sides in step, in the order of the key."""
    table, key_name = kind.table, key_of(kind.table)
    after: object = kind.before_all
    while True:
        rows = {row[key_name]: row for row in await old.page(table, after, ROWS_AT_ONCE)}
        is_last = len(rows) < ROWS_AT_ONCE
        # One row more than expected, so that a surplus row is noticed.
        there = {row[key_name]: row for row in await new.page(table, after, len(rows) + 1)}
        after = after if is_last else next(reversed(rows))
        for key, row in there.items():
            if key in rows:
                if row != rows[key] and not kind.is_later(rows[key], than=row):
                    raise CopyRefused(f"--to and --from have different versions of {table.name} {key!r}. {_START_ANEW}")
            elif is_last or not _is_less(after, key):
                raise CopyRefused(f"--to has {table.name} {key!r}, which --from does not have. {_START_ANEW}")
        yield _Page(len(rows), [row for key, row in rows.items() if row != there.get(key)])
        if is_last:
            return


async def _count_of_equal(old: Side, new: Side, kind: _Kind) -> int:
    pages = [page async for page in _compared(old, new, kind)]
    equal = sum(page.rows for page in pages)
    # The walk misses rows that only a hand-written statement can make: a task with id 0, or an owner with an empty name.
    counts = {await side.count(kind.table) for side in (old, new)}
    if any(page.missing for page in pages) or counts != {equal}:
        raise CopyRefused(f"The {kind.table.name} rows read back from --to differ from --from. Nothing was changed.")
    return equal
