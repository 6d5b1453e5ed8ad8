"""Translates the exceptions of database drivers into errors of this service.

Drivers do not wrap network errors: a refused connection is an `OSError`, an unknown host a `gaierror`, a slow host a
`TimeoutError`, a bad certificate an `ssl.SSLError`. All of these, and errors about the database's own state, become a
`DatabaseError`. An error about *our statement* is a bug. It propagates, but without the user's data.
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

# The connection is closed or silent, so nobody knows whether the statement was executed. PgBouncer's own errors also have
# class 08.
LOST: tuple[type[Exception], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # asyncpg raises this after the server announces its shutdown and before the connection is closed.
    asyncpg.InternalClientError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    OSError,
    TimeoutError,
)

# Connecting again after one of these would fail in the same way. After any other error, the server may just be waking up or
# restarting.
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
    """A context manager that turns driver exceptions into `DatabaseError`."""

    def __enter__(self) -> None: ...

    # Not `contextlib.contextmanager`, which would create a generator for each query.
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FAILURES):
            _raise_translated(error)


translated = _Translated()


def _raise_translated(error: Exception) -> None:
    if isinstance(error, asyncpg.UndefinedTableError) or _is_undefined_table(error):
        raise NotMigrated(cause=str(error)) from error
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        raise DatabaseError(cause=str(error)) from error
    if not isinstance(error, _OUR_MISTAKES):
        raise DatabaseError(cause=f"{type(error).__name__}: {error}") from error
    _remove_values(error)
    if _is_check_violation(error):
        logger.error("a task passed validation but violates a CHECK constraint", exc_info=error)
        raise UnprocessableRequest("The task violates a rule of the database.") from error


def _is_undefined_table(error: Exception) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "no such table" in str(error)


def _remove_values(error: Exception) -> None:
    # Bugs are logged, and the log must not contain user data. PostgreSQL quotes the row in the detail, and in the message
    # a value of the wrong type.
    if isinstance(error, asyncpg.PostgresError):
        error.detail = None
    if isinstance(error, asyncpg.DataError):
        error.args = ("a value does not fit its type",)


def _is_check_violation(error: Exception) -> bool:
    if isinstance(error, sqlite3.IntegrityError):
        return error.sqlite_errorcode == sqlite3.SQLITE_CONSTRAINT_CHECK
    return isinstance(error, asyncpg.CheckViolationError)
