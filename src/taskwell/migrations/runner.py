"""Running Alembic's commands against a database that a URL names."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from taskwell.database import postgres, sqlite
from taskwell.database.failures import translated
from taskwell.database.urls import DatabaseURL, PostgresURL

Command = Callable[[Config], None]


def upgrade(url: DatabaseURL) -> None:
    """Brings the database to this version's schema; one that is there already is left as it is.

    Raises:
        DatabaseError: it cannot be reached.
    """
    run(url, lambda config: command.upgrade(config, "head"))


def run(url: DatabaseURL, do: Command) -> None:
    """Runs one of Alembic's commands in a transaction of its own.

    Raises:
        DatabaseError: the database cannot be reached.
    """
    with translated():
        if isinstance(url, PostgresURL):
            asyncio.run(_run_on_postgres(url, do))
        else:
            _run_on_sqlite(url.path, do)


async def _run_on_postgres(url: PostgresURL, do: Command) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: postgres.connect(url), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(_with_config, do)


def _run_on_sqlite(path: Path, do: Command) -> None:
    engine = create_engine("sqlite://", creator=lambda: sqlite.connect(path), poolclass=NullPool)
    with engine.connect() as connection:
        # The driver is in autocommit mode, and DDL of SQLite is transactional: all of a migration, or nothing of it.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _with_config(connection, do)
        connection.exec_driver_sql("COMMIT")


def _with_config(connection: Connection, do: Command) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    do(config)
