"""SQLite, through the standard library.

There are four connections. One reads on the event loop's own thread: by key, or a page. One writes: the event loop's
thread runs its statements, and another thread its commits, which wait for the disk. The other two have a thread each:
one for searches, and one for the other reads that can take long, or that could not end at once on the event loop.

The file is in WAL mode, in which a read never waits for a write. With `synchronous=FULL`, an acknowledged write is on
disk (https://www.sqlite.org/pragma.html#pragma_synchronous). See docs/adr/0016-sqlite-on-the-event-loop.md.
"""

import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from sqlalchemy import BindParameter
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.expression import ClauseElement, ReturnsRows
from sqlalchemy.types import TypeEngine
from sqlmodel import UTCDateTime

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.files import fault_behind, fault_of, unusable
from taskwell.database.interface import (
    TAKES_LONG,
    CompiledStatement,
    MaintenanceWrite,
    Query,
    Row,
    Values,
    Write,
    compile_for_owner,
    compile_statement,
)
from taskwell.database.sqlite_loop import LoopReader
from taskwell.database.sqlite_threads import BUSY_SECONDS, Worker, patiently
from taskwell.database.sqlite_writer import GroupWriter
from taskwell.database.text import contains, fold_case

_DIALECT = SQLiteDialect_pysqlite()

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
    patiently(lambda: connection.execute("PRAGMA journal_mode = WAL"))


def _connect_without_waiting(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute("PRAGMA busy_timeout = 0")
    return connection


def _connect_to_write(path: Path) -> sqlite3.Connection:
    connection = _connect_without_waiting(path)
    # A savepoint keeps a copy of each page that it changes: in memory, because a temporary file needs a folder that can
    # be written.
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _one_microsecond_after(stored: str) -> str:
    return (datetime.fromisoformat(stored) + timedelta(microseconds=1)).isoformat(" ", "microseconds")


class SQLiteDatabase:
    """The interface, on SQLite."""

    def __init__(self, path: Path) -> None:
        self.traffic = Traffic()
        self.on_loop = LoopReader(partial(_connect_without_waiting, path), self.traffic)
        self.reader = Worker(partial(connect, path), "reader", self.traffic)
        self.searcher = Worker(partial(connect, path), "searcher", self.traffic)
        self.writer = GroupWriter(partial(_connect_to_write, path), self.traffic)

    def pools(self) -> list[PoolUse]:
        """Returns the use of each connection that has a thread. Nobody waits for the event loop's connection."""
        return [one.use() for one in (self.writer, self.reader, self.searcher)]

    async def __aenter__(self) -> Self:
        for one in (self.writer, self.reader, self.searcher, self.on_loop):
            await one.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.on_loop.close()
        for one in (self.searcher, self.reader, self.writer):
            await one.close()

    def prepare(self, statement: Executable) -> Query:
        """Compiles `statement` for SQLite."""
        prepared = _Statement(compile_for_owner, statement)
        if any(isinstance(part, contains) for part in visitors.iterate(cast("ClauseElement", statement))):
            return _ThreadQuery(self.searcher, prepared)
        if statement.get_execution_options().get(TAKES_LONG):
            return _ThreadQuery(self.reader, prepared)
        return _LoopQuery(self.on_loop, _ThreadQuery(self.reader, prepared), prepared)

    def prepare_write(self, write: Write) -> Query:
        """Prepares the steps of the write."""
        return _SQLiteWrite(self.writer, write.build(partial(self._prepare_step, compile_for_owner)), alone=write.alone)

    def prepare_maintenance(self, write: MaintenanceWrite) -> Query:
        """Prepares the steps of the write."""
        return _SQLiteWrite(self.writer, write.build(partial(self._prepare_step, compile_statement)), alone=True)

    def _prepare_step(self, compile_: Compile, statement: Executable) -> Callable[[Values], Sequence[Row]]:
        prepared = _Statement(compile_, statement)
        return lambda values: prepared.run(self.writer.connection, values)


class _Statement:
    """A compiled statement."""

    def __init__(self, compile_: Compile, statement: Executable) -> None:
        self._compiled = compile_(statement, _DIALECT)
        self._converters = _converters(statement)
        self._to_stored = _to_stored(statement)

    def run(self, connection: sqlite3.Connection, values: Values) -> Sequence[Row]:
        if self._to_stored:
            values = {**values} | {name: convert(values[name]) for name, convert in self._to_stored.items()}
        # All rows at once: the statement ends, and with it its lock, before the values are converted.
        rows = connection.execute(self._compiled.sql, self._compiled.arguments(values)).fetchall()
        return [self._converted(row) for row in rows] if self._converters else rows

    def _converted(self, row: Row) -> Row:
        values = list(row)
        for index, convert in self._converters:
            values[index] = convert(values[index])
        return values


class _ThreadQuery:
    """A statement that a worker's thread runs."""

    def __init__(self, worker: Worker, statement: _Statement) -> None:
        self._worker = worker
        self._statement = statement

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        return await self._worker.run(lambda: self._statement.run(self._worker.connection, parameters))


class _LoopQuery:
    """A statement that runs at once, and again in a thread if it could not end at once."""

    def __init__(self, on_loop: LoopReader, otherwise: Query, statement: _Statement) -> None:
        self._on_loop = on_loop
        self._otherwise = otherwise
        self._statement = statement

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        rows = self._on_loop.run(self._statement.run, parameters)
        return await self._otherwise(**parameters) if rows is None else rows


class _SQLiteWrite:
    def __init__(self, writer: GroupWriter, steps: Callable[[Values], Sequence[Row]], *, alone: bool) -> None:
        self._writer = writer
        self._steps = steps
        self._alone = alone

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        return await self._writer.run(lambda: self._steps(parameters), alone=self._alone)


def _converters(statement: Executable) -> Sequence[tuple[int, Convert]]:
    """Returns the places of the columns whose stored values are not the Python ones, and their conversions."""
    columns = enumerate(cast("ReturnsRows", statement).exported_columns)
    found = ((index, _converter(column.type)) for index, column in columns)
    return [(index, convert) for index, convert in found if convert]


def _converter(column_type: TypeEngine[object]) -> Convert | None:
    if isinstance(column_type, UTCDateTime):
        return _utc
    return column_type.dialect_impl(_DIALECT).result_processor(_DIALECT, None)


def _utc(stored: object) -> datetime | None:
    # SQLAlchemy's conversion parses the time and then sets the zone: six times the cost, and two such times are half of
    # a list's rows.
    return None if stored is None else datetime.fromisoformat(f"{stored}+00:00")


def _to_stored(statement: Executable) -> dict[str, Convert]:
    """Returns SQLAlchemy's conversion of each parameter that has one, from the Python value to the stored one."""
    found: dict[str, Convert | None] = {}
    for element in visitors.iterate(cast("ClauseElement", statement)):
        if isinstance(element, BindParameter):
            parameter = cast("BindParameter[object]", element)
            found[parameter.key] = parameter.type.dialect_impl(_DIALECT).bind_processor(_DIALECT)
    return {name: convert for name, convert in found.items() if convert}
