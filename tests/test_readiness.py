"""A service whose database comes and goes."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.process import Server, production, serving
from support.relay import Relay
from support.rows import execute
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.migrations.runner import upgrade


@pytest.fixture
def database(new_database_url: Callable[[str], str]) -> str:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    return url


@contextmanager
def behind_a_relay(database: str, folder: Path) -> Iterator[tuple[Server, Relay]]:
    """A service whose database cannot be reached until the relay is opened."""
    there = parse_database_url(database)
    assert isinstance(there, PostgresURL)
    login = f"{there.user}:{there.password or 'hunter2'}"
    with Relay(f"postgresql://{login}@{there.host}:{there.port}/{there.database}") as relay:
        relay.close()
        with serving(folder, **production(relay.url)) as server:
            yield server, relay


def becomes(server: Server, status: int) -> dict[str, object]:
    """The body of `/health/ready` once it has that status."""
    deadline = time.monotonic() + 30
    while (answer := server.http.get("/health/ready")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    body: dict[str, object] = answer.json()
    return body


def test_a_service_starts_before_its_database_and_finds_it_by_itself(database: str, tmp_path: Path) -> None:
    with behind_a_relay(database, tmp_path) as (server, relay):
        alice = server.client("alice")
        assert becomes(server, 503)["detail"] == "database: The database cannot be reached. Try again in a moment."
        assert server.http.get("/health").status_code == 200
        failed = alice.request("GET")
        assert (failed.status_code, failed.json()["error_code"]) == (500, "DATABASE_ERROR")
        assert "hunter2" not in server.log.read_text()
        assert "WARNING" in server.log.read_text()
        relay.open()
        assert becomes(server, 200)["database"] == "ok"
        alice.create()


def test_a_service_outlives_an_outage_of_its_database(database: str, tmp_path: Path) -> None:
    with behind_a_relay(database, tmp_path) as (server, relay):
        alice = server.client("alice")
        relay.open()
        becomes(server, 200)
        task = alice.create()
        relay.close()
        becomes(server, 503)
        assert server.http.get("/health").status_code == 200
        relay.open()
        becomes(server, 200)
        assert alice.request("GET", task["id"]).json() == task
        assert server.end() == 0
        assert "Traceback" not in server.log.read_text()


def test_a_service_that_finds_another_schema_later_says_what_to_run(database: str, tmp_path: Path) -> None:
    with serving(tmp_path, **production(database)) as server:
        becomes(server, 200)
        execute(database, "UPDATE alembic_version SET version_num = '9999'")
        assert "Run the newer version" in str(becomes(server, 503)["detail"])
        execute(database, "DELETE FROM alembic_version")
        assert "Run: taskwell migrate" in str(server.http.get("/health/ready").json()["detail"])


def test_a_hanging_database_does_not_hang_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app:hunter2@127.0.0.1:{silent.getsockname()[1]}/tasks"
        started = time.monotonic()
        with serving(tmp_path, **production(url)) as server:
            becomes(server, 503)
            assert time.monotonic() - started < 30
            assert "hunter2" not in server.log.read_text()
