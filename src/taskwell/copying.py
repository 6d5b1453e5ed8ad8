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

import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import asyncpg
from sqlalchemy import Table
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlmodel import SQLModel

from taskwell.database import postgres, sqlite
from taskwell.database.failures import translated
from taskwell.database.urls import DatabaseURL, PostgresURL
from taskwell.errors import NotMigrated, Problem
from taskwell.health import check_schema
from taskwell.tasks.statements import task

ROWS_AT_ONCE = 2000

Row = dict[str, Any]


class CopyRefused(Exception):
    """Nothing was copied, and the target is as it was; the message says why, and what to do."""


class Copied(NamedTuple):
    """What both databases now hold, deleted tasks included."""

    tasks: int
    users: int


async def copy(source: DatabaseURL, target: DatabaseURL) -> Copied:
    """Makes `target` hold exactly what `source` does.

    Raises:
        CopyRefused: one of them cannot be used, or `target` holds what does not come from `source`.
        DatabaseError: one of them failed meanwhile. Run again, the copy is made, or found to have been made.
    """
    try:
        with translated():
            async with _opened("--from", source, to_write=False) as old, _opened("--to", target, to_write=True) as new:
                for kind in _KINDS:
                    async for page in _compared(old, new, kind):
                        if page.missing:
                            await new.write(kind, page.missing)
                copied = Copied(*[await _count_of_equal(old, new, kind) for kind in _KINDS])
                await new.commit(await old.highest_id())
                return copied
    except (asyncpg.IntegrityConstraintViolationError, sqlite3.IntegrityError) as error:
        raise CopyRefused(f"--to does not take a row ({error}). {_START_ANEW}") from error


