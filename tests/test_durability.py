"""Acknowledged writes survive, however the process ends."""

import itertools
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from support.process import Server, production, serving
from support.racing import Call, race
from support.rows import execute
from support.service import Client, Json, sign
from taskwell.database import sqlite
from taskwell.database.urls import SQLiteURL, parse_database_url
from taskwell.migrations.runner import upgrade

SECONDS_BEFORE_THE_KILL = 1.5
USERS = ("alice", "bob")
WRITERS_OF_EACH = 2

INCONSISTENT = """
SELECT owner.user_id, count(*), count(DISTINCT task.revision), max(task.revision), owner.revision
FROM task JOIN owner ON owner.user_id = task.user_id GROUP BY owner.user_id, owner.revision
HAVING count(*) <> count(DISTINCT task.revision) OR max(task.revision) > owner.revision
"""


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> str:
    url = new_database_url(request.param)
    upgrade(parse_database_url(url))
    return url


@dataclass
class Writer:
    """A client that writes until the service is gone, and records every acknowledged result."""

    client: Client
    requests: int = 0
    acknowledged: int = 0
    tasks: dict[int, Json] = field(default_factory=dict)
    deleted: set[int] = field(default_factory=set)
    in_flight: tuple[str, int | str, Json | None] = ("", "", None)

    def write(self) -> None:
        try:
            for number in itertools.count():
                self._create(number)
                self._create(number)
                self._patch(number, min(self.tasks))
                self._patch(number, max(self.tasks))
                self._delete(sorted(self.tasks)[len(self.tasks) // 2])
        except httpx2.TransportError:
            pass

    def _send(self, method: str, path: int | str, json: Json | None) -> httpx2.Response:
        self.requests += 1
        self.in_flight = (method, path, json)
        response = self.client.request(method, path, json=json)
        assert response.is_success, response.text
        self.acknowledged += 1
        self.in_flight = ("", "", None)
        return response

    def _create(self, number: int) -> None:
        task = self._send("POST", "", {"title": f"task {number}", "description": "as sent"}).json()
        self.tasks[task["id"]] = task

    def _patch(self, number: int, task_id: int) -> None:
        self.tasks[task_id] = self._send("PATCH", task_id, {"title": f"changed {number}", "complete": True}).json()

    def _delete(self, task_id: int) -> None:
        self._send("DELETE", task_id, None)
        del self.tasks[task_id]
        self.deleted.add(task_id)

    def lost(self, found: dict[int, Json]) -> list[object]:
        """Returns acknowledged writes that `found` contradicts. The one write in flight may have happened or not."""
        method, path, changes = self.in_flight
        lost: list[object] = [*(self.deleted & found.keys())]
        for task_id, task in self.tasks.items():
            now = found.get(task_id)
            if task_id == path:
                allowed = [None] if method == "DELETE" else [task["title"], (changes or {})["title"]]
                if (now and now["title"]) not in allowed and now != task:
                    lost.append((task, now))
            elif now != task:
                lost.append((task, now))
        return lost


def all_tasks(client: Client) -> dict[int, Json]:
    found: dict[int, Json] = {}
    while page := client.request("GET", params={"offset": len(found)}).json()["tasks"]:
        found |= {task["id"]: task for task in page}
    return found


def write_until_killed(server: Server) -> list[Writer]:
    writers = [Writer(server.client(user)) for user in USERS for _ in range(WRITERS_OF_EACH)]
    with ThreadPoolExecutor(len(writers)) as pool:
        running = [pool.submit(writer.write) for writer in writers]
        time.sleep(SECONDS_BEFORE_THE_KILL)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    for one in running:
        one.result()
    return writers


def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    database: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with serving(tmp_path, **production(database)) as server:
        writers = write_until_killed(server)
    with serving(tmp_path, **production(database)) as server:
        found = {user: all_tasks(server.client(user)) for user in USERS}
    lost = [one for writer in writers for one in writer.lost(found[writer.client.user])]
    record_property("requests", sum(writer.requests for writer in writers))
    record_property("acknowledged", sum(writer.acknowledged for writer in writers))
    record_property("lost", len(lost))
    assert lost == []
    assert all(writer.acknowledged for writer in writers)
    extra = sum(len(tasks) for tasks in found.values()) - sum(len(writer.tasks) for writer in writers)
    assert extra <= len(writers)
    assert execute(database, INCONSISTENT) == []


def test_sqlite_writes_to_disk_before_it_acknowledges(new_database_url: Callable[[str], str]) -> None:
    url = parse_database_url(new_database_url("sqlite"))
    assert isinstance(url, SQLiteURL)
    with closing(sqlite.connect(url.path)) as connection:
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.slow
def test_an_idempotency_key_survives_the_sudden_death_of_the_service(database: str, tmp_path: Path) -> None:
    def calls(server: Server, key: str, count: int) -> list[Call]:
        return [Call(server.client("alice"), "POST", "", {"title": "a"}, {"Idempotency-Key": key})] * count

    with serving(tmp_path, **production(database)) as server:
        (first,) = race(calls(server, "k", 1))
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
    with serving(tmp_path, "serve", "--workers", "2", **production(database)) as server:
        (again,) = race(calls(server, "k", 1))
        races = [race(calls(server, f"race-{number}", 16)) for number in range(5)]
        found = all_tasks(server.client("alice"))
    assert (first.status_code, again.status_code, again.json()) == (201, 201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    for responses in races:
        assert {response.status_code for response in responses} == {201}
        assert len({response.content for response in responses}) == 1
        assert len([one for one in responses if "idempotency-replayed" not in one.headers]) == 1
    assert found == {task["id"]: task for task in (one[0].json() for one in ([first], *races))}
    assert execute(database, "SELECT revision FROM owner") == [(6,)]


BODY = b'{"title": "Buy milk"}'


def _half_a_request(server: Server) -> socket.socket:
    """Sends a request without the last byte of its body. The service has read the head, as it asked for the body."""
    url = httpx2.URL(server.url)
    connection = socket.create_connection((url.host, url.port or 80), timeout=15)
    head = (
        "POST /api/alice/tasks HTTP/1.1\r\nHost: taskwell\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {sign('alice')}\r\nContent-Length: {len(BODY)}\r\nExpect: 100-continue\r\n\r\n"
    )
    connection.sendall(head.encode())
    assert connection.recv(1024).startswith(b"HTTP/1.1 100 ")
    connection.sendall(BODY[:-1])
    return connection


def test_requests_in_flight_are_completed_when_the_service_is_told_to_stop(database: str, tmp_path: Path) -> None:
    with serving(tmp_path, **production(database)) as server:
        connections = [_half_a_request(server) for _ in range(10)]
        ending = threading.Thread(target=server.end)
        ending.start()
        while "Shutting down" not in server.log.read_text():
            time.sleep(0.02)
        for connection in connections:
            connection.sendall(BODY[-1:])
        responses = [connection.recv(4096) for connection in connections]
        ending.join()
        for connection in connections:
            connection.close()
        assert server.process.returncode == 0
        assert "Traceback" not in server.log.read_text()
    assert [response[:12] for response in responses] == [b"HTTP/1.1 201"] * len(connections)
    assert execute(database, "SELECT count(*) FROM task") == [(len(connections),)]
