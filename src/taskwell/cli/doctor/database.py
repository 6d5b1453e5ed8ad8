"""Checks that the database can be reached safely, and that it has this version's schema."""

import sqlite3
import ssl
import time
from asyncio import Transport
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import asyncpg

from taskwell.app import database_from
from taskwell.cli.doctor.finding import Finding
from taskwell.database import postgres, sqlite
from taskwell.database.failures import UnusableRootCertificate, rejects_tls, translated
from taskwell.database.files import fault_behind, fault_of
from taskwell.database.interface import Database
from taskwell.database.urls import PostgresURL
from taskwell.errors import DatabaseRefused, NotMigrated, Problem
from taskwell.migrations import HEAD
from taskwell.migrations.check import check_schema, schema_revision
from taskwell.settings import Settings

_FULL = 2  # https://www.sqlite.org/pragma.html#pragma_synchronous

_NAMES_MIXED_UP = (
    "set TASKWELL_PREPARED_STATEMENTS to auto, unless the pooler tracks prepared statements (PgBouncer: "
    "max_prepared_statements) or is in session mode; otherwise, a query can get the result of another query"
)
_VERIFY = "add sslmode=verify-full to DATABASE_URL and, if you use your own certificate authority, sslrootcert=FILE"
_NOT_WAL = (
    "run: taskwell migrate (Taskwell has not used the file since it was created or restored; if this remains, "
    "move the file to a local disk, because its file system does not support WAL)"
)
_GRANT = (
    "grant the rights to the role in DATABASE_URL, as docs/operations.md shows, or use the role that owns the tables"
)
_NO_TLS = (
    "enable TLS on the server; only if nobody else can read the network to it, set sslmode=disable in DATABASE_URL"
)
_REMEDIES: dict[type[BaseException], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "correct the user and the password in DATABASE_URL",
    asyncpg.InvalidCatalogNameError: "create the database, or correct its name in DATABASE_URL",
    asyncpg.InsufficientPrivilegeError: _GRANT,
    DatabaseRefused: _GRANT,
    UnusableRootCertificate: "correct sslrootcert in DATABASE_URL; it must name a file of certificates in PEM format",
    ssl.SSLError: "correct the host in DATABASE_URL, or name the certificate authority with sslrootcert=FILE",
    FileNotFoundError: "start the server that owns the socket, or correct the host in DATABASE_URL",
    OSError: "start the server, or correct the host and the port in DATABASE_URL; a firewall may block the way",
}


async def examine_database(settings: Settings) -> AsyncIterator[Finding]:
    """Checks the database. Stops at the first failure, because the checks after it could not work."""
    url = settings.DATABASE_URL
    if isinstance(url, PostgresURL):
        findings = [finding async for finding in _postgres(settings, url)]
    else:
        findings = list(_sqlite(url.path))
    for finding in findings:
        yield finding
        if finding.mark == "fail":
            return
    # The check needs a single connection.
    yield await _schema(database_from(settings.model_copy(update={"TASKWELL_POOL_MIN": 0})))


async def _schema(database: Database) -> Finding:
    try:
        async with database:
            await check_schema(database.prepare(schema_revision))
    except NotMigrated as problem:
        return Finding("fail", "schema", str(problem.cause), problem.detail)
    except (Problem, asyncpg.PostgresError, sqlite3.Error) as problem:
        return Finding("fail", "schema", _reason(problem), _remedy(problem))
    return Finding("ok", "schema", f"revision {HEAD}, as this version requires")


async def _postgres(settings: Settings, url: PostgresURL) -> AsyncIterator[Finding]:
    place = f"{url.host}:{url.port}/{url.database} as {url.user}"
    began = time.perf_counter()
    try:
        connection = await postgres.connect(url)
        yield Finding("ok", "database", f"{_version(connection)} at {place}, in {time.perf_counter() - began:.2f} s")
    except (Problem, asyncpg.PostgresError) as problem:
        yield Finding("fail", "database", f"{place}: {_reason(problem)}", _remedy(problem))
        return
    try:
        with translated:
            route = await _route(settings, url, connection)
        yield route
        yield _encryption(connection)
    except Problem as problem:
        yield Finding("fail", "connection", _reason(problem), _remedy(problem))
    finally:
        connection.terminate()


