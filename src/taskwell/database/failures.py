"""What a driver's exceptions mean.

Drivers do not wrap what the network raises: a refused connection is an `OSError`, an unknown host a
`gaierror`, a slow one a `TimeoutError`, a bad certificate an `ssl.SSLError`. All of them, and what the database says of
itself, are a `DatabaseError` here. What it says of *our statement* is a bug, and goes up unchanged.
"""

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

import asyncpg

from taskwell.errors import DatabaseError, NotMigrated

_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, sqlite3.DatabaseError, OSError, TimeoutError)

_OUR_MISTAKES = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.SyntaxOrAccessError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.ProgrammingError,
)


@contextmanager
def translated() -> Generator[None]:
    """Turns the failures of a driver into `DatabaseError`, in this one place."""
    try:
        yield
    except asyncpg.UndefinedTableError as error:
        raise NotMigrated(cause=str(error)) from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise DatabaseError(cause=str(error)) from error
    except _OUR_MISTAKES:
        raise
    except _FAILURES as error:
        if "no such table" in str(error):
            raise NotMigrated(cause=str(error)) from error
        raise DatabaseError(cause=f"{type(error).__name__}: {error}") from error
