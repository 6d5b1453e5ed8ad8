"""PostgreSQL, through asyncpg."""

import ssl
from collections.abc import Coroutine, Sequence
from functools import cache, partial
from types import TracebackType
from typing import Literal, Self

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.base import Executable

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.failures import UnusableRootCertificate, translated
from taskwell.database.interface import (
    CompiledStatement,
    MaintenanceWrite,
    Query,
    Row,
    Write,
    compile_for_owner,
)
from taskwell.database.pool import Pool, PooledConnection
from taskwell.database.schema import FUNCTIONS_SCHEMA
from taskwell.database.urls import PostgresURL, SSLMode

CONNECT_SECONDS = 2

PreparedStatements = Literal["auto", "on", "off"]

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


async def connect(url: PostgresURL) -> asyncpg.Connection:
    """Opens a connection.

    Raises:
        DatabaseError: the server cannot be reached within two seconds, or refuses the connection.
    """
    with translated:
        return await _connect(url)


async def _connect(url: PostgresURL) -> asyncpg.Connection:
    return await asyncpg.connect(
        host=url.host,
        port=url.port,
        user=url.user,
        password=url.password,
        database=url.database,
        ssl=_tls(url),
        timeout=CONNECT_SECONDS,
        # asyncpg must not name statements by itself: behind a pooler, the next client would find that name.
        statement_cache_size=0,
        server_settings={"application_name": "taskwell"},
    )


@cache
def _tls(url: PostgresURL) -> ssl.SSLContext | SSLMode:
    """Returns how to encrypt the connection. asyncpg looks for authorities where libpq does; this uses the system's."""
    if url.sslmode not in ("verify-ca", "verify-full"):
        return url.sslmode
    try:
        context = ssl.create_default_context(cafile=url.sslrootcert)
    except OSError as error:
        # Python does not name the file.
        reason = error.strerror or str(error)
        raise UnusableRootCertificate(f"sslrootcert={url.sslrootcert} cannot be used: {reason}") from error
    context.check_hostname = url.sslmode == "verify-full"
    return context


async def _open(url: PostgresURL, prepared_statements: PreparedStatements, traffic: Traffic) -> PooledConnection:
    connection = await _connect(url)
    try:
        named = prepared_statements == "on" or (prepared_statements == "auto" and await keeps_names(url, connection))
    except BaseException:
        connection.terminate()
        raise
    return PooledConnection(connection, named=named, traffic=traffic)


async def keeps_names(url: PostgresURL, connection: asyncpg.Connection) -> bool:
    """Returns whether prepared statements keep their names between transactions: without a pooler, or with Neon's."""
    return url.is_neons or not (url.pgbouncer or await is_pooled(connection))


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Returns whether the connection leads through a pooler.

    A pooler gives clients its own process numbers, not the server's.
    """
    process = await connection.fetchval("SELECT pg_backend_pid()", timeout=CONNECT_SECONDS)
    return bool(process != connection.get_server_pid())


class PostgresDatabase:
    """The interface, on PostgreSQL."""

    def __init__(
        self, url: PostgresURL, *, pool_min: int, pool_max: int, prepared_statements: PreparedStatements
    ) -> None:
        self.traffic = Traffic()
        self._pool = Pool(partial(_open, url, prepared_statements, self.traffic), pool_min, pool_max, self.traffic)

    def pools(self) -> list[PoolUse]:
        """Returns the use of the pool."""
        return [self._pool.use()]

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.close()

    def prepare(self, statement: Executable) -> Query:
        """Compiles `statement` for PostgreSQL."""
        return _PostgresQuery(self._pool, compile_for_owner(statement, _DIALECT), repeatable=True)

    def prepare_write(self, write: Write) -> Query:
        """Prepares the call of the function."""
        return _PostgresQuery(self._pool, call_of(write), repeatable=write.repeatable)

    def prepare_maintenance(self, write: MaintenanceWrite) -> Query:
        """Prepares the call of the function."""
        return _PostgresQuery(self._pool, call_of(write), repeatable=False)


def call_of(write: Write | MaintenanceWrite) -> CompiledStatement:
    """Returns the statement that calls the function of `write`."""
    arguments = ", ".join(f"${number}" for number in range(1, len(write.parameters) + 1))
    call = f"SELECT * FROM {FUNCTIONS_SCHEMA}.{write.name}({arguments})"  # noqa: S608 - our own names
    return CompiledStatement(call, tuple(write.parameters))


class _PostgresQuery:
    def __init__(self, pool: Pool, statement: CompiledStatement, *, repeatable: bool) -> None:
        self._pool = pool
        self._statement = statement
        self._repeatable = repeatable

    def __call__(self, **parameters: object) -> Coroutine[object, object, Sequence[Row]]:
        arguments = self._statement.arguments(parameters)
        return self._pool.fetch(self._statement.sql, arguments, repeatable=self._repeatable)
