"""What a copy does on each engine: the statements, in one transaction."""

import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Protocol, cast

import asyncpg
from sqlalchemy import Table
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from taskwell.database import postgres, sqlite
from taskwell.database.urls import DatabaseURL, PostgresURL
from taskwell.errors import NotMigrated
from taskwell.tasks.tables import task, user_revision

Values = dict[str, object]
"""A row, by the names of its columns."""

Convert = Callable[[object], object]


class Engine(Protocol):
    """A transaction, which comes to nothing unless it is committed. The drivers' failures come as they are."""

    async def fetch(self, sql: str, *arguments: object) -> list[Values]: ...

    async def write(self, table: Table, rows: Sequence[Values]) -> None: ...

    async def highest_id(self) -> int: ...

    async def commit(self, highest_id: int) -> None: ...


@asynccontextmanager
async def begun(url: DatabaseURL, *, to_write: bool) -> AsyncGenerator[Engine]:
    """A transaction that sees one state of a database, or that alone may write to it."""
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


# The time-outs of a role are meant for requests. Here a side is idle for as long as the other one takes.
_NO_TIME_OUTS = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"

_READ_POSTGRES = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_NO_TIME_OUTS}"

# Others may read and not write, or an id could be given out meanwhile.
_WRITE_POSTGRES = f"""
BEGIN; {_NO_TIME_OUTS};
SET LOCAL lock_timeout = '5s';
LOCK TABLE task, owner IN SHARE ROW EXCLUSIVE MODE
"""

_HIGHEST_ID_POSTGRES = """
SELECT coalesce(max(id), 0)
FROM (SELECT id FROM task UNION ALL SELECT last_value FROM task_id_seq WHERE is_called) AS used
"""


class _Postgres:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> list[Values]:
        return [dict(row) for row in await self._connection.fetch(sql, *arguments)]

    async def write(self, table: Table, rows: Sequence[Values]) -> None:
        # One statement for all of them takes half the time of one for each.
        values = f"SELECT {_names(table)} FROM unnest($1::{table.name}[])"  # noqa: S608 - our own names
        # The keyword lets an identity column take what it is given; to other tables it means nothing.
        sql = _upsert(table, f"OVERRIDING SYSTEM VALUE {values}")
        await self._connection.execute(sql, [tuple(row.values()) for row in rows])

    async def highest_id(self) -> int:
        return await number(self, _HIGHEST_ID_POSTGRES)

    async def commit(self, highest_id: int) -> None:
        # A sequence is of no transaction. Raised for a commit that then fails it has lost a few numbers, and no task.
        await self.fetch("SELECT setval('task_id_seq', $1) FROM task_id_seq WHERE last_value <= $1", highest_id)
        await self._connection.execute("COMMIT")


_DIALECT = SQLiteDialect_pysqlite()
_COLUMNS = {
    column.name: column.type.dialect_impl(_DIALECT) for table in (task, user_revision) for column in table.columns
}
_FROM_SQLITE = {
    name: convert for name, type_ in _COLUMNS.items() if (convert := type_.result_processor(_DIALECT, None))
}
_TO_SQLITE = {name: convert for name, type_ in _COLUMNS.items() if (convert := type_.bind_processor(_DIALECT))}

_HIGHEST_ID_SQLITE = """
SELECT coalesce(max(id), 0)
FROM (SELECT id FROM task UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'task')
"""


class _SQLite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *arguments: object) -> list[Values]:
        cursor = self._connection.execute(re.sub(r"\$\d+", "?", sql), arguments)
        names = [name for name, *_ in cursor.description]
        return _converted((dict(zip(names, row, strict=True)) for row in cursor), _FROM_SQLITE)

    async def write(self, table: Table, rows: Sequence[Values]) -> None:
        stored = _converted((dict(row) for row in rows), _TO_SQLITE)
        sql = _upsert(table, f"VALUES ({', '.join('?' for _ in table.columns)})")
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
        return await number(self, _HIGHEST_ID_SQLITE)

    async def commit(self, highest_id: int) -> None:
        self._connection.execute("DELETE FROM sqlite_sequence WHERE name = 'task'")
        self._connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('task', ?)", (highest_id,))
        self._connection.execute("COMMIT")


def _converted(rows: Iterable[Values], converters: Mapping[str, Convert]) -> list[Values]:
    found = list(rows)
    for row in found:
        for name, convert in converters.items():
            if (value := row.get(name)) is not None:
                try:
                    row[name] = convert(value)
                except (TypeError, ValueError):
                    raise sqlite3.DataError(f"{name} is of another form") from None
    return found


# --- the statements


def key_of(table: Table) -> str:
    (column,) = table.primary_key
    return str(column.name)


def _names(table: Table) -> str:
    return ", ".join(table.columns.keys())


def page(table: Table) -> str:
    key = key_of(table)
    return f"SELECT {_names(table)} FROM {table.name} WHERE {key} > $1 ORDER BY {key} LIMIT $2"  # noqa: S608 - our own names


def count(table: Table) -> str:
    return f"SELECT count(*) FROM {table.name}"  # noqa: S608 - our own names


def _upsert(table: Table, values: str) -> str:
    key = key_of(table)
    changes = ", ".join(f"{column.name} = excluded.{column.name}" for column in table.columns if column.name != key)
    return f"INSERT INTO {table.name} ({_names(table)}) {values} ON CONFLICT ({key}) DO UPDATE SET {changes}"


async def number(engine: Engine, sql: str) -> int:
    ((found,),) = [row.values() for row in await engine.fetch(sql)]
    return cast("int", found)