def _reason(problem: Exception) -> str:
    return str(getattr(problem, "cause", None) or f"{type(problem).__name__}: {problem}")


def _remedy(problem: Exception) -> str:
    cause = problem.__cause__ or problem
    if rejects_tls(cause):
        return _NO_TLS
    return next((text for kind, text in _REMEDIES.items() if isinstance(cause, kind)), "see the database's log")


def _version(connection: asyncpg.Connection) -> str:
    version = connection.get_server_version()
    return f"PostgreSQL {version.major}.{version.micro}"  # the minor is 0 since PostgreSQL 10


async def _route(settings: Settings, url: PostgresURL, connection: asyncpg.Connection) -> Finding:
    if url.is_neons:
        route = "through Neon's pooler, which tracks prepared statements" if "-pooler." in url.host else "direct"
        return Finding("ok", "connection", route)
    if not (url.pgbouncer or await postgres.is_pooled(connection)):
        return Finding("ok", "connection", "direct, without a pooler")
    if settings.TASKWELL_PREPARED_STATEMENTS == "on":
        return Finding("warn", "connection", "through a pooler, with named statements", _NAMES_MIXED_UP)
    return Finding("ok", "connection", "through a pooler, with unnamed statements")


def _encryption(connection: asyncpg.Connection) -> Finding:
    # asyncpg does not expose it, and behind a pooler the server's pg_stat_ssl shows the pooler's connection.
    transport = cast("Transport", connection._transport)  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    state = f"{tls.version()}" if tls else "none"
    peer: str | tuple[str, int] = transport.get_extra_info("peername")  # a path for a Unix socket
    if isinstance(peer, str) or ip_address(peer[0]).is_loopback:
        return Finding("ok", "encryption", f"{state}; the server is on this machine")
    if tls is None:
        return Finding(
            "warn",
            "encryption",
            "none: anybody on the network path can read the data and pose as the database",
            _VERIFY,
        )
    if tls.context.verify_mode == ssl.CERT_NONE or not tls.context.check_hostname:
        return Finding(
            "warn",
            "encryption",
            f"{state}, but the certificate is not verified, so others can pose as the database",
            _VERIFY,
        )
    return Finding("ok", "encryption", f"{state}; certificate and host name are verified")


def _sqlite(path: Path) -> Iterator[Finding]:
    file = path.absolute()
    if fault := fault_of(file):
        yield Finding("fail", "database", *fault)
        return
    if not file.exists():
        remedy = "run: taskwell migrate (or, without settings: taskwell dev)"
        yield Finding("fail", "database", f"the file {file} does not exist", remedy)
        return
    yield Finding("ok", "database", f"SQLite {sqlite3.sqlite_version}, {file}, writable")
    yield _durability(file)


def _durability(file: Path) -> Finding:
    try:
        # Read only: the service would switch any file to WAL mode, and this one may belong to another program.
        mode = _pragma(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True), "journal_mode")
        if mode != "wal":
            return Finding("fail", "durability", f"the journal mode is {mode} instead of wal", _NOT_WAL)
        synchronous = _pragma(sqlite.connect(file), "synchronous")
    except sqlite3.DatabaseError as error:
        return Finding("fail", "durability", *fault_behind(error, file))
    except DatabaseRefused as error:
        return Finding("fail", "durability", _reason(error))
    if synchronous != _FULL:
        return Finding("fail", "durability", f"synchronous is {synchronous} instead of {_FULL}", "report this as a bug")
    return Finding("ok", "durability", "journal mode WAL, synchronous FULL")


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    with closing(connection):
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
