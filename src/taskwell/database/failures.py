"""What a driver's exceptions mean.

Drivers do not wrap what the network raises: a refused connection is an `OSError`, an unknown host a
`gaierror`, a slow one a `TimeoutError`, a bad certificate an `ssl.SSLError`. All of them, and what the database says of
itself, are a `DatabaseError` here. What it says of *our statement* is a bug, and goes up, without the user's data.
"""

import logging
import sqlite3
import ssl
from types import TracebackType

import asyncpg

from taskwell.errors import DatabaseError, NotMigrated, UnprocessableRequest

logger = logging.getLogger(__name__)

FAILURES: tuple[type[Exception], ...] = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    sqlite3.DatabaseError,
    OSError,
    TimeoutError,
)

# The connection is gone, or silent: what was sent may have been done or not. PgBouncer's own errors are of class 08, too.
LOST: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # What asyncpg says between a server's farewell and the end of the connection.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    OSError,
    TimeoutError,
)

# While connecting these will be the same the next time; anything else may be a server that is just waking or restarting.
PERMANENT: tuple[type[Exception], ...] = (
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    ssl.SSLCertVerificationError,
    FileNotFoundError,
)

_OUR_MISTAKES = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.SyntaxOrAccessError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
)


class _Translated:
    """Turns the failures of a driver into `DatabaseError`, in this one place."""

    def __enter__(self) -> None: ...

    # Not a generator, which each query would have to make anew.
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FAILURES):
            _raise_translated(error)


translated = _Translated()


def _raise_translated(error: Exception) -> None:
    if isinstance(error, asyncpg.UndefinedTableError) or _lacks_a_table(error):
        raise NotMigrated(cause=str(error)) from error
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        raise DatabaseError(cause=str(error)) from error
    if not isinstance(error, _OUR_MISTAKES):
        raise DatabaseError(cause=f"{type(error).__name__}: {error}") from error
    _forget_values(error)
    if _breaks_a_check(error):
        logger.error("A task breaks a rule of the database, and validation let it through", exc_info=error)
        raise UnprocessableRequest("The task breaks a rule of the database.") from error


def _lacks_a_table(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "no such table" in str(error)


def _forget_values(error: Exception) -> None:
    # A bug goes to the log, which is no place for them. PostgreSQL quotes the row in the detail, and in the message what is
    # no number, say.
    if isinstance(error, asyncpg.PostgresError):
        error.detail = None
    if isinstance(error, asyncpg.DataError):
        error.args = ("a value does not fit its type",)


def _breaks_a_check(error: Exception) -> bool:
    if isinstance(error, sqlite3.IntegrityError):
        return error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_CHECK
    return isinstance(error, asyncpg.CheckViolationError)
