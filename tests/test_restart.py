"""A database server that crashes under traffic and is back a moment later."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx2
import pytest

from support.certificates import Authority
from support.pgbouncer import PgBouncer, find_program
from support.postgres import PostgresServer, find_binaries, find_system_binaries
from support.problem import assert_problem
from support.service import Client, Service, running

WRITERS = 8
SECONDS_BEFORE = 0.7
SECONDS_AWAY = 1
SECONDS_AFTER = 1.5

TITLES = "SELECT title, count(*) AS n FROM task WHERE user_id = '{}' GROUP BY title"


@dataclass
class Database:
    """A server of this test's own, and the URL by which the service reaches it."""

    server: PostgresServer
    url: str


@pytest.fixture(params=["direct", "pooler"])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    binaries, program = find_system_binaries(), find_program()
    if request.param == "direct":
        if not (binaries := find_binaries()):
            pytest.skip("no PostgreSQL")
        server = PostgresServer(binaries)
        server.wait_until_ready()
        yield Database(server, server.url)
    elif binaries and program:
        authority = Authority()
        server = PostgresServer(binaries, authority)
        server.wait_until_ready()
        pooler = PgBouncer(program, server, authority)
        pooler.wait_until_ready()
        yield Database(server, pooler.url)
        pooler.stop()
    else:
        pytest.skip("no PgBouncer before a PostgreSQL with TLS (Debian: postgresql, pgbouncer)")
    server.stop()


@dataclass
class Writer:
    """A client that keeps writing through errors, and records what it sent and what was acknowledged."""

    client: Client
    responses: list[tuple[float, str, httpx2.Response]] = field(default_factory=list)
    created: set[str] = field(default_factory=set)
    task_id: int = 0
    attempted: int = 0
    acknowledged: int = 0

    def write(self, stop: threading.Event) -> None:
        self.task_id = self.client.create("0")["id"]
        for number in itertools.count(1):
            if stop.is_set():
                return
            if self._send("POST", json={"title": f"task {number}"}).status_code == 201:
                self.created.add(f"task {number}")
            self.attempted = number
            if self._send("PATCH", self.task_id, json={"title": str(number)}).status_code == 200:
                self.acknowledged = number
            self._send("GET", self.task_id)

    def _send(self, method: str, path: int | str = "", **options: object) -> httpx2.Response:
        sent_at = time.monotonic()
        response = self.client.request(method, path, **options)
        self.responses.append((sent_at, method, response))
        return response


def test_a_database_restart_loses_no_write_repeats_none_and_leaves_no_errors_behind(
    database: Database, record_property: Callable[[str, object], None]
) -> None:
    with running("postgres", DATABASE_URL=database.url) as service, ThreadPoolExecutor(WRITERS) as threads:
        writers = [Writer(service.client()) for _ in range(WRITERS)]
        stop = threading.Event()
        writing = [threads.submit(writer.write, stop) for writer in writers]
        time.sleep(SECONDS_BEFORE)
        database.server.crash()
        time.sleep(SECONDS_AWAY)
        database.server.recover()
        _wait_until_ready(service)
        recovered_at = time.monotonic()
        time.sleep(SECONDS_AFTER)
        stop.set()
        for one in writing:
            one.result()
        responses = [response for writer in writers for response in writer.responses]
        failed = [response for _, _, response in responses if not response.is_success]
        record_property("requests", len(responses))
        record_property("failed", dict(Counter(response.json()["error_code"] for response in failed)))
        for response in failed:
            problem = assert_problem(response, response.status_code, response.json()["error_code"])
            assert (response.status_code, problem["error_code"]) in {(500, "DATABASE_ERROR"), (503, "OVERLOADED")}
            assert int(response.headers["retry-after"]) > 0
        assert [
            response.text for sent_at, _, response in responses if sent_at > recovered_at and not response.is_success
        ] == []
        assert [sent_at for sent_at, _, response in responses if sent_at > recovered_at]
        for writer in writers:
            found = Counter(writer.client.titles(limit=1000))
            assert writer.created <= found.keys(), "acknowledged, and lost"
            assert [title for title, times in found.items() if times > 1] == [], "doubled"
            title = writer.client.request("GET", writer.task_id).json()["title"]
            assert writer.acknowledged <= int(title) <= writer.attempted


def _wait_until_ready(service: Service) -> None:
    deadline = time.monotonic() + 60
    while service.http.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
