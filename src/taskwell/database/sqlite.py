"""SQLite, the embedded default, through the standard library.

One connection in one worker thread: SQLite has a single writer anyway, and a hop to a thread that is
already there costs less than a pool. The file is in WAL mode with `synchronous=FULL`, so that what was acknowledged
is on disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.expression import ReturnsRows

from taskwell.database.failures import translated
from taskwell.database.port import CompiledStatement, Query, Row, compile_statement

BUSY_SECONDS = 5

_DIALECT = SQLiteDialect_pysqlite()

T = TypeVar("T")
Convert = Callable[[object], object]


def connect(path: Path) -> sqlite3.Connection:
    """A connection, set up so that each statement commits by itself and an acknowledged write is on disk.

    Raises:
        sqlite3.OperationalError: the file cannot be opened.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("one_microsecond_after", 1, _one_microsecond_after, deterministic=True)
    return connection


def _one_microsecond_after(stored: str) -> str:
    return (datetime.fromisoformat(stored) + timedelta(microseconds=1)).isoformat(" ", "microseconds")


class SQLiteDatabase:
    """The port on SQLite."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite")
        self.connection: sqlite3.Connection

    async def __aenter__(self) -> Self:
        with translated():
            self.connection = await self.run(lambda: connect(self._path))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.run(self.connection.close)
        self._thread.shutdown()

    def prepare(self, statement: Executable) -> Query:
        """Compiles `statement` for SQLite."""
        return _SQLiteQuery(self, compile_statement(statement, _DIALECT), _converters(statement))

    async def run(self, job: Callable[[], T]) -> T:
        """Runs `job` in the connection's thread. A job that has begun is finished, also when its caller is gone."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


class _SQLiteQuery:
    def __init__(self, database: SQLiteDatabase, statement: CompiledStatement, converters: dict[str, Convert]) -> None:
        self._database = database
        self._statement = statement
        self._converters = converters

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        arguments = self._statement.arguments(parameters)
        with translated():
            cursor_rows = await self._database.run(
                lambda: self._database.connection.execute(self._statement.sql, arguments).fetchall()
            )
        return [
            {name: convert(value) for (name, convert), value in zip(self._converters.items(), row, strict=True)}
            for row in cursor_rows
        ]


def _converters(statement: Executable) -> dict[str, Convert]:
    """For each column that comes back, its name and SQLAlchemy's way from what SQLite stores to what it means."""
    columns = cast("ReturnsRows", statement).exported_columns
    return {
        str(column.key): column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) or _as_stored
        for column in columns
    }


def _as_stored(value: object) -> object:
    return value
