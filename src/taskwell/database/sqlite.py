"""SQLite, through the standard library.

There are two connections, each with a worker thread. SQLite has only one writer at a time, and in WAL mode a reader never waits for
it. Passing work to a running thread costs less than a pool. The file is in WAL mode with `synchronous=FULL`, so an acknowledged write is on disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
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
from taskwell.database.files import fault_behind, fault_of, unusable
from taskwell.database.interface import CompiledStatement, Query, Row, compile_for_owner
from taskwell.database.waiting_list import WaitingList

BUSY_SECONDS = 5

_DIALECT = SQLiteDialect_pysqlite()

T = TypeVar("T")
Convert = Callable[[object], object]


def connect(path: Path) -> sqlite3.Connection:
    """Opens a connection. On it, each statement commits by itself, and an acknowledged write is on disk.

    Raises:
        DatabaseRefused: the file cannot be opened, or is not a database; the cause says why.
        sqlite3.OperationalError: the file is locked.
    """
    # SQLite would open a file that it cannot write, and then fail at the first write.
    if fault := fault_of(path):
        raise unusable(fault)
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        _write_ahead(connection)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
            raise
        raise unusable(fault_behind(error, path)) from error
    connection.execute("PRAGMA synchronous = FULL")
    connection.create_function("one_microsecond_after", 1, _one_microsecond_after, deterministic=True)
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switches the file to WAL mode, which it keeps.

    When several connections switch a new file at once, SQLite refuses some of them. The busy timeout does not cover this case (https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode).
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
    """A connection and its thread. It runs one statement at a time; the others wait for two seconds at most."""

    connection: sqlite3.Connection

    def __init__(self, path: Path, name: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")
        self._waiting_list: WaitingList[sqlite3.Connection] = WaitingList()

    async def open(self) -> None:
        """Opens the connection."""
        with translated:
            self.connection = await self._run(lambda: connect(self._path))
        self._waiting_list.give(self.connection)

    async def close(self) -> None:
        """Closes the connection when the running statement has ended."""
        await self._run(self.connection.close)
        self._thread.shutdown()

    async def fetch(self, sql: str, arguments: Sequence[object]) -> Sequence[tuple[object, ...]]:
        """Runs one statement. Once begun, it runs to its end, even if the caller is cancelled.

        Raises:
            Overloaded: earlier statements took two seconds; nothing was done.
            DatabaseError: the database failed, or another process held its lock for five seconds.
        """
        connection = await self._waiting_list.take()
        try:
            with translated:
                return await self._run(lambda: connection.execute(sql, arguments).fetchall())
        finally:
            self._waiting_list.give(connection)

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


class SQLiteDatabase:
    """The interface, on SQLite."""

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
        """Compiles `statement` for SQLite. It is never repeated, because SQLite's connections cannot get lost."""
        del repeatable
        worker = self.reader if statement.is_select else self.writer
        return _SQLiteQuery(worker, compile_for_owner(statement, _DIALECT), _converters(statement))


class _SQLiteQuery:
    def __init__(self, worker: Worker, statement: CompiledStatement, converters: Sequence[Convert]) -> None:
        self._worker = worker
        self._statement = statement
        self._converters = converters

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        rows = await self._worker.fetch(self._statement.sql, self._statement.arguments(parameters))
        return [[convert(value) for convert, value in zip(self._converters, row, strict=True)] for row in rows]


def _converters(statement: Executable) -> Sequence[Convert]:
    """Returns SQLAlchemy's conversion of each returned column, from the stored value to the Python one."""
    columns = cast("ReturnsRows", statement).exported_columns
    return [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) or _as_stored for column in columns]


def _as_stored(value: object) -> object:
    return value
