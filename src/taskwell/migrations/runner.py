"""Running Alembic's commands against a database that a URL names."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from taskwell.database import postgres, sqlite
from taskwell.database.failures import translated
from taskwell.database.urls import DatabaseURL, PostgresURL
from taskwell.errors import DatabaseError, NotMigrated
from taskwell.migrations import HEAD, NEWER_SCHEMA

WAIT_SECONDS = 600
POLL_SECONDS = 0.2

# Of the transaction, so that nothing stays behind on a pooler's connection. The first number is "task" in ASCII.
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(x'7461736b'::integer, 1)"

_STILL_LOCKED = (
    "Another migration, or what else has locked the database, has not ended for ten minutes; nothing was changed. "
    "See what it waits for, and run this again."
)
_REFUSED = "The database refuses; nothing was changed."
_NOT_OURS = (
    "The database has something of another program under a name that Taskwell needs; nothing was changed. "
    "Rename it there, or give Taskwell a database of its own."
)
_DETAILS: dict[type[Exception], str] = {
    asyncpg.LockNotAvailableError: "Another transaction holds what has to be changed; nothing was changed. "
    "Run this again, best when there is little traffic.",
    asyncpg.QueryCanceledError: "A step took longer than ten minutes, or was cancelled; nothing was changed.",
    asyncpg.InsufficientPrivilegeError: "The role may not do this; nothing was changed. "
    "Grant it the right, or let MIGRATION_DATABASE_URL name the role that owns the tables.",
    asyncpg.DuplicateTableError: _NOT_OURS,
    asyncpg.DuplicateFunctionError: _NOT_OURS,
    asyncpg.DuplicateObjectError: _NOT_OURS,
}

logger = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[Config], T]


def upgrade(url: DatabaseURL) -> bool:
    """Brings the database to this version's schema, and says whether there was anything to do.

    While another migration is under way it waits, ten minutes at most.

    Raises:
        NotMigrated: its schema is of a version that this one does not know.
        DatabaseError: it cannot be reached, or refuses.
    """
    try:
        return run(url, _to_head)
    except CommandError as error:
        raise NotMigrated(NEWER_SCHEMA, cause=str(error)) from error


def print_sql(url: DatabaseURL) -> None:
    """Prints what `upgrade` does to an empty database of this kind, without a look at this one."""
    dialect = "postgresql+asyncpg" if isinstance(url, PostgresURL) else "sqlite"
    command.upgrade(_config(dialect_name=dialect), "head", sql=True)


def run(url: DatabaseURL, do: Command[T]) -> T:
    """Runs one of Alembic's commands in a transaction of its own, so that all of it happens, or nothing.

    Raises:
        DatabaseError: the database cannot be reached, or refuses.
    """
    with translated, _refused():
        if isinstance(url, PostgresURL):
            return asyncio.run(_run_on_postgres(url, do))
        return _run_on_sqlite(url.path, do)


@contextmanager
def _refused() -> Generator[None]:
    """SQLAlchemy wraps what the driver raises. Here it is no bug: a role without the right to create tables, say."""
    try:
        yield
    except DBAPIError as error:
        reason = error.driver_exception
        # Who lost the connection does not know whether the commit got there.
        detail = None if error.connection_invalidated else _detail(reason)
        # Its first line; in the others PostgreSQL quotes rows.
        raise DatabaseError(detail, cause=str(reason).partition("\n")[0]) from error


def _detail(reason: Exception) -> str:
    if isinstance(reason, sqlite3.Error) and "already" in str(reason):
        return _NOT_OURS
    return next((detail for kind, detail in _DETAILS.items() if isinstance(reason, kind)), _REFUSED)


async def _run_on_postgres(url: PostgresURL, do: Command[T]) -> T:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: postgres.connect(url), poolclass=NullPool
    )
    async with engine.connect() as connection:
        return await connection.run_sync(_run_alone, _lock_postgres, do)


def _run_on_sqlite(path: Path, do: Command[T]) -> T:
    engine = create_engine("sqlite://", creator=lambda: sqlite.connect(path), poolclass=NullPool)
    with engine.connect() as connection:
        return _run_alone(connection, _lock_sqlite, do)


def _run_alone(connection: Connection, lock: Callable[[Connection], bool], do: Command[T]) -> T:
    """One migration at a time: a second one waits here, and then finds the work done."""
    _wait_for(lock, connection)
    result = do(_config(connection=connection))
    connection.commit()
    return result


def _wait_for(lock: Callable[[Connection], bool], connection: Connection) -> None:
    """Asks again and again: a statement that waits has a snapshot, and for those CREATE INDEX CONCURRENTLY waits."""
    if lock(connection):
        return
    logger.warning("The database is locked, most likely by another migration; waiting for it.")
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        connection.rollback()
        time.sleep(POLL_SECONDS)
        if lock(connection):
            return
    raise DatabaseError(_STILL_LOCKED)


def _lock_postgres(connection: Connection) -> bool:
    return bool(connection.exec_driver_sql(_TRY_LOCK).scalar_one())


def _lock_sqlite(connection: Connection) -> bool:
    try:
        # The driver is in autocommit mode, and DDL of SQLite is transactional.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _to_head(config: Config) -> bool:
    before = MigrationContext.configure(config.attributes["connection"]).get_current_revision()
    command.upgrade(config, "head")
    return before != HEAD


def _config(**attributes: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes.update(attributes)
    return config
