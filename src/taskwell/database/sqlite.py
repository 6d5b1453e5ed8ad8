"""SQLite, the embedded default, through the standard library.

Two connections, each in a worker thread of its own: SQLite has a single writer anyway, and a reader waits for nobody. A hop to a
thread that is already there costs less than a pool. The file is in WAL mode with `synchronous=FULL`, so that what was
acknowledged is on disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import asyncio
import sqlite3
import time
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
from taskwell.database.interface import CompiledStatement, Query, Row, compile_statement
from taskwell.database.waiting_list import WaitingList

BUSY_SECONDS = 5

_DIALECT = SQLiteDialect_pysqlite()

T = TypeVar("T")
Convert = Callable[[object], object]


def connect(path: Path) -> sqlite3.Connection:
    """A connection, set up so that each statement commits by itself and an acknowledged write is on disk.

    Raises:
        sqlite3.DatabaseError: the file cannot be opened, or is no database.
    """
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("one_microsecond_after", 1, _one_microsecond_after, deterministic=True)
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Puts the file into WAL mode, which it then keeps.

    Of several that do so at once to a new file some are refused: the busy timeout is for locks, and this is none of
    those it waits for (https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode).
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _one_microsecond_after(stored: str) -> str:
    return (datetime.fromisoformat(stored) + timedelta(microseconds=1)).isoformat(" ", "microseconds")


class Worker:
    """A connection and its thread: one statement at a time, the others wait in line for two seconds at most."""

    connection: sqlite3.Connection

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")
        self._line: WaitingList[sqlite3.Connection] = WaitingList()

    async def open(self) -> None:
        """Opens the connection."""
        with translated:
            self.connection = await self._run(lambda: connect(self._path))
        self._line.give(self.connection)

    async def close(self) -> None:
        """Closes it, when the statement under way is done."""
        await self._run(self.connection.close)
        self._thread.shutdown()

    async def fetch(self, sql: str, arguments: Sequence[object]) -> Sequence[tuple[object, ...]]:
        """Runs one statement. One that has begun is finished, also when its caller is gone.

        Raises:
            Overloaded: others were before it for two seconds; nothing was done.
            DatabaseError: the database failed, or another process held its lock for five seconds.
        """
        connection = await self._line.take()
        try:
            with translated:
                return await self._run(lambda: connection.execute(sql, arguments).fetchall())
        finally:
            self._line.give(connection)

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


class SQLiteDatabase:
    """The port on SQLite."""

    def __init__(self, path: Path) -> None:
        self.writer = Worker(path, "writer")
        self.reader = Worker(path, "reader")

    async def __aenter__(self) -> Self:
        await self.writer.open()
        await self.reader.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.reader.close()
        await self.writer.close()

    def prepare(self, statement: Executable, *, repeatable: bool = False) -> Query:
        """Compiles `statement` for SQLite, where there is no connection to lose."""
        del repeatable
        worker = self.reader if statement.is_select else self.writer
        return _SQLiteQuery(worker, compile_statement(statement, _DIALECT), _converters(statement))


class _SQLiteQuery:
    def __init__(self, worker: Worker, statement: CompiledStatement, converters: Sequence[Convert]) -> None:
        self._worker = worker
        self._statement = statement
        self._converters = converters

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        rows = await self._worker.fetch(self._statement.sql, self._statement.arguments(parameters))
        return [[convert(value) for convert, value in zip(self._converters, row, strict=True)] for row in rows]


def _converters(statement: Executable) -> Sequence[Convert]:
    """For each column that comes back, SQLAlchemy's way from what SQLite stores to what it means."""
    columns = cast("ReturnsRows", statement).exported_columns
    return [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) or _as_stored for column in columns]


def _as_stored(value: object) -> object:
    return value
