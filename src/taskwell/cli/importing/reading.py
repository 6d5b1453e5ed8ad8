"""The foreign table, read in one transaction, page by page."""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from typing import Protocol

import asyncpg

from taskwell.cli.copy.copying import ROWS_AT_ONCE
from taskwell.cli.copy.sides import named
from taskwell.cli.status import CommandFailed
from taskwell.database import postgres
from taskwell.database.urls import DatabaseURL, PostgresURL

Row = Sequence[object]


class Source(Protocol):
    """The table, as of one moment."""

    columns: Sequence[str]

    def rows(self, columns: Sequence[str], order: Sequence[str]) -> AsyncIterator[Row]:
        """Yields the values of `columns`, in the order of the columns `order`."""
        ...


@asynccontextmanager
async def opened(url: DatabaseURL, table: str) -> AsyncGenerator[Source]:
    """Opens the table, whose name may begin with that of a schema.

    Raises:
        CommandFailed: there is no such table.
        DatabaseError: the database cannot be used, or failed.
    """
    with named("--from"):
        if isinstance(url, PostgresURL):
            connection = await postgres.connect(url)
            try:
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    yield _Postgres(connection, table, _found(table, await connection.fetch(_POSTGRES_COLUMNS, table)))
            finally:
                connection.terminate()
        elif not url.path.exists():
            raise CommandFailed(f"--from: {url.path} does not exist")
        else:
            # Without the write-ahead log of our own files: a foreign file stays as it is.
            with closing(sqlite3.connect(f"{url.path.resolve().as_uri()}?mode=ro", uri=True)) as file:
                file.execute("BEGIN")
                yield _SQLite(file, table, _found(table, file.execute(_SQLITE_COLUMNS, (table,)).fetchall()))


def _found(table: str, rows: Sequence[Row | asyncpg.Record]) -> list[str]:
    if not rows:
        raise CommandFailed(f"--table: --from has no table {table!r}, or the role may not read it")
    return [str(row[0]) for row in rows]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _select(table: str, columns: Sequence[str], order: Sequence[str]) -> str:
    from_table = ".".join(map(_quoted, table.split(".", 1)))
    return f"SELECT {', '.join(map(_quoted, columns))} FROM {from_table} ORDER BY {', '.join(map(_quoted, order))}"  # noqa: S608 - quoted


# `to_regclass` follows the search path if the name has no schema. It takes the name as an identifier.
_POSTGRES_COLUMNS = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = (
    SELECT to_regclass(string_agg(quote_ident(part), '.' ORDER BY place))
    FROM unnest(string_to_array($1, '.')) WITH ORDINALITY AS parts (part, place)
) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_SQLITE_COLUMNS = "SELECT name FROM pragma_table_info(?) ORDER BY cid"


class _Postgres:
    def __init__(self, connection: asyncpg.Connection, table: str, columns: Sequence[str]) -> None:
        self.columns = columns
        self._connection = connection
        self._table = table

    async def rows(self, columns: Sequence[str], order: Sequence[str]) -> AsyncGenerator[Row]:
        cursor = self._connection.cursor(_select(self._table, columns, order), prefetch=ROWS_AT_ONCE)
        async for row in cursor:
            yield tuple(row)


class _SQLite:
    def __init__(self, file: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
        self.columns = columns
        self._file = file
        self._table = table

    async def rows(self, columns: Sequence[str], order: Sequence[str]) -> AsyncGenerator[Row]:
        for row in self._file.execute(_select(self._table, columns, order)):
            yield row
