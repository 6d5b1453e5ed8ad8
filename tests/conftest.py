"""Fixtures of every test: a database of each kind, a service on each, and its users.

A new user per test isolates the tests from each other, so all tests share a service and run in parallel.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from support import citus, servers
from support.servers import CITUS, server_of
from support.service import Client, Service, create_schema, running


def pytest_configure(config: pytest.Config) -> None:
    """Starts the database servers of this run, all at once, before there are any workers."""
    if not hasattr(config, "workerinput"):
        servers.start()


def pytest_xdist_auto_num_workers() -> int:
    """Returns two more than the number of cores, because many tests wait for a timeout or a process."""
    return (os.cpu_count() or 1) + 2


def pytest_unconfigure() -> None:
    """Stops them."""
    servers.stop()


@pytest.fixture(scope="session")
def new_database_url(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes an empty database of an engine and gives its URL."""

    def make(engine: str) -> str:
        if engine == "sqlite":
            path: Path = tmp_path_factory.mktemp("sqlite") / "taskwell.db"
            return f"sqlite:///{path}"
        maintenance = server_of(engine)["url"]
        name = f"test_{uuid4().hex}"
        if engine == "citus":
            return citus.new_database(maintenance, name)
        asyncio.run(_execute(maintenance, f'CREATE DATABASE "{name}"'))
        return urlsplit(maintenance)._replace(path=f"/{name}").geturl()

    return make


@pytest.fixture(scope="session")
def new_migrated_url(new_database_url: Callable[[str], str]) -> Callable[[str], str]:
    """The same of a database that has this version's schema."""

    def make(engine: str) -> str:
        url = new_database_url(engine)
        create_schema(engine, url)
        return url

    return make


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


# Not skipped, because Citus is not among what the tests need.
collect_ignore = [] if CITUS else ["test_citus.py"]

ENGINES = ["sqlite", "postgres", "postgres-pooler", *(["citus"] if CITUS else [])]


# The pooler is in front of the server with TLS, so these are also its version of PostgreSQL, and TLS. Modules that are
# about TLS or about connections name that server themselves.
@pytest.fixture(scope="session", params=ENGINES)
def service(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """The service, once on each kind of database."""
    with running(request.param, DATABASE_URL=new_database_url(request.param)) as service:
        yield service


@pytest.fixture
def alice(service: Service) -> Client:
    """A user that nobody has seen before."""
    return service.client()


@pytest.fixture
def mallory(service: Service) -> Client:
    """Another one."""
    return service.client()
