"""Runs SQL in the database directly, without the service."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager

import asyncpg

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
