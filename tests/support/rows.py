"""Runs SQL in the database directly, without the service."""

import asyncio
import sqlite3
from contextlib import closing

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
