"""Running Alembic's commands against a database that a URL names."""

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from taskwell.database import postgres, sqlite
from taskwell.database.failures import translated
from taskwell.database.urls import DatabaseURL, PostgresURL
from taskwell.errors import DatabaseError, NotMigrated
from taskwell.migrations import NEWER_SCHEMA

Command = Callable[[Config], None]

# One migration at a time: a second one waits here, and then finds the work done. Both of the transaction, so that
# nothing stays behind on a pooler's connection; the first number of the lock's name is "task" in ASCII.
_ONE_AT_A_TIME = ("SET LOCAL lock_timeout = '30s'", "SELECT pg_advisory_xact_lock(x'7461736b'::integer, 1)")


def upgrade(url: DatabaseURL) -> None:
    """Brings the database to this version's schema; one that is there already is left as it is.

    Raises:
        NotMigrated: its schema is of a version that this one does not know.
        DatabaseError: it cannot be reached, or refuses.
    """
    try:
        run(url, lambda config: command.upgrade(config, "head"))
    except CommandError as error:
        raise NotMigrated(NEWER_SCHEMA, cause=str(error)) from error


def run(url: DatabaseURL, do: Command) -> None:
    """Runs one of Alembic's commands in a transaction of its own, so that all of it happens, or nothing.

    Raises:
        DatabaseError: the database cannot be reached, or refuses.
    """
    with translated(), _refused():
        if isinstance(url, PostgresURL):
            asyncio.run(_run_on_postgres(url, do))
        else:
            _run_on_sqlite(url.path, do)


@contextmanager
def _refused() -> Generator[None]:
    """SQLAlchemy wraps what the driver raises. Here it is no bug: a role without the right to create tables, say."""
    try:
        yield
    except DBAPIError as error:
        raise DatabaseError("The database refuses; nothing was changed.", cause=str(error.orig)) from error


async def _run_on_postgres(url: PostgresURL, do: Command) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: postgres.connect(url), poolclass=NullPool
    )
    async with engine.begin() as connection:
        for statement in _ONE_AT_A_TIME:
            await connection.exec_driver_sql(statement)
        await connection.run_sync(_with_config, do)


def _run_on_sqlite(path: Path, do: Command) -> None:
    engine = create_engine("sqlite://", creator=lambda: sqlite.connect(path), poolclass=NullPool)
    with engine.connect() as connection:
        # The driver is in autocommit mode, and DDL of SQLite is transactional.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        _with_config(connection, do)
        connection.exec_driver_sql("COMMIT")


def _with_config(connection: Connection, do: Command) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    do(config)
