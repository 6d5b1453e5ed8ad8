"""Five writers, two readers and a stream, while the service and its database are killed at random moments."""

import os
import re
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

import httpx2
import pytest

from support.callers import Caller
from support.certificates import Authority
from support.changes import Copy
from support.followers import ChangesReader, ListReader, StreamReader
from support.killer import Killer
from support.ledger import Ledger
from support.pgbouncer import PgBouncer, find_program
from support.postgres import PostgresServer, find_binaries, find_system_binaries
from support.proc import IS_THERE
from support.restarted import RestartedService
from support.service import Client, Json
from support.writers import Writer
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade

SECONDS = float(os.environ.get("SURVIVAL_SECONDS", "20"))
WAIT_SECONDS = 180
WRITERS = 5

# What is acknowledged is on disk.
SYNCED = {"fsync": "on", "log_statement": "none"}

Report = Callable[[str, object], None]
T = TypeVar("T", bound=Caller)


@dataclass
class Database:
    """A migrated database, and its server and pooler, if it has them. They are of this test's own."""

    url: str
    server: PostgresServer | None = None
    pooler: PgBouncer | None = None


@pytest.fixture(params=["postgres", "pooler", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            found = Database(f"sqlite:///{tmp_path}/taskwell.db")
        else:
            found = _on_postgres(stack, pooled=request.param == "pooler")
        upgrade(parse_database_url(found.url))
        yield found


def _on_postgres(stack: ExitStack, *, pooled: bool) -> Database:
    binaries, program = find_system_binaries() if pooled else find_binaries(), find_program()
    if not binaries or (pooled and not program):
        pytest.skip("no PostgreSQL, or no PgBouncer before one with TLS (Debian: postgresql, pgbouncer)")
    authority = Authority() if pooled else None
    server = PostgresServer(binaries, authority, SYNCED)
    stack.callback(server.stop)
    server.wait_until_ready()
    if not (authority and program):
        return Database(server.url, server)
    pooler = PgBouncer(program, server, authority)
    stack.callback(pooler.stop)
    pooler.wait_until_ready()
    return Database(pooler.url, server, pooler)


class Run:
    """The clients, all of one user, each in a thread."""

    def __init__(self, service: RestartedService, seed: int, stack: ExitStack) -> None:
        self.ledger = Ledger()
        self._service = service
        self._seed = seed
        self._stack = stack
        self._writing, self._following = threading.Event(), threading.Event()
        self.writers = [self._caller(Writer, self._writing, number) for number in range(WRITERS)]
        self._changes = self._caller(ChangesReader, self._following)
        self._list = self._caller(ListReader, self._following)
        self._stream = self._caller(StreamReader, self._following)
        self.callers = [*self.writers, self._changes, self._list, self._stream]
        self._threads = stack.enter_context(ThreadPoolExecutor(len(self.callers)))
        self._running: list[Future[None]] = []
        stack.callback(self._following.set)
        stack.callback(self._writing.set)

    def _caller(self, kind: type[T], stop: threading.Event, number: int = 0) -> T:
        http = httpx2.Client(base_url=self._service.url, timeout=15, verify=False)
        client = Client(self._stack.enter_context(http), "alice")
        return kind(client, self.ledger, stop, Random(f"{self._seed} {kind.__name__} {number}"))  # noqa: S311 - no secret

    def check(self) -> None:
        """Raises what has gone wrong until now."""
        for one in self._running:
            if one.done():
                one.result()

    def during(self, work: Callable[[], None]) -> None:
        """Runs all clients during `work`. Then the writers stop, and the readers catch up."""
        self._running = [self._threads.submit(one.follow) for one in (self._changes, self._list, self._stream)]
        # Without a token, a stream begins now.
        self._wait_until(lambda: self._stream.has_begun)
        writing = [self._threads.submit(one.write, f"w{number}") for number, one in enumerate(self.writers)]
        self._running += writing
        work()
        self._writing.set()
        for one in writing:
            one.result()
        last = self.writers[0].write_last()
        # Whoever knows of it knows of all changes before it.
        self._wait_until(lambda: self._stream.revision >= last)
        self._following.set()
        for one in self._running:
            one.result()
        self._changes.sync()
        self._list.read()

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            self.check()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def faults(self) -> list[object]:
        """Returns what contradicts the promises."""
        client = self._changes.client
        rebuilt = Copy(client)
        rebuilt.sync()
        listed = [dict(task) for task in self._list.tasks]
        assert self._changes.copy.tasks == rebuilt.tasks, "/changes has missed something"
        assert self._stream.tasks == rebuilt.tasks, "the stream has missed something"
        assert listed == rebuilt.listed(), "the list is not that of /changes"
        trash = {task["id"]: task for task in pages(client, f"/api/{client.user}/trash")}
        assert trash.keys() == rebuilt.deleted.keys(), "the trash is not that of /changes"
        assert rebuilt.revision == self._stream.revision
        return self.ledger.faults(rebuilt.revision, rebuilt.tasks, trash)


def pages(client: Client, path: str) -> Iterator[Json]:
    """Yields the tasks of all pages of a list."""
    following: str | None = path
    while following:
        response = client.request("GET", following)
        assert response.status_code == 200, response.text
        yield from response.json()["tasks"]
        following = response.links.get("next", {}).get("url")


@pytest.mark.slow
@pytest.mark.skipif(not IS_THERE, reason="needs Linux's /proc to find the processes to kill")
def test_nothing_acknowledged_is_lost_or_happens_twice_whatever_is_killed(
    database: Database, tmp_path: Path, record_property: Report
) -> None:
    seed = int(os.environ.get("SURVIVAL_SEED", "0")) or secrets.randbits(32)
    print(f"SURVIVAL_SEED={seed}")  # noqa: T201 - shown when the test fails
    record_property("seed", seed)
    service = RestartedService(tmp_path, database.url)
    with ExitStack() as stack:
        stack.callback(service.kill_all_processes)
        run = Run(service, seed, stack)
        killer = Killer(service, database.server, database.pooler, Random(seed))  # noqa: S311 - no secret
        run.during(lambda: killer.kill_for(SECONDS, run.check))
        record_property("kills", dict(killer.kills))
        record_property("writes", dict(Counter(f"{one.kind} {one.fate}" for one in run.ledger.writes.values())))
        for caller in run.callers:
            record_property(type(caller).__name__, dict(caller.counts))
        assert run.faults() == []
        assert all(writer.revision for writer in run.writers), "a writer was never acknowledged"
    _check_log(service.log.read_text())


EXPECTED = re.compile(r"ERROR taskwell.server.workers worker process \d+ died with status -9; starting another")


def _check_log(log: str) -> None:
    assert "Traceback" not in log, log[max(0, log.index("Traceback") - 2000) :][:6000]
    errors = [line for line in log.splitlines() if " ERROR " in line or " CRITICAL " in line]
    assert [line for line in errors if not EXPECTED.search(line)] == []
