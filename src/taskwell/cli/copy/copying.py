"""Moving everything from one database of Taskwell to another, of the same engine or not.

The target becomes what the source is: ids, times, revisions, keys, what is deleted, and where ids go on. That is one
transaction on each side. The source is read in one state, whatever is written to it meanwhile. The target changes as a
whole, after what was written has been read back and compared, or not at all: there is no half a copy to go on from, and
one that was interrupted is run again.

A copy may be repeated, and then brings what has changed since: a first one while the service runs, a last one when it
has ended. A row of the target is replaced by its own later self only, born as the same and of a higher revision. Whatever
else differs came from elsewhere, or was written to the target itself, and is refused rather than lost. One thing cannot
be seen: a write to the target of a task that the source has written later, and more often. There the last write wins, as
it does within one database.
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
    """What both databases now hold, deleted tasks included."""

    tasks: int
    users: int


async def copy(source: DatabaseURL, target: DatabaseURL) -> Copied:
    """Makes `target` hold exactly what `source` does.

    Raises:
        CopyRefused: a role may not do it, a row does not fit, or `target` holds what does not come from `source`.
        DatabaseError: one of them, which the message names, cannot be used, or failed meanwhile. Run again, the copy is
            made, or found to have been made.
    """
    async with opened("--from", source, to_write=False) as old, opened("--to", target, to_write=True) as new:
        # First, for it takes the one right that only the tables' owner has.
        highest_id = max(await old.highest_id(), await new.highest_id())
        for kind in _KINDS:
            async for page in _compared(old, new, kind):
                if page.missing:
                    await new.write(kind.table, page.missing)
        copied = Copied(*[await _count_of_equal(old, new, kind) for kind in _KINDS])
        await new.commit(highest_id)
        return copied


# --- what is copied


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table. What is `born` with a row stays as it is, and what is `rising` never goes back."""

    table: Table
    before_all: int | str
    born: Sequence[str]
    rising: Sequence[str]

    def is_later(self, row: Values, than: Values) -> bool:
        """Whether `row` is what `than` has become. To be erased is the one change that takes no revision."""
        return (
            all(row[name] == than[name] for name in self.born)
            and not any(_is_less(row[name], than[name]) for name in self.rising)
            and (
                _is_less(than["revision"], row["revision"]) or bool(row.get("erased_at")) > bool(than.get("erased_at"))
            )
        )


class _Ordered(Protocol):
    def __lt__(self, other: object, /) -> bool: ...


def _is_less(one: object, other: object) -> bool:
    # Both are of one column, and so of one type.
    return cast("_Ordered", one) < other


_TASKS = _Kind(task, before_all=0, born=("user_id", "created_at", "creation_key"), rising=("revision", "updated_at"))
_OWNERS = _Kind(user_revision, before_all="", born=("epoch",), rising=("revision",))
_KINDS = (_TASKS, _OWNERS)


# --- how it is compared


class _Page(NamedTuple):
    rows: int
    missing: Sequence[Values]
    """Those of the rows that the target does not have, or not as they are now."""


_START_ANEW = "Nothing was changed. Copy to a new database: create it, and run: taskwell migrate"


async def _compared(old: Side, new: Side, kind: _Kind) -> AsyncGenerator[_Page]:
    """Walks both sides by the key, in step."""
    table, key_name = kind.table, key_of(kind.table)
    after: object = kind.before_all
    while True:
        rows = {row[key_name]: row for row in await old.page(table, after, ROWS_AT_ONCE)}
        is_last = len(rows) < ROWS_AT_ONCE
        # One more than there should be, by which a row too many is seen.
        there = {row[key_name]: row for row in await new.page(table, after, len(rows) + 1)}
        after = after if is_last else next(reversed(rows))
        for key, row in there.items():
            if key in rows:
                if row != rows[key] and not kind.is_later(rows[key], than=row):
                    raise CopyRefused(f"--to has another {table.name} {key!r} than --from. {_START_ANEW}")
            elif is_last or not _is_less(after, key):
                raise CopyRefused(f"--to has {table.name} {key!r}, which --from has not. {_START_ANEW}")
        yield _Page(len(rows), [row for key, row in rows.items() if row != there.get(key)])
        if is_last:
            return


async def _count_of_equal(old: Side, new: Side, kind: _Kind) -> int:
    pages = [page async for page in _compared(old, new, kind)]
    equal = sum(page.rows for page in pages)
    # Counted as well, for a row that the walk might pass by: by hand one can make a task 0, or one of nobody.
    counts = {await side.count(kind.table) for side in (old, new)}
    if any(page.missing for page in pages) or counts != {equal}:
        raise CopyRefused(f"--to does not give back every {kind.table.name} as --from has it. Nothing was changed.")
    return equal