# --- what is copied


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table in the order of its key. What is `born` with a row stays as it is, and what is `rising` never goes back."""

    table: Table
    key: str
    before_all: int | str
    born: Sequence[str]
    rising: Sequence[str]

    @property
    def columns(self) -> Sequence[str]:
        return self.table.columns.keys()

    @property
    def names(self) -> str:
        return ", ".join(self.columns)

    def is_later(self, row: Row, than: Row) -> bool:
        """Whether `row` is what `than` has become. To be erased is the one change that takes no revision."""
        return (
            all(row[name] == than[name] for name in self.born)
            and all(row[name] >= than[name] for name in self.rising)
            and (row["revision"] > than["revision"] or bool(row.get("erased_at")) > bool(than.get("erased_at")))
        )


_TASKS = _Kind(
    task,
    key="id",
    before_all=0,
    born=("user_id", "created_at", "creation_key"),
    rising=("revision", "updated_at"),
)
_OWNERS = _Kind(SQLModel.metadata.tables["owner"], key="user_id", before_all="", born=("epoch",), rising=("revision",))
_KINDS = (_TASKS, _OWNERS)


class _Page(NamedTuple):
    rows: int
    missing: Sequence[Row]
    """Those of the rows that the target does not have, or not as they are now."""


_START_ANEW = "Nothing was changed. Copy to a new database: create it, and run: taskwell migrate"


async def _compared(old: "_Side", new: "_Side", kind: _Kind) -> AsyncGenerator[_Page]:
    """Walks both sides by the key, in step."""
    after = kind.before_all
    while True:
        rows = {row[kind.key]: row for row in await old.fetch(_page(kind), after, ROWS_AT_ONCE)}
        is_last = len(rows) < ROWS_AT_ONCE
        # One more than there should be, by which a row too many is seen.
        there = {row[kind.key]: row for row in await new.fetch(_page(kind), after, len(rows) + 1)}
        after = after if is_last else next(reversed(rows))
        for key, row in there.items():
            if key in rows:
                if row != rows[key] and not kind.is_later(rows[key], than=row):
                    raise CopyRefused(f"--to has another {kind.table.name} {key!r} than --from. {_START_ANEW}")
            elif is_last or key <= after:
                raise CopyRefused(f"--to has {kind.table.name} {key!r}, which --from has not. {_START_ANEW}")
        yield _Page(len(rows), [row for key, row in rows.items() if row != there.get(key)])
        if is_last:
            return


async def _count_of_equal(old: "_Side", new: "_Side", kind: _Kind) -> int:
    pages = [page async for page in _compared(old, new, kind)]
    equal = sum(page.rows for page in pages)
    # Counted as well, for a row that the walk might pass by: by hand one can make a task 0, or one of nobody.
    counts = {row["count"] for side in (old, new) for row in await side.fetch(_count(kind))}
    if any(page.missing for page in pages) or counts != {equal}:
        raise CopyRefused(f"--to does not give back every {kind.table.name} as --from has it. Nothing was changed.")
    return equal


# --- the two sides


class _Side(Protocol):
    """A database, in a transaction that comes to nothing unless it is committed."""

    async def fetch(self, sql: str, *arguments: object) -> list[Row]: ...

    async def write(self, kind: _Kind, rows: Sequence[Row]) -> None: ...

    async def highest_id(self) -> int:
        """The highest that was ever given to a task, be it one that is gone, or that never came to be."""
        ...

    async def commit(self, highest_id: int) -> None:
        """Keeps what was written, and from now on gives out ids above `highest_id` and above all that were here."""
        ...


@asynccontextmanager
async def _opened(option: str, url: DatabaseURL, *, to_write: bool) -> AsyncGenerator[_Side]:
    async with AsyncExitStack() as stack:
        try:
            with translated():
                side = await stack.enter_async_context(_begun(url, to_write=to_write))

                async def schema_revision(**_: object) -> Sequence[Row]:
                    return await side.fetch("SELECT version_num FROM alembic_version")

                await check_schema(schema_revision)
        except Problem as problem:
            raise CopyRefused(f"{option}: {problem.detail} ({problem.cause})") from problem
        yield side


@asynccontextmanager
async def _begun(url: DatabaseURL, *, to_write: bool) -> AsyncGenerator[_Side]:
    if isinstance(url, PostgresURL):
        connection = await postgres.connect(url)
        try:
            await connection.execute(_WRITE_POSTGRES if to_write else _READ_POSTGRES)
            yield _Postgres(connection)
        finally:
            connection.terminate()
    elif url.path.exists():
        with closing(sqlite.connect(url.path)) as file:
            file.execute("BEGIN IMMEDIATE" if to_write else "BEGIN")
            yield _SQLite(file)
    else:
        # To open it would create it.
        raise NotMigrated(cause=f"there is no file {url.path}")


_READ_POSTGRES = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

# Others may read and not write, or an id could be given out meanwhile. The time-outs of the role are meant for requests.
_WRITE_POSTGRES = """
BEGIN;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL lock_timeout = '5s';
LOCK TABLE task, owner IN SHARE ROW EXCLUSIVE MODE
"""

_HIGHEST_ID_POSTGRES = """
SELECT coalesce(max(id), 0) AS id
FROM (SELECT id FROM task UNION ALL SELECT last_value FROM task_id_seq WHERE is_called) AS used
"""


class _Postgres:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        return [dict(row) for row in await self._connection.fetch(sql, *arguments)]

    async def write(self, kind: _Kind, rows: Sequence[Row]) -> None:
        # One statement for all of them takes half the time of one for each.
        values = f"SELECT {kind.names} FROM unnest($1::{kind.table.name}[])"  # noqa: S608 - our own names
        # The keyword lets an identity column take what it is given; to other tables it means nothing.
        sql = _upsert(kind, f"OVERRIDING SYSTEM VALUE {values}")
        await self._connection.execute(sql, [tuple(row.values()) for row in rows])

    async def highest_id(self) -> int:
        ((highest,),) = await self._connection.fetch(_HIGHEST_ID_POSTGRES)
        return int(highest)

    async def commit(self, highest_id: int) -> None:
        # A sequence is of no transaction. Raised for a commit that then fails it has lost a few numbers, and no task.
        await self.fetch("SELECT setval('task_id_seq', $1) FROM task_id_seq WHERE last_value <= $1", highest_id)
        await self._connection.execute("COMMIT")


_SQLITE = SQLiteDialect_pysqlite()
_COLUMNS = {column.name: column.type.dialect_impl(_SQLITE) for kind in _KINDS for column in kind.table.columns}
_FROM_SQLITE = {name: convert for name, type_ in _COLUMNS.items() if (convert := type_.result_processor(_SQLITE, None))}
_TO_SQLITE = {name: convert for name, type_ in _COLUMNS.items() if (convert := type_.bind_processor(_SQLITE))}

_HIGHEST_ID_SQLITE = """
SELECT coalesce(max(id), 0) AS id
FROM (SELECT id FROM task UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'task')
"""


class _SQLite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> list[Row]:
        cursor = self._connection.execute(re.sub(r"\$\d+", "?", sql), arguments)
        names = [name for name, *_ in cursor.description]
        return _converted([dict(zip(names, row, strict=True)) for row in cursor], _FROM_SQLITE)

    async def write(self, kind: _Kind, rows: Sequence[Row]) -> None:
        stored = _converted([dict(row) for row in rows], _TO_SQLITE)
        sql = _upsert(kind, f"VALUES ({', '.join('?' for _ in kind.columns)})")
        with self._without_triggers():
            self._connection.executemany(sql, [tuple(row.values()) for row in stored])

    @contextmanager
    def _without_triggers(self) -> Generator[None]:
        """They would take each task for a write of its user's, and set the user's revision to the task's."""
        triggers = self._connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            self._connection.execute(f"DROP TRIGGER {name}")
        yield
        for _, sql in triggers:
            self._connection.execute(sql)

    async def highest_id(self) -> int:
        ((highest,),) = self._connection.execute(_HIGHEST_ID_SQLITE)
        return int(highest)

    async def commit(self, highest_id: int) -> None:
        highest_id = max(highest_id, await self.highest_id())
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'task'")
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('task', ?)", (highest_id,))
        self._connection.execute("COMMIT")


def _converted(rows: list[Row], converters: Mapping[str, Callable[[Any], Any]]) -> list[Row]:
    for row in rows:
        for name, convert in converters.items():
            if row.get(name) is not None:
                row[name] = convert(row[name])
    return rows


def _page(kind: _Kind) -> str:
    return f"SELECT {kind.names} FROM {kind.table.name} WHERE {kind.key} > $1 ORDER BY {kind.key} LIMIT $2"  # noqa: S608 - our own names


def _count(kind: _Kind) -> str:
    return f"SELECT count(*) AS count FROM {kind.table.name}"  # noqa: S608 - our own names


def _upsert(kind: _Kind, values: str) -> str:
    changes = ", ".join(f"{name} = excluded.{name}" for name in kind.columns if name != kind.key)
    return f"INSERT INTO {kind.table.name} ({kind.names}) {values} ON CONFLICT ({kind.key}) DO UPDATE SET {changes}"
