"""A database server that ends in the middle of traffic, and is back a moment later."""

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
    """A server of this test's own, and how the service reaches it."""

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
    """A client that goes on whatever it is told, and remembers what it asked for and what was acknowledged."""

    client: Client
    answers: list[tuple[float, str, httpx2.Response]] = field(default_factory=list)
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
        began = time.monotonic()
        answer = self.client.request(method, path, **options)
        self.answers.append((began, method, answer))
        return answer


def test_a_restart_loses_nothing_doubles_nothing_and_is_over_when_it_is_over(
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
        _becomes_ready(service)
        back = time.monotonic()
        time.sleep(SECONDS_AFTER)
        stop.set()
        for one in writing:
            one.result()
        answers = [answer for writer in writers for answer in writer.answers]
        failed = [answer for _, _, answer in answers if not answer.is_success]
        record_property("requests", len(answers))
        record_property("failed", dict(Counter(answer.json()["error_code"] for answer in failed)))
        for answer in failed:
            problem = assert_problem(answer, answer.status_code, answer.json()["error_code"])
            assert (answer.status_code, problem["error_code"]) in {(500, "DATABASE_ERROR"), (503, "OVERLOADED")}
            assert int(answer.headers["retry-after"]) > 0
        assert [answer.text for began, _, answer in answers if began > back and not answer.is_success] == []
        assert [began for began, _, answer in answers if began > back]
        for writer in writers:
            found = Counter(writer.client.titles(limit=1000))
            assert writer.created <= found.keys(), "acknowledged, and lost"
            assert [title for title, times in found.items() if times > 1] == [], "doubled"
            title = writer.client.request("GET", writer.task_id).json()["title"]
            assert writer.acknowledged <= int(title) <= writer.attempted


def _becomes_ready(service: Service) -> None:
    deadline = time.monotonic() + 20
    while service.http.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
