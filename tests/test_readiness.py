"""A service whose database comes and goes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from process import Server, production, serving
from rows import execute
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.migrations.runner import upgrade


class Road:
    """A port of the loopback interface that leads to another one while it is open, and is closed otherwise."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._entrance: socket.socket | None = None
        self._ends: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def open(self) -> None:
        self._entrance = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=[self._entrance], daemon=True).start()

    def close(self) -> None:
        for end in [self._entrance, *self._ends]:
            if end:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._entrance, self._ends = None, []

    def _accept(self, entrance: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, far = entrance.accept()[0], socket.create_connection(self._target)
                self._ends += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=_carry, args=pair, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def database(new_database_url: Callable[[str], str]) -> str:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    return url


@contextmanager
def behind_a_road(database: str, folder: Path) -> Iterator[tuple[Server, Road]]:
    there = parse_database_url(database)
    assert isinstance(there, PostgresURL)
    road = Road((there.host, there.port))
    url = f"postgresql://{there.user}:{there.password or 'hunter2'}@127.0.0.1:{road.port}/{there.database}"
    try:
        with serving(folder, **production(url)) as server:
            yield server, road
    finally:
        road.close()


def becomes(server: Server, status: int) -> dict[str, object]:
    """The body of `/health/ready` once it has that status."""
    deadline = time.monotonic() + 30
    while (answer := server.http.get("/health/ready")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    body: dict[str, object] = answer.json()
    return body


def test_a_service_starts_before_its_database_and_finds_it_by_itself(database: str, tmp_path: Path) -> None:
    with behind_a_road(database, tmp_path) as (server, road):
        alice = server.client("alice")
        assert becomes(server, 503)["detail"] == "database: cannot be reached."
        assert server.http.get("/health").status_code == 200
        failed = alice.request("GET")
        assert (failed.status_code, failed.json()["error_code"]) == (500, "DATABASE_ERROR")
        assert "hunter2" not in server.log.read_text()
        assert "WARNING" in server.log.read_text()
        road.open()
        assert becomes(server, 200)["database"] == "ok"
        alice.create()


def test_a_service_outlives_an_outage_of_its_database(database: str, tmp_path: Path) -> None:
    with behind_a_road(database, tmp_path) as (server, road):
        alice = server.client("alice")
        road.open()
        becomes(server, 200)
        task = alice.create()
        road.close()
        becomes(server, 503)
        assert server.http.get("/health").status_code == 200
        road.open()
        becomes(server, 200)
        assert alice.request("GET", task["id"]).json() == task
        assert server.end() == 0
        assert "Traceback" not in server.log.read_text()


def test_a_service_that_finds_another_schema_later_says_what_to_run(database: str, tmp_path: Path) -> None:
    with serving(tmp_path, **production(database)) as server:
        becomes(server, 200)
        execute(database, "DELETE FROM alembic_version")
        assert "Run: taskwell migrate" in str(becomes(server, 503)["detail"])


def test_a_hanging_database_does_not_hang_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://app:hunter2@127.0.0.1:{silent.getsockname()[1]}/tasks"
        started = time.monotonic()
        with serving(tmp_path, **production(url)) as server:
            becomes(server, 503)
            assert time.monotonic() - started < 30
            assert "hunter2" not in server.log.read_text()
