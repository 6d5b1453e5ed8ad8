"""Is the database there, the right one, and reached in a safe way?"""

import os
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
from taskwell.database.failures import translated
from taskwell.database.interface import Database
from taskwell.database.urls import PostgresURL
from taskwell.errors import NotMigrated, Problem
from taskwell.migrations import HEAD
from taskwell.migrations.check import check_schema, schema_revision
from taskwell.settings import Settings

_FULL = 2  # https://www.sqlite.org/pragma.html#pragma_synchronous

_NAMES_MIXED_UP = (
    "set TASKWELL_PREPARED_STATEMENTS to auto, unless the pooler keeps track of prepared statements (PgBouncer: "
    "max_prepared_statements) or pools by session; else queries get the answers of others"
)
_VERIFY = (
    "write sslmode=verify-full in DATABASE_URL; if its certificate is of your own authority, also sslrootcert=FILE"
)
_NOT_WAL = (
    "run: taskwell migrate (no Taskwell has used the file since it was made or restored; if it stays so, "
    "its file system cannot do better, and a local disk can)"
)
_REMEDIES: dict[type[BaseException], str] = {
    asyncpg.InvalidAuthorizationSpecificationError: "correct user and password in DATABASE_URL",
    asyncpg.InvalidCatalogNameError: "create the database, or correct its name in DATABASE_URL",
    asyncpg.InsufficientPrivilegeError: "grant the user of DATABASE_URL the right, or name the one who owns the tables",
    ssl.SSLError: "correct the host in DATABASE_URL, or name the authority of its certificate by sslrootcert=FILE",
    FileNotFoundError: "start the server whose socket it is, or correct what DATABASE_URL names as host or sslrootcert",
    OSError: "start the server, or correct host and port in DATABASE_URL; a firewall may stand between",
}


async def examine_database(settings: Settings) -> AsyncIterator[Finding]:
    """How the database is. What cannot be seen after a failure is not looked at."""
    url = settings.DATABASE_URL
    if isinstance(url, PostgresURL):
        findings = [finding async for finding in _postgres(settings, url)]
    else:
        findings = list(_sqlite(url.path))
    for finding in findings:
        yield finding
        if finding.mark == "fail":
            return
    # One connection is enough to look.
    yield await _schema(database_from(settings.model_copy(update={"TASKWELL_POOL_MIN": 0})))


async def _schema(database: Database) -> Finding:
    try:
        async with database:
            await check_schema(database.prepare(schema_revision))
    except NotMigrated as problem:
        return Finding("fail", "schema", str(problem.cause), problem.detail)
    except (Problem, asyncpg.PostgresError, sqlite3.Error) as problem:
        return Finding("fail", "schema", _reason(problem), _remedy(problem))
    return Finding("ok", "schema", f"revision {HEAD}, this version's")


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
            way = await _route(settings, url, connection)
        yield way
        yield _encryption(connection)
    except Problem as problem:
        yield Finding("fail", "connection", _reason(problem), _remedy(problem))
    finally:
        connection.terminate()


def _reason(problem: Exception) -> str:
    return str(getattr(problem, "cause", None) or f"{type(problem).__name__}: {problem}")


def _remedy(problem: Exception) -> str:
    cause = problem.__cause__ or problem
    return next((text for kind, text in _REMEDIES.items() if isinstance(cause, kind)), "the database's log says more")


def _version(connection: asyncpg.Connection) -> str:
    version = connection.get_server_version()
    return f"PostgreSQL {version.major}.{version.micro}"  # asyncpg's minor is 0 since there are but two numbers


async def _route(settings: Settings, url: PostgresURL, connection: asyncpg.Connection) -> Finding:
    if url.is_neons:
        way = "through Neon's pooler, which keeps track of prepared statements" if "-pooler." in url.host else "direct"
        return Finding("ok", "connection", way)
    if not (url.pgbouncer or await postgres.is_pooled(connection)):
        return Finding("ok", "connection", "direct, through no pooler")
    if settings.TASKWELL_PREPARED_STATEMENTS == "on":
        return Finding("warn", "connection", "through a pooler, with named statements", _NAMES_MIXED_UP)
    return Finding("ok", "connection", "through a pooler; statements are sent without a name")


def _encryption(connection: asyncpg.Connection) -> Finding:
    # asyncpg keeps it to itself, and the server's pg_stat_ssl knows only its own side of a pooler.
    transport = cast("Transport", connection._transport)  # type: ignore[attr-defined]  # noqa: SLF001  # pyright: ignore[reportAttributeAccessIssue]
    tls: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
    state = f"{tls.version()}" if tls else "none"
    peer: str | tuple[str, int] = transport.get_extra_info("peername")  # of a Unix socket its path
    if isinstance(peer, str) or ip_address(peer[0]).is_loopback:
        return Finding("ok", "encryption", f"{state}; the server is on this machine")
    if tls is None:
        return Finding(
            "warn", "encryption", "none: whoever is on the way reads along, and can be the database", _VERIFY
        )
    if tls.context.verify_mode == ssl.CERT_NONE or not tls.context.check_hostname:
        return Finding("warn", "encryption", f"{state}, but unverified: others can pose as the database", _VERIFY)
    return Finding("ok", "encryption", f"{state}, certificate and host name verified")


def _sqlite(path: Path) -> Iterator[Finding]:
    file = path.absolute()
    if not file.exists():
        yield Finding(
            "fail", "database", f"there is no file {file}", "run: taskwell migrate, or without settings: taskwell dev"
        )
        return
    # SQLite keeps two more files beside its own.
    if closed := [str(one) for one in (file, file.parent) if not os.access(one, os.W_OK)]:
        remedy = "the file and its folder must be writable by the user who serves"
        yield Finding("fail", "database", f"{' and '.join(closed)} cannot be written", remedy)
        return
    yield Finding("ok", "database", f"SQLite {sqlite3.sqlite_version}, {file}, writable")
    yield _durability(file)


def _durability(file: Path) -> Finding:
    try:
        # The service would put any file into WAL mode; whose this one is, is not known yet.
        mode = _pragma(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True), "journal_mode")
        if mode != "wal":
            return Finding("fail", "durability", f"journal mode is {mode}, not wal", _NOT_WAL)
        synchronous = _pragma(sqlite.connect(file), "synchronous")
    except sqlite3.Error as error:
        return Finding("fail", "durability", f"{error}", "name an SQLite database of Taskwell's in DATABASE_URL")
    if synchronous != _FULL:
        return Finding("fail", "durability", f"synchronous is {synchronous}, not {_FULL}", "report this as a bug")
    return Finding("ok", "durability", "journal mode WAL, synchronous FULL")


def _pragma(connection: sqlite3.Connection, name: str) -> object:
    with closing(connection):
        return connection.execute(f"PRAGMA {name}").fetchone()[0]
