"""The two databases of a copy, and the meaning of their failures.

The user knows a database by the option that named it, so every error message begins with that option.
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
from taskwell.migrations.check import check_schema, schema_revision


class CopyRefused(Exception):
    """Nothing was copied and the target is unchanged. The message says why, and what to do."""


class Side:
    """A database, in a transaction that has no effect until it is committed.

    Raises:
        CopyRefused: the role lacks a right, or a row does not fit.
        DatabaseError: the database failed.
    """

    def __init__(self, option: str, engine: Engine) -> None:
        self._option = option
        self._engine = engine

    async def page(self, table: Table, after: object, limit: int) -> Sequence[Values]:
        """Returns at most `limit` rows whose key is greater than `after`, in the order of the key."""
        refusal = f"{self._option} has a {table.name} after {after!r} that cannot be read"
        with named(self._option), _fitting(refusal, "Correct it there."):
            return await self._engine.fetch(engines.page(table), after=after, limit=limit)

    async def count(self, table: Table) -> int:
        with named(self._option):
            return await engines.number(self._engine, engines.count(table))

    async def highest_id(self) -> int:
        """Returns the highest id ever given to a task, also if that task is gone or was never committed."""
        with named(self._option):
            return await self._engine.highest_id()

    async def write(self, table: Table, rows: Sequence[Values]) -> None:
        first, last = (row[key_of(table)] for row in (rows[0], rows[-1]))
        refusal = f"{self._option} does not accept a {table.name} from {first!r} to {last!r} as --from has it"
        with named(self._option), _fitting(refusal, "Correct it in --from, or copy to a new database."):
            await self._engine.write(table, rows)

    async def commit(self, highest_id: int) -> None:
        """Commits, and makes the database give new tasks ids above `highest_id`."""
        with named(self._option):
            await self._engine.commit(highest_id)


@asynccontextmanager
async def opened(option: str, url: DatabaseURL, *, to_write: bool) -> AsyncGenerator[Side]:
    """Opens a database, which must have this version's schema."""
    async with AsyncExitStack() as stack:
        with named(option):
            engine = await stack.enter_async_context(engines.begun(url, to_write=to_write))

            async def query(**_: object) -> Sequence[Sequence[object]]:
                # Without the missing rights: they are those of the service, and a source need only be readable.
                return [tuple(row.values())[:1] for row in await engine.fetch(schema_revision)]

            await check_schema(query)
        yield Side(option, engine)


# --- failures


_UNFIT = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    sqlite3.DataError,
    sqlite3.IntegrityError,
)


@contextmanager
def named(option: str) -> Generator[None]:
    """Translates the failures of a database into errors whose messages begin with `option`."""
    try:
        with translated:
            yield
    except DatabaseError as failure:
        if isinstance(failure.__cause__, asyncpg.InsufficientPrivilegeError):
            raise CopyRefused(
                f"{option}: The role lacks a right ({failure.cause}). Nothing was changed. "
                "Name the role that owns the tables."
            ) from failure
        raise type(failure)(f"{option}: {failure.detail}", cause=failure.cause) from failure


@contextmanager
def _fitting(refusal: str, what_to_do: str) -> Generator[None]:
    """Refuses rows that break a rule of the database.

    Use it inside `named`, which would take such a row for a bug in the validation of a request.
    """
    try:
        yield
    except _UNFIT as error:
        # The first line of the database's own message. The other lines, and asyncpg's words, quote the row.
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise CopyRefused(f"{refusal} ({reason}). Nothing was changed. {what_to_do}") from error
