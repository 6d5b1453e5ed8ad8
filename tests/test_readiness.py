"""A service whose database becomes unavailable and returns."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.process import Server, production, serving
from support.relay import Relay
from support.rows import execute
from taskwell.database.schema import FUNCTIONS_SCHEMA
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.migrations.runner import upgrade


@pytest.fixture
def database(new_database_url: Callable[[str], str]) -> str:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    return url


@contextmanager
def behind_a_relay(database: str, folder: Path) -> Iterator[tuple[Server, Relay]]:
    """A service that cannot reach its database until the relay is opened."""
    target = parse_database_url(database)
    assert isinstance(target, PostgresURL)
    login = f"{target.user}:{target.password or 'hunter2'}"
    with Relay(f"postgresql://{login}@{target.host}:{target.port}/{target.database}") as relay:
        relay.close()
        with serving(folder, **production(relay.url)) as server:
            yield server, relay


def wait_for_readiness(server: Server, status: int) -> dict[str, object]:
    """Waits until `/health/ready` has `status`, and returns its body."""
    deadline = time.monotonic() + 30
    while (response := server.http.get("/health/ready")).status_code != status:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)
    body: dict[str, object] = response.json()
    return body


def test_a_service_that_starts_before_its_database_connects_by_itself(database: str, tmp_path: Path) -> None:
    with behind_a_relay(database, tmp_path) as (server, relay):
        alice = server.client("alice")
        assert str(wait_for_readiness(server, 503)["detail"]).startswith("database: The database cannot be reached.")
        assert server.http.get("/health").status_code == 200
        failed = alice.request("GET")
        assert (failed.status_code, failed.json()["error_code"]) == (500, "DATABASE_ERROR")
        assert "hunter2" not in server.log.read_text()
        assert "WARNING" in server.log.read_text()
        relay.open()
        assert wait_for_readiness(server, 200)["database"] == "ok"
        alice.create()


def test_a_service_survives_an_outage_of_its_database(database: str, tmp_path: Path) -> None:
    with behind_a_relay(database, tmp_path) as (server, relay):
        alice = server.client("alice")
        relay.open()
        wait_for_readiness(server, 200)
        task = alice.create()
        relay.close()
        wait_for_readiness(server, 503)
        assert server.http.get("/health").status_code == 200
        relay.open()
        wait_for_readiness(server, 200)
        assert alice.request("GET", task["id"]).json() == task
        assert server.end() == 0
        assert "Traceback" not in server.log.read_text()


def test_a_service_goes_on_when_a_newer_version_has_migrated_the_database(database: str, tmp_path: Path) -> None:
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    with serving(tmp_path, **production(database)) as server:
        wait_for_readiness(server, 200)
        server.client("alice").create()


def test_a_service_whose_schema_is_changed_says_what_to_run(database: str, tmp_path: Path) -> None:
    with serving(tmp_path, **production(database)) as server:
        wait_for_readiness(server, 200)
        execute(database, "UPDATE alembic_version SET version_num = '9999'")
        execute(database, f"DROP SCHEMA {FUNCTIONS_SCHEMA} CASCADE")
        assert "Run the newer version" in str(wait_for_readiness(server, 503)["detail"])
        execute(database, "DELETE FROM alembic_version")
        assert "Run: taskwell migrate" in str(server.http.get("/health/ready").json()["detail"])


def test_a_database_that_never_replies_does_not_block_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app:hunter2@127.0.0.1:{silent.getsockname()[1]}/tasks"
        started = time.monotonic()
        with serving(tmp_path, **production(url)) as server:
            wait_for_readiness(server, 503)
            assert time.monotonic() - started < 30
            assert "hunter2" not in server.log.read_text()
