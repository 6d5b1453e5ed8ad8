"""PostgreSQL, through asyncpg and a small pool.

The pool is a stack of raw connections. asyncpg's own sends a reset query after each use, a second round trip for
statements that leave nothing to reset; see docs/adr/0001-one-statement-per-request.md.
"""

import asyncio
import ssl
from collections.abc import Sequence
from functools import cache
from types import TracebackType
from typing import Self

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.base import Executable

from taskwell.database.failures import translated
from taskwell.database.port import CompiledStatement, Query, Row, compile_statement
from taskwell.database.urls import PostgresURL, SSLMode
from taskwell.errors import DatabaseError, Overloaded

ACQUIRE_SECONDS = 2
CONNECT_SECONDS = 2
STATEMENT_SECONDS = 5

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


class Pool:
    """At most `maximum` connections, the one used last handed out first, so that the rest may be idle."""

    def __init__(self, url: PostgresURL, minimum: int, maximum: int) -> None:
        self._url = url
        self._minimum = minimum
        self._free = asyncio.Semaphore(maximum)
        self._idle: list[asyncpg.Connection] = []

    async def open(self) -> None:
        """Connects `minimum` times. A database that cannot be reached yet is no reason not to start."""
        attempts = [connect(self._url) for _ in range(self._minimum)]
        for result in await asyncio.gather(*attempts, return_exceptions=True):
            if not isinstance(result, BaseException):
                self._idle.append(result)
            elif not isinstance(result, DatabaseError):
                raise result

    async def close(self) -> None:
        """Closes the idle connections."""
        closing = [connection.close(timeout=CONNECT_SECONDS) for connection in self._idle]
        self._idle = []
        await asyncio.gather(*closing, return_exceptions=True)

    async def fetch(self, sql: str, arguments: Sequence[object]) -> Sequence[Row]:
        """Runs one statement on one connection.

        Raises:
            Overloaded: none became free within two seconds.
            DatabaseError: the database cannot be reached, failed, or did not answer within five seconds.
        """
        await self._wait_for_a_free_one()
        try:
            connection = self._take_idle() or await connect(self._url)
            try:
                with translated():
                    rows: list[asyncpg.Record] = await connection.fetch(sql, *arguments, timeout=STATEMENT_SECONDS)
            except BaseException:
                # Failed, timed out or cancelled: nobody knows what is still to come on this connection.
                connection.terminate()
                raise
            self._idle.append(connection)
            return rows
        finally:
            self._free.release()

    async def _wait_for_a_free_one(self) -> None:
        if not self._free.locked():
            await self._free.acquire()
            return
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise Overloaded(cause=f"no database connection became free within {ACQUIRE_SECONDS} s") from None

    def _take_idle(self) -> asyncpg.Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        return None


async def connect(url: PostgresURL) -> asyncpg.Connection:
    """A new connection.

    Raises:
        DatabaseError: it cannot be had within two seconds.
    """
    with translated():
        return await asyncpg.connect(
            host=url.host,
            port=url.port,
            user=url.user,
            password=url.password,
            database=url.database,
            ssl=_tls(url),
            timeout=CONNECT_SECONDS,
            server_settings={"application_name": "taskwell"},
        )


@cache
def _tls(url: PostgresURL) -> ssl.SSLContext | SSLMode:
    """How the connection is encrypted. asyncpg looks for certificates in a file of libpq's; the system has its own."""
    if url.sslmode not in ("verify-ca", "verify-full"):
        return url.sslmode
    context = ssl.create_default_context(cafile=url.sslrootcert)
    context.check_hostname = url.sslmode == "verify-full"
    return context


class PostgresDatabase:
    """The port on PostgreSQL."""

    def __init__(self, url: PostgresURL, *, pool_min: int, pool_max: int) -> None:
        self._pool = Pool(url, pool_min, pool_max)

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    def prepare(self, statement: Executable) -> Query:
        """Compiles `statement` for PostgreSQL."""
        return _PostgresQuery(self._pool, compile_statement(statement, _DIALECT))


class _PostgresQuery:
    def __init__(self, pool: Pool, statement: CompiledStatement) -> None:
        self._pool = pool
        self._statement = statement

    async def __call__(self, **parameters: object) -> Sequence[Row]:
        return await self._pool.fetch(self._statement.sql, self._statement.arguments(parameters))
