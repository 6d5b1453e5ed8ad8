"""Runs SQL in the database directly, without the service."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

import asyncpg
from sqlalchemy.sql.base import Executable

from taskwell.database import postgres, sqlite
from taskwell.database.interface import Row, Values, Write, compile_statement
from taskwell.database.schema import SCHEMA
from taskwell.database.urls import PostgresURL, parse_database_url

Refused = (sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)


def execute(url: str, sql: str) -> list[tuple[object, ...]]:
    """Runs one statement and returns its rows."""
    parsed = parse_database_url(url)
    if isinstance(parsed, PostgresURL):
        return asyncio.run(_on_postgres(url, sql))
    with closing(sqlite3.connect(parsed.path, isolation_level=None)) as connection:
        return connection.execute(sql).fetchall()


@contextmanager
def writes_held(url: str, user: str) -> Iterator[None]:
    """Makes every write of a user wait until the end of the block, as an open transaction of another process does."""
    parsed = parse_database_url(url)
    if not isinstance(parsed, PostgresURL):
        with closing(sqlite3.connect(parsed.path, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("COMMIT")
        return
    with asyncio.Runner() as loop:
        connected = loop.run(asyncpg.connect(url))
        try:
            loop.run(connected.execute("BEGIN"))
            held = loop.run(connected.fetch(f"SELECT FROM {SCHEMA}.owner WHERE user_id = $1 FOR UPDATE", user))
            assert held, "the user has not written yet"
            yield
            loop.run(connected.execute("COMMIT"))
        finally:
            loop.run(connected.close())


@contextmanager
def uncommitted(url: str, write: Write, **values: object) -> Iterator[None]:
    """Runs a write as another process would, and commits it at the end of the block."""
    parsed = parse_database_url(url)
    if not isinstance(parsed, PostgresURL):
        with closing(sqlite.connect(parsed.path)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            write.build(partial(_step, connection))(values)
            yield
            connection.execute("COMMIT")
        return
    call = postgres.call_of(write)
    with asyncio.Runner() as loop:
        driver = loop.run(postgres.connect(parsed))
        try:
            loop.run(driver.execute("BEGIN"))
            loop.run(driver.execute(call.sql, *call.arguments(values)))
            yield
            loop.run(driver.execute("COMMIT"))
        finally:
            loop.run(driver.close())


def _step(connection: sqlite3.Connection, statement: Executable) -> Callable[[Values], Sequence[Row]]:
    compiled = compile_statement(statement, sqlite._DIALECT)
    return lambda values: connection.execute(compiled.sql, compiled.arguments(values)).fetchall()


async def _on_postgres(url: str, sql: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(url)
    try:
        if sql.startswith("VACUUM"):
            return [tuple(row.values()) for row in await connection.fetch(sql)]
        async with connection.transaction():
            # Of the transaction, because a pooler shares its connections.
            await connection.execute(f"SET LOCAL search_path = {SCHEMA}, public")
            return [tuple(row.values()) for row in await connection.fetch(sql)]
    finally:
        await connection.close()
