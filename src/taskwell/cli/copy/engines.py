"""The statements of a copy on each engine, in one transaction."""

import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from typing import Protocol, cast

import asyncpg
from sqlalchemy import Column, Executable, Integer, Table, bindparam, func, literal_column, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from taskwell.database import postgres, sqlite
from taskwell.database.interface import compile_statement
from taskwell.database.schema import SCHEMA
from taskwell.database.urls import DatabaseURL, PostgresURL
from taskwell.errors import NotMigrated
from taskwell.tasks.tables import task, user_revision

Values = dict[str, object]
"""A row: its values by the names of its columns."""

Convert = Callable[[object], object]


class Engine(Protocol):
    """A transaction, which has no effect until it is committed. It raises the exceptions of the driver."""

    async def fetch(self, statement: Executable, **parameters: object) -> list[Values]: ...

    async def write(self, table: Table, rows: Sequence[Values]) -> None: ...

    async def highest_id(self) -> int: ...

    async def commit(self, highest_id: int) -> None: ...


@asynccontextmanager
async def begun(url: DatabaseURL, *, to_write: bool) -> AsyncGenerator[Engine]:
    """Begins a transaction. One that only reads sees a single moment; one that writes keeps other writers out."""
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
        # Opening a missing file would create it.
        raise NotMigrated(cause=f"{url.path} does not exist")


# --- PostgreSQL

_POSTGRES = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

# A role's timeouts are meant for requests. Here one side is idle for as long as the other works.
_NO_TIMEOUTS = "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0"

_READ_POSTGRES = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {_NO_TIMEOUTS}"

# Others may read but not write, or a new task could take an id that is about to be copied.
_WRITE_POSTGRES = f"""
BEGIN; {_NO_TIMEOUTS};
SET LOCAL lock_timeout = '5s';
LOCK TABLE {SCHEMA}.task, {SCHEMA}.owner IN SHARE ROW EXCLUSIVE MODE
"""

_HIGHEST_ID_POSTGRES = f"""
SELECT coalesce(max(id), 0)
FROM (SELECT id FROM {SCHEMA}.task UNION ALL SELECT last_value FROM {SCHEMA}.task_id_seq WHERE is_called) AS used
"""  # noqa: S608 - our own names

_RAISE_ID_POSTGRES = f"SELECT setval('{SCHEMA}.task_id_seq', $1) FROM {SCHEMA}.task_id_seq WHERE last_value <= $1"  # noqa: S608 - our own names

# Whoever distributes the rows by user has made it (user_id, id).
_PRIMARY_KEY_POSTGRES = """
SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
WHERE indrelid = CAST($1::text AS regclass) AND indisprimary
"""


class _Postgres:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: Executable, **parameters: object) -> list[Values]:
        compiled = compile_statement(statement, _POSTGRES)
        return [dict(row) for row in await self._connection.fetch(compiled.sql, *compiled.arguments(parameters))]

    async def write(self, table: Table, rows: Sequence[Values]) -> None:
        # One statement for all rows takes half the time of one for each.
        name = f"{SCHEMA}.{table.name}"
        values = f"SELECT {_names(table)} FROM unnest($1::{name}[])"  # noqa: S608 - our own names
        key = [column for (column,) in await self._connection.fetch(_PRIMARY_KEY_POSTGRES, name)]
        # OVERRIDING lets an identity column take the given value. It has no effect on other tables.
        sql = _upsert(name, table, f"OVERRIDING SYSTEM VALUE {values}", key)
        await self._connection.execute(sql, [tuple(row.values()) for row in rows])

    async def highest_id(self) -> int:
        return cast("int", await self._connection.fetchval(_HIGHEST_ID_POSTGRES))

    async def commit(self, highest_id: int) -> None:
        # A sequence belongs to no transaction. If the commit then fails, a few ids are skipped and no task is lost.
        await self._connection.execute(_RAISE_ID_POSTGRES, highest_id)
        await self._connection.execute("COMMIT")


# --- SQLite

_SQLITE = SQLiteDialect_pysqlite()
_COLUMNS: dict[str, Column[object]] = {
    column.name: column for table in (task, user_revision) for column in table.columns
}
_TYPES = {name: column.type.dialect_impl(_SQLITE) for name, column in _COLUMNS.items()}
_FROM_SQLITE = {name: convert for name, type_ in _TYPES.items() if (convert := type_.result_processor(_SQLITE, None))}
_TO_SQLITE = {name: convert for name, type_ in _TYPES.items() if (convert := type_.bind_processor(_SQLITE))}

_HIGHEST_ID_SQLITE = """
SELECT coalesce(max(id), 0)
FROM (SELECT id FROM task UNION ALL SELECT seq FROM sqlite_sequence WHERE name = 'task')
"""


class _SQLite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fetch(self, statement: Executable, **parameters: object) -> list[Values]:
        compiled = compile_statement(statement, _SQLITE)
        cursor = self._connection.execute(compiled.sql, compiled.arguments(parameters))
        names = [name for name, *_ in cursor.description]
        return _converted((dict(zip(names, row, strict=True)) for row in cursor), _FROM_SQLITE)

    async def write(self, table: Table, rows: Sequence[Values]) -> None:
        stored = _converted((dict(row) for row in rows), _TO_SQLITE)
        sql = _upsert(table.name, table, f"VALUES ({', '.join('?' for _ in table.columns)})", [key_of(table)])
        with self._without_triggers():
            self._connection.executemany(sql, [tuple(row.values()) for row in stored])

    @contextmanager
    def _without_triggers(self) -> Generator[None]:
        """Drops the triggers for a while. They would set a user's revision to that of each task written."""
        triggers = self._connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            self._connection.execute(f"DROP TRIGGER {name}")
        yield
        for _, sql in triggers:
            self._connection.execute(sql)

    async def highest_id(self) -> int:
        return cast("int", self._connection.execute(_HIGHEST_ID_SQLITE).fetchone()[0])

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
                    raise sqlite3.DataError(f"{name} has another format") from None
    return found


# --- both


def key_of(table: Table) -> str:
    """Returns the column by which a copy walks the table."""
    (column,) = table.primary_key
    return str(column.name)


def page(table: Table) -> Executable:
    """Selects at most `limit` rows whose key is greater than `after`, in the order of the key."""
    key = table.c[key_of(table)]
    after, limit = bindparam("after", type_=key.type), bindparam("limit", type_=Integer)
    # Without an offset SQLAlchemy adds one for SQLite, and as a value.
    return select(*table.c).where(key > after).order_by(key).limit(limit).offset(literal_column("0"))


def count(table: Table) -> Executable:
    return select(func.count().label("number")).select_from(table)


async def number(engine: Engine, statement: Executable) -> int:
    """Runs a statement that returns one integer."""
    ((found,),) = [row.values() for row in await engine.fetch(statement)]
    return cast("int", found)


def _names(table: Table) -> str:
    return ", ".join(table.columns.keys())


def _upsert(name: str, table: Table, values: str, key: Sequence[str]) -> str:
    changes = ", ".join(
        f"{column} = excluded.{column}" for column in map(str, table.columns.keys()) if column not in key
    )
    return f"INSERT INTO {name} ({_names(table)}) {values} ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
