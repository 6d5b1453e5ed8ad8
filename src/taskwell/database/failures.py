"""Translates the exceptions of database drivers into errors of this service.

Drivers do not wrap network errors: a refused connection is an `OSError`, an unknown host a `gaierror`, a slow host a
`TimeoutError`, a bad certificate an `ssl.SSLError`. All of these, and errors about the database's own state, become a
`DatabaseError`. An error about *our statement* is a bug. It propagates, but without the user's data.
"""

import asyncio
import logging
import socket
import sqlite3
import ssl
from collections import Counter
from collections.abc import Awaitable
from types import TracebackType
from typing import Literal, TypeVar, get_args

import asyncpg

from taskwell.errors import TRY_AGAIN, DatabaseError, DatabaseRefused, NotMigrated, UnprocessableRequest

T = TypeVar("T")

logger = logging.getLogger(__name__)


class UnusableRootCertificate(OSError):
    """The file named by `sslrootcert` cannot be read, or contains no certificate."""


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
_LOST: tuple[type[Exception], ...] = (
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
    UnusableRootCertificate,
)

# The database cannot be reached, now or with this set-up. After other errors, it was reached.
_UNREACHABLE = (*_LOST, *PERMANENT)

_REFUSALS = (
    asyncpg.InsufficientPrivilegeError,
    # Class 0A000: a server that calls itself PostgreSQL, but does not support a statement of ours.
    asyncpg.FeatureNotSupportedError,
    # A standby, or a role with `default_transaction_read_only`.
    asyncpg.ReadOnlySQLTransactionError,
)
_REPORTED_AN_ERROR = f"The database reported an error. {TRY_AGAIN}"

_OUR_MISTAKES = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.SyntaxOrAccessError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
)


Kind = Literal["unreachable", "refused", "not_migrated", "reported", "bug"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds of errors; docs/telemetry.md describes them."""


class Translated:
    """A context manager that turns driver exceptions into `DatabaseError`, and counts them in `errors` by kind."""

    def __init__(self, errors: Counter[str] | None = None) -> None:
        self._errors = Counter[str]() if errors is None else errors

    def __enter__(self) -> None: ...

    # Not `contextlib.contextmanager`, which would create a generator for each query.
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FAILURES):
            self._count_and_raise(error)

    def _count_and_raise(self, error: Exception) -> None:
        kind = _kind(error)
        self._errors[kind] += 1
        _raise_translated(error, kind)


translated = Translated()
"""For commands, which do not count."""


def is_lost(error: Exception) -> bool:
    """Returns whether `error` means that the connection cannot be used any more.

    After an error with severity ERROR a connection is usable, whatever the SQLSTATE is (PostgreSQL documentation,
    "Error Message Fields"). Citus, for example, reports a lost worker node as 08006 on a connection that still works.
    """
    return isinstance(error, _LOST) and not _leaves_connection_usable(error)


def rejects_tls(error: BaseException) -> bool:
    """Returns whether the server does not support TLS. asyncpg has no exception type for this."""
    return isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)


def _kind(error: Exception) -> Kind:
    if isinstance(error, asyncpg.UndefinedTableError | asyncpg.InvalidSchemaNameError) or _is_undefined_table(error):
        return "not_migrated"
    if isinstance(error, _REFUSALS) or _is_read_only(error):
        return "refused"
    if isinstance(error, _OUR_MISTAKES):
        return "bug"
    if isinstance(error, _UNREACHABLE) and not _leaves_connection_usable(error):
        return "unreachable"
    return "reported"


def _raise_translated(error: Exception, kind: Kind) -> None:
    if kind == "not_migrated":
        raise NotMigrated(cause=str(error)) from error
    if kind == "refused":
        raise DatabaseRefused(cause=str(error)) from error
    if kind != "bug":
        detail = None if kind == "unreachable" else _REPORTED_AN_ERROR
        raise DatabaseError(detail, cause=_cause(error)) from error
    _remove_values(error)
    if _is_check_violation(error):
        logger.error("a task passed validation but violates a CHECK constraint", exc_info=error)
        raise UnprocessableRequest("The task violates a rule of the database.") from error


def _cause(error: Exception) -> str:
    if rejects_tls(error):
        return "the server does not support TLS, but sslmode requires it"
    if isinstance(error, UnusableRootCertificate):
        return str(error)
    if isinstance(error, socket.gaierror):
        return f"the host name cannot be resolved: {error.strerror}"
    if isinstance(error, TimeoutError) and not str(error):
        return "TimeoutError: no reply in time"
    return f"{type(error).__name__}: {error}"


def _leaves_connection_usable(error: Exception) -> bool:
    # PostgreSQL sends the severity in English and translated; PgBouncer may only send the second, in English.
    severity: object = getattr(error, "severity_en", None) or getattr(error, "severity", None)
    return isinstance(error, asyncpg.PostgresError) and severity == "ERROR"


def _is_read_only(error: Exception) -> bool:
    # Errors that Python itself raises have no code.
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


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


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Awaits `work` of the database, outside of a request, whose deadline would limit it.

    Raises:
        DatabaseError: it took longer than `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise DatabaseError(cause=f"no reply within {seconds} s") from None
