"""The two databases of a copy, and what their failures mean.

A side is known to the user by the option that named it, so that is how each failure names it, too.
"""

import sqlite3
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager

import asyncpg
from sqlalchemy import Table

from taskwell.cli.copy import engines
from taskwell.cli.copy.engines import Engine, Values, key_of
from taskwell.database.failures import translated
from taskwell.database.urls import DatabaseURL
from taskwell.errors import DatabaseError
from taskwell.migrations.check import check_schema


class CopyRefused(Exception):
    """Nothing was copied, and the target is as it was; the message says why, and what to do."""


class Side:
    """A database, in a transaction that comes to nothing unless it is committed.

    Raises:
        CopyRefused: the role may not do this, or a row does not fit.
        DatabaseError: it failed.
    """

    def __init__(self, option: str, engine: Engine) -> None:
        self._option = option
        self._engine = engine

    async def page(self, table: Table, after: object, limit: int) -> Sequence[Values]:
        """Rows in the order of the key, from the first that comes `after`."""
        refusal = f"{self._option} has a {table.name} after {after!r} that cannot be read"
        with _named(self._option), _fitting(refusal, "Correct it there."):
            return await self._engine.fetch(engines.page(table), after, limit)

    async def count(self, table: Table) -> int:
        with _named(self._option):
            return await engines.number(self._engine, engines.count(table))

    async def highest_id(self) -> int:
        """The highest that was ever given to a task, be it one that is gone, or that never came to be."""
        with _named(self._option):
            return await self._engine.highest_id()

    async def write(self, table: Table, rows: Sequence[Values]) -> None:
        first, last = (row[key_of(table)] for row in (rows[0], rows[-1]))
        refusal = f"{self._option} does not take a {table.name} among {first!r} to {last!r} as --from has it"
        with _named(self._option), _fitting(refusal, "Correct it in --from, or copy to a new database."):
            await self._engine.write(table, rows)

    async def commit(self, highest_id: int) -> None:
        """Keeps what was written, and from now on gives out ids above `highest_id`."""
        with _named(self._option):
            await self._engine.commit(highest_id)


@asynccontextmanager
async def opened(option: str, url: DatabaseURL, *, to_write: bool) -> AsyncGenerator[Side]:
    """One that has this version's schema."""
    async with AsyncExitStack() as stack:
        with _named(option):
            engine = await stack.enter_async_context(engines.begun(url, to_write=to_write))

            async def schema_revision(**_: object) -> Sequence[Sequence[object]]:
                return [tuple(row.values()) for row in await engine.fetch("SELECT version_num FROM alembic_version")]

            await check_schema(schema_revision)
        yield Side(option, engine)


# --- what fails


_UNFIT = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)


@contextmanager
def _named(option: str) -> Generator[None]:
    try:
        with translated:
            yield
    except DatabaseError as failure:
        if isinstance(failure.__cause__, asyncpg.InsufficientPrivilegeError):
            raise CopyRefused(
                f"{option}: The role may not do this ({failure.cause}). Nothing was changed. "
                "Name the role that owns the tables."
            ) from failure
        raise type(failure)(f"{option}: {failure.detail}", cause=failure.cause) from failure


@contextmanager
def _fitting(refusal: str, what_to_do: str) -> Generator[None]:
    """Inside of `_named`, to which a row that breaks a rule is a request's, and let through by a bug."""
    try:
        yield
    except _UNFIT as error:
        # Without the lines, and without asyncpg's own words, that quote the row.
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise CopyRefused(f"{refusal} ({reason}). Nothing was changed. {what_to_do}") from error
