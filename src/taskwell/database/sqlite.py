"""SQLite, through the standard library.

There are three connections, each with a worker thread: for writes, because SQLite has only one writer at a time; for
reads, which in WAL mode never wait for the writer; and for searches, which can take long, so that other reads do not
wait for them. Passing work to a running thread costs less than a pool. The file is in WAL mode with `synchronous=FULL`,
so an acknowledged write is on disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, cast

from sqlalchemy import BindParameter
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.expression import ClauseElement, ReturnsRows

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.failures import Translated
from taskwell.database.files import fault_behind, fault_of, unusable
from taskwell.database.interface import (
    CompiledStatement,
    MaintenanceWrite,
    Query,
    Row,
    Undo,
    Values,
    Write,
    compile_for_owner,
    compile_statement,
)
from taskwell.database.text import contains, fold_case
from taskwell.database.waiting_list import WaitingList

BUSY_SECONDS = 5

_DIALECT = SQLiteDialect_pysqlite()

T = TypeVar("T")
Convert = Callable[[object], object]
Compile = Callable[[Executable, DefaultDialect], CompiledStatement]


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
    connection.create_function("fold_case", 1, fold_case, deterministic=True)
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switches the file to WAL mode, which it keeps.

    When several connections switch a new file at once, SQLite refuses some of them. The busy timeout does not cover
    this case (https://www.sqlite.org/wal.html#sometimes_queries_return_sqlite_busy_in_wal_mode).
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
    """A connection and its thread. It runs one job at a time; the others wait for two seconds at most."""

    connection: sqlite3.Connection

    def __init__(self, path: Path, name: str, traffic: Traffic) -> None:
        self._path = path
        self._name = name
        self._translated = Translated(traffic.errors)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")
        self._waiting_list: WaitingList[sqlite3.Connection] = WaitingList()

    async def open(self) -> None:
        """Opens the connection."""
        with self._translated:
            self.connection = await self._run(lambda: connect(self._path))
        self._waiting_list.give(self.connection)

    async def close(self) -> None:
        """Closes the connection when the running statement has ended."""
        await self._run(self.connection.close)
        self._thread.shutdown()

    async def run(self, job: Callable[[], T]) -> T:
        """Runs `job`, which uses the connection. Once begun, it runs to its end, even if the caller is cancelled.

        Raises:
            Overloaded: earlier jobs took two seconds; nothing was done.
            DatabaseError: the database failed, or another process held its lock for five seconds.
        """
        connection = await self._waiting_list.take()
        try:
            with self._translated:
                return await self._run(job)
        finally:
            self._waiting_list.give(connection)

    def use(self) -> PoolUse:
        """Returns the use of the connection."""
        slots = self._waiting_list
        idle = len(slots.idle)
        return PoolUse(self._name, 1, idle, 1 - idle, slots.waiting, slots.waits, slots.waited_seconds, slots.timeouts)

    async def _run(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)


class SQLiteDatabase:
    """The interface, on SQLite."""

    def __init__(self, path: Path) -> None:
        self.traffic = Traffic()
        self.writer = Worker(path, "writer", self.traffic)
        self.reader = Worker(path, "reader", self.traffic)
        self.searcher = Worker(path, "searcher", self.traffic)

    def pools(self) -> list[PoolUse]:
        """Returns the use of each connection."""
        return [worker.use() for worker in (self.writer, self.reader, self.searcher)]

    async def __aenter__(self) -> Self:
        await self.writer.open()
        await self.reader.open()
        await self.searcher.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.searcher.close()
        await self.reader.close()
        await self.writer.close()

    def prepare(self, statement: Executable) -> Query:
        """Compiles `statement` for SQLite."""
        searches = any(isinstance(part, contains) for part in visitors.iterate(cast("ClauseElement", statement)))
        worker = self.searcher if searches else self.reader
        return _SQLiteQuery(worker, _Statement(compile_for_owner, worker, statement))

    def prepare_write(self, write: Write) -> Query:
        """Prepares the steps of the write."""
        return _SQLiteWrite(self.writer, write.build(partial(_Statement, compile_for_owner, self.writer)))

    def prepare_maintenance(self, write: MaintenanceWrite) -> Query:
        """Prepares the steps of the write."""
        return _SQLiteWrite(self.writer, write.build(partial(_Statement, compile_statement, self.writer)))


class _Statement:
    """A compiled statement, which runs on the worker's thread."""

    def __init__(self, compile_: Compile, worker: Worker, statement: Executable) -> None:
        self._worker = worker
        self._compiled = compile_(statement, _DIALECT)
        self._converters = _converters(statement)
        self._to_stored = _to_stored(statement)

    def __call__(self, values: Values) -> Sequence[Row]:
        if self._to_stored:
            values = {**values} | {name: convert(values[name]) for name, convert in self._to_stored.items()}
        cursor = self._worker.connection.execute(self._compiled.sql, self._compiled.arguments(values))
        return [[convert(value) for convert, value in zip(self._converters, row, strict=True)] for row in cursor]


class _SQLiteQuery:
    def __init__(self, worker: Worker, statement: _Statement) -> None:
        self._worker = worker
        self._statement = statement

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        return await self._worker.run(lambda: self._statement(parameters))


class _SQLiteWrite:
    def __init__(self, worker: Worker, steps: Callable[[Values], Sequence[Row]]) -> None:
        self._worker = worker
        self._steps = steps

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        return await self._worker.run(lambda: self._in_transaction(parameters))

    def _in_transaction(self, parameters: Values) -> Sequence[Row]:
        connection = self._worker.connection
        # A transaction that begins by reading could not write once another process has written.
        connection.execute("BEGIN IMMEDIATE")
        try:
            rows = self._steps(parameters)
            connection.execute("COMMIT")
        except Undo as undo:
            connection.rollback()
            return undo.rows
        except BaseException:
            connection.rollback()
            raise
        return rows


def _converters(statement: Executable) -> Sequence[Convert]:
    """Returns SQLAlchemy's conversion of each returned column, from the stored value to the Python one."""
    columns = cast("ReturnsRows", statement).exported_columns
    return [column.type.dialect_impl(_DIALECT).result_processor(_DIALECT, None) or _as_stored for column in columns]


def _to_stored(statement: Executable) -> dict[str, Convert]:
    """Returns SQLAlchemy's conversion of each parameter that has one, from the Python value to the stored one."""
    found: dict[str, Convert | None] = {}
    for element in visitors.iterate(cast("ClauseElement", statement)):
        if isinstance(element, BindParameter):
            parameter = cast("BindParameter[object]", element)
            found[parameter.key] = parameter.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return {name: convert for name, convert in found.items() if convert}


def _as_stored(value: object) -> object:
    return value
