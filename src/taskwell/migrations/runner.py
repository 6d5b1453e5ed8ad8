"""Run Alembic's commands on the database of a URL."""

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
from taskwell.database.schema import SCHEMA
from taskwell.database.urls import DatabaseURL, PostgresURL
from taskwell.errors import DatabaseError, NotMigrated
from taskwell.migrations import FOREIGN_REVISION, HEAD, distribution, why_not_migrated

WAIT_SECONDS = 600
POLL_SECONDS = 0.2

# Others wait while the tables are copied. The role's timeout is meant for requests.
_TIMEOUTS = ("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = 0")

# A lock of the transaction, so that none stays behind on a pooler's connection. The first number is "task" in ASCII.
_TRY_LOCK = "SELECT pg_try_advisory_xact_lock(x'7461736b'::integer, 1)"

_STILL_LOCKED = (
    "The database was locked for ten minutes, most likely by another migration; nothing was changed. "
    "Find out what that one waits for, and run this again."
)
_REFUSED = "The database refused; nothing was changed."
_NOT_OURS = (
    "The database already has an object with a name that Taskwell needs; nothing was changed. If it belongs to another "
    "program, rename it, or give Taskwell a database of its own. If it is Taskwell's, restore the table alembic_version."
)
_DETAILS: dict[type[Exception], str] = {
    asyncpg.LockNotAvailableError: "Another transaction holds a lock that the migration needs; nothing was changed. "
    "Run this again, preferably when there is little traffic.",
    asyncpg.QueryCanceledError: "A step took longer than ten minutes or was cancelled; nothing was changed.",
    asyncpg.InsufficientPrivilegeError: "The role lacks a right; nothing was changed. "
    "Grant it the right, or name the role that owns the tables in MIGRATION_DATABASE_URL.",
    asyncpg.DuplicateTableError: _NOT_OURS,
    asyncpg.DuplicateFunctionError: _NOT_OURS,
    asyncpg.DuplicateObjectError: _NOT_OURS,
}

logger = logging.getLogger(__name__)

T = TypeVar("T")
Command = Callable[[Config], T]


def upgrade(url: DatabaseURL) -> bool:
    """Brings the database to this version's schema. Returns False if it was there already.

    Waits at most ten minutes for another migration to end.

    Raises:
        NotMigrated: the version table holds a revision that this version does not know.
        DatabaseError: the database cannot be reached, or refuses.
    """
    try:
        return run(url, _to_head)
    except CommandError as error:
        raise NotMigrated(FOREIGN_REVISION, cause=str(error)) from error


def distribute(url: PostgresURL) -> bool:
    """Spreads the tables over the workers of a Citus cluster. Returns False if they are spread already.

    Raises:
        NotMigrated: the database does not have this version's schema.
        DatabaseError: the database has no Citus or no workers, cannot be reached, or refuses.
    """
    return run(url, _distribute)


def print_sql(url: DatabaseURL) -> None:
    """Prints the SQL that `upgrade` runs on an empty database of this kind. Does not connect."""
    dialect = "postgresql+asyncpg" if isinstance(url, PostgresURL) else "sqlite"
    command.upgrade(_config(dialect_name=dialect), "head", sql=True)


def run(url: DatabaseURL, do: Command[T]) -> T:
    """Runs one of Alembic's commands in a transaction of its own: all of it happens, or nothing.

    Raises:
        DatabaseError: the database cannot be reached, or refuses.
    """
    with translated, _refused():
        if isinstance(url, PostgresURL):
            return asyncio.run(_run_on_postgres(url, do))
        return _run_on_sqlite(url.path, do)


@contextmanager
def _refused() -> Generator[None]:
    """Unwraps SQLAlchemy's errors. Here they are not bugs: a role may lack the right to create tables, for example."""
    try:
        yield
    except DBAPIError as error:
        reason = error.driver_exception
        # After a lost connection nobody knows whether the commit arrived.
        detail = None if error.connection_invalidated else _detail(reason)
        # The first line only, because PostgreSQL quotes rows in the others.
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
    """Runs one migration at a time. A second one waits here, and then finds the work done."""
    _wait_for(lock, connection)
    result = do(_config(connection=connection))
    connection.commit()
    return result


def _wait_for(lock: Callable[[Connection], bool], connection: Connection) -> None:
    """Polls. A statement that waits for the lock holds a snapshot, and CREATE INDEX CONCURRENTLY waits for snapshots."""
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
        # The driver is in autocommit mode, and SQLite's DDL is transactional.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if getattr(error.orig, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


def _to_head(config: Config) -> bool:
    before = _revisions(config.attributes["connection"])
    if problem := why_not_migrated(before):
        raise NotMigrated(problem, cause=f"revision {before}")
    if before == [HEAD]:
        return False
    on_citus = _is_on_citus(config)
    if on_citus:
        distribution.use_one_connection(config.attributes["connection"])
    command.upgrade(config, "head")
    if on_citus:
        distribution.delegate_functions(config.attributes["connection"])
    return True


def _is_on_citus(config: Config) -> bool:
    connection: Connection = config.attributes["connection"]
    return connection.dialect.name == "postgresql" and distribution.is_distributed(connection)


def _distribute(config: Config) -> bool:
    connection: Connection = config.attributes["connection"]
    found = _revisions(connection)
    if found != [HEAD]:
        raise NotMigrated(why_not_migrated(found), cause=f"revision {found} instead of {HEAD}")
    if _is_on_citus(config):
        return False
    for timeout in _TIMEOUTS:
        connection.exec_driver_sql(timeout)
    distribution.distribute(connection)
    return True


def _revisions(connection: Connection) -> list[str]:
    options = {"version_table_schema": SCHEMA if connection.dialect.name == "postgresql" else None}
    return list(MigrationContext.configure(connection, opts=options).get_current_heads())


def _config(**attributes: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes.update(attributes)
    return config
