"""A database that sleeps, restarts or drops traffic: no write happens twice, and no acknowledged write is lost."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import asyncpg
import httpx2
import pytest

from support.problem import assert_problem
from support.process import production, serving
from support.relay import Relay, executes
from support.rows import execute
from support.service import Client, Json, Service, running, sign
from taskwell.database import pool
from taskwell.database.urls import parse_database_url
from taskwell.http.limits import REQUEST_SECONDS
from taskwell.migrations.runner import upgrade

POOL_MAX = 6

# Seconds by which a busy machine may exceed a promised time.
SLACK = 3

KILL_ALL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
CONNECTIONS = """
SELECT state FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass
class Faulty:
    """A service, its database, and the network between them."""

    service: Service
    relay: Relay
    database: str

    def wait_until_noticed(self) -> None:
        """Returns when the service has noticed that its idle connections are closed."""
        slots = self.service.state["tasks"]._get._pool._slots.idle
        deadline = time.monotonic() + 10
        while any(slot and not slot.driver.is_closed() for slot in slots):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def connections(self) -> list[str]:
        """The state of each connection on the database server."""
        return [str(state) for (state,) in execute(self.database, CONNECTIONS)]

    def settled_connections(self) -> list[str]:
        """The same, as soon as no statement runs and closed connections are gone; after 10 seconds in any case."""
        deadline = time.monotonic() + 10
        while ("active" in (states := self.connections()) or len(states) > POOL_MAX) and time.monotonic() < deadline:
            time.sleep(0.05)
        return states


@contextmanager
def behind_a_relay(database: str, **settings: str) -> Iterator[Faulty]:
    upgrade(parse_database_url(database))
    settings = {"TASKWELL_POOL_MAX": str(POOL_MAX)} | settings
    with (
        Relay(database) as relay,
        running("postgres", migrate=False, DATABASE_URL=relay.url, **settings) as service,
    ):
        yield Faulty(service, relay, database)


@pytest.fixture(scope="module")
def shared(new_database_url: Callable[[str], str]) -> Iterator[Faulty]:
    with behind_a_relay(new_database_url("postgres")) as faulty:
        yield faulty


@pytest.fixture
def faulty(shared: Faulty) -> Iterator[Faulty]:
    """One service for all tests. The network works again after each test, and connections that it broke are gone."""
    yield shared
    shared.relay.restore()
    shared.relay.open()
    assert len(shared.settled_connections()) <= POOL_MAX


def at_once(jobs: list[Callable[[], httpx2.Response]]) -> list[httpx2.Response]:
    with ThreadPoolExecutor(len(jobs)) as threads:
        return [one.result() for one in [threads.submit(job) for job in jobs]]


def one_of_each_endpoint(client: Client, task: Json, doomed: Json) -> list[Callable[[], httpx2.Response]]:
    return [
        lambda: client.request("GET"),
        lambda: client.request("POST", json={"title": "new"}),
        lambda: client.request("GET", task["id"]),
        lambda: client.request("PUT", task["id"], json={"title": "put", "complete": True}),
        lambda: client.request("PATCH", task["id"], json={"title": "patched"}),
        lambda: client.request("DELETE", doomed["id"]),
    ]


# --- connections that died while the service was idle


def _kill(faulty: Faulty) -> None:
    assert execute(faulty.database, KILL_ALL) != [(0,)]


@pytest.mark.parametrize(
    "fault",
    [_kill, lambda faulty: faulty.relay.cut(), lambda faulty: faulty.relay.reset()],
    ids=["kill", "cut", "reset"],
)
@pytest.mark.parametrize("endpoint", range(6), ids=["list", "create", "get", "replace", "patch", "delete"])
def test_the_first_request_after_all_connections_died_succeeds(
    faulty: Faulty, fault: Callable[[Faulty], None], endpoint: int
) -> None:
    clients = [faulty.service.client() for _ in range(POOL_MAX)]
    jobs = [one_of_each_endpoint(client, client.create(), client.create())[endpoint] for client in clients]
    at_once([lambda client=client: client.request("GET") for client in clients])  # type: ignore[misc]
    fault(faulty)
    faulty.wait_until_noticed()
    made = faulty.relay.connections_made
    assert {response.status_code for response in at_once(jobs)} <= {200, 201, 204}
    assert faulty.relay.connections_made - made <= POOL_MAX


def test_a_connection_that_was_idle_for_long_is_replaced(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    client = faulty.service.client()
    client.create()
    made = faulty.relay.connections_made
    client.create()
    assert faulty.relay.connections_made == made
    monkeypatch.setattr(pool, "MAX_IDLE_SECONDS", 0)
    client.create()
    assert faulty.relay.connections_made > made


# --- lost replies


@pytest.mark.parametrize("then", ["cut", "silence"])
def test_a_creation_whose_reply_is_lost_makes_one_task(
    faulty: Faulty,
    then: Literal["cut", "silence"],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = faulty.service.client()
    client.create("before")
    monkeypatch.setattr(pool, "TRUSTED_SECONDS", 0)
    lost = faulty.relay.swallow(lambda request: executes(request) and b"only once" in request, then=then)
    started = time.monotonic()
    task = client.create("only once")
    assert time.monotonic() - started < REQUEST_SECONDS
    assert lost.is_set()
    assert "running a statement again" in caplog.text
    assert client.titles() == ["only once", "before"]
    assert client.request("GET", task["id"]).json() == task


@pytest.mark.parametrize("then", ["cut", "silence"])
@pytest.mark.parametrize("path", ["", "{id}"])
def test_a_read_whose_reply_is_lost_is_repeated(
    faulty: Faulty, then: Literal["cut", "silence"], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = faulty.service.client()
    task = client.create()
    monkeypatch.setattr(pool, "TRUSTED_SECONDS", 0)
    lost = faulty.relay.swallow(then=then)
    response = client.request("GET", path.format(id=task["id"]))
    assert lost.is_set()
    assert (response.json().get("tasks") or [response.json()]) == [task]


@pytest.mark.parametrize("then", ["cut", "silence"])
@pytest.mark.parametrize(
    ("method", "body"), [("PUT", {"title": "b", "complete": True}), ("PATCH", {"title": "b"}), ("DELETE", None)]
)
def test_a_change_whose_reply_is_lost_gets_500_and_is_not_repeated(
    faulty: Faulty, then: Literal["cut", "silence"], method: str, body: Json | None
) -> None:
    client = faulty.service.client()
    task = client.create("a")
    lost = faulty.relay.swallow(then=then)
    started = time.monotonic()
    response = client.request(method, task["id"], json=body)
    assert time.monotonic() - started < REQUEST_SECONDS + SLACK
    assert lost.is_set()
    assert_problem(response, 500, "DATABASE_ERROR")
    assert int(response.headers["retry-after"]) > 0
    # It was done exactly once, and the service sees its result.
    assert execute(faulty.database, f"SELECT revision FROM owner WHERE user_id = '{client.user}'") == [(2,)]  # noqa: S608
    assert client.titles() == ([] if method == "DELETE" else ["b"])


@pytest.mark.parametrize("fault", ["reset", "silence"])
def test_connections_that_died_silently_fail_no_read_and_no_creation(
    faulty: Faulty, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [faulty.service.client() for _ in range(POOL_MAX)]
    tasks = at_once([lambda client=client: client.request("POST", json={"title": "a"}) for client in clients])  # type: ignore[misc]
    assert faulty.relay.connections_open > 1
    monkeypatch.setattr(pool, "TRUSTED_SECONDS", 0)
    faulty.relay.forget(silently=fault == "silence")
    responses = [clients[0].request("GET", tasks[0].json()["id"]) for _ in range(POOL_MAX)]
    responses += [clients[0].request("POST", json={"title": "b"})]
    assert {response.status_code for response in responses} <= {200, 201}


def test_a_slow_reply_is_awaited_on_the_same_connection(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    client = faulty.service.client()
    client.create()
    monkeypatch.setattr(pool, "SILENCE_SECONDS", 0.1)
    faulty.relay.delay(to_client=0.5)
    made = faulty.relay.connections_made
    assert client.titles() == ["Buy milk"]
    assert faulty.relay.connections_made == made


# --- a network that drops everything


def test_every_caller_of_an_unreachable_database_gets_a_response_by_the_deadline(faulty: Faulty) -> None:
    clients = [faulty.service.client() for _ in range(3 * POOL_MAX)]
    tasks = [client.create() for client in clients]
    faulty.relay.black_hole()
    started = time.monotonic()
    responses = at_once(
        [
            lambda client=client, task=task: client.request("PATCH", task["id"], json={"complete": True})  # type: ignore[misc]
            for client, task in zip(clients, tasks, strict=True)
        ]
    )
    assert time.monotonic() - started < REQUEST_SECONDS + SLACK
    assert faulty.service.http.get("/health").status_code == 200
    codes = {response.json()["error_code"] for response in responses}
    assert codes <= {"DATABASE_ERROR", "OVERLOADED"}
    assert all(int(response.headers["retry-after"]) > 0 for response in responses)
    faulty.relay.restore()
    recovered = time.monotonic()
    while clients[0].request("GET").status_code != 200:
        assert time.monotonic() - recovered < 10
    assert {client.request("GET").status_code for client in clients} == {200}
    assert len(faulty.settled_connections()) <= POOL_MAX


def test_a_service_stops_in_time_while_its_database_is_unreachable(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    with Relay(url) as relay, serving(tmp_path, **production(relay.url)) as server, ThreadPoolExecutor(5) as threads:
        client = server.client("alice")
        client.create()
        relay.black_hole()
        waiting = [threads.submit(client.request, "GET") for _ in range(5)]
        time.sleep(0.5)
        started = time.monotonic()
        assert server.end() == 0
        assert time.monotonic() - started < 10
        assert {one.result().status_code for one in waiting} <= {500, 503}
        assert "Traceback" not in server.log.read_text()


def test_requests_fail_at_once_when_an_outage_lasts(faulty: Faulty) -> None:
    client = faulty.service.client()
    client.create()
    faulty.relay.close()
    deadline = time.monotonic() + pool.OUTAGE_SECONDS + 2
    while time.monotonic() < deadline:
        assert client.request("GET").status_code == 500
    started = time.monotonic()
    responses = at_once([lambda: client.request("GET")] * 20)
    assert time.monotonic() - started < SLACK
    assert {response.json()["error_code"] for response in responses} == {"DATABASE_ERROR"}
    faulty.relay.open()
    assert client.request("GET").status_code == 200


# --- connections


def test_a_burst_opens_no_more_connections_than_the_maximum(faulty: Faulty) -> None:
    clients = [faulty.service.client() for _ in range(40)]
    faulty.relay.reset()
    made, most = faulty.relay.connections_made, 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, faulty.relay.connections_open)

    watcher = threading.Thread(target=watch)
    watcher.start()
    responses = at_once([lambda client=client: client.request("POST", json={"title": "a"}) for client in clients])  # type: ignore[misc]
    done.set()
    watcher.join()
    assert {response.status_code for response in responses} == {201}
    assert faulty.relay.connections_made - made <= POOL_MAX
    assert 0 < most <= POOL_MAX


def test_few_connections_are_opened_at_once_after_an_outage(new_database_url: Callable[[str], str]) -> None:
    many = 4 * pool.CONNECTING_AT_ONCE
    with behind_a_relay(new_database_url("postgres"), TASKWELL_POOL_MAX=str(many)) as faulty:
        clients = [faulty.service.client() for _ in range(many)]
        at_once([lambda client=client: client.request("GET") for client in clients])  # type: ignore[misc]
        faulty.relay.reset()
        faulty.wait_until_noticed()
        made = faulty.relay.connections_made
        faulty.relay.black_hole()
        with ThreadPoolExecutor(many) as threads:
            waiting = [threads.submit(client.request, "GET") for client in clients]
            time.sleep(1)
            assert 0 < faulty.relay.connections_made - made <= pool.CONNECTING_AT_ONCE
            faulty.relay.restore()
            assert {one.result().status_code for one in waiting} == {200}


def test_a_client_that_hangs_up_leaves_no_open_transaction(faulty: Faulty) -> None:
    client = faulty.service.client()
    task = client.create()
    address = urlsplit(faulty.service.url)
    head = (
        f"PATCH {client.home}/{task['id']} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n"
        'Content-Type: application/json\r\nContent-Length: 18\r\n\r\n{"complete": true}'
    )

    async def hang_up() -> None:
        holder = await asyncpg.connect(faulty.database)
        async with holder.transaction():
            await holder.execute("SELECT FROM taskwell.task WHERE id = $1 FOR UPDATE", task["id"])
            for _ in range(2 * POOL_MAX):
                with socket.create_connection((address.hostname, address.port)) as connection:
                    connection.sendall(head.encode())
                    await asyncio.sleep(0.05)
        await holder.close()

    asyncio.run(hang_up())
    assert client.request("GET", task["id"]).json()["complete"] is True
    connections = faulty.settled_connections()
    assert set(connections) == {"idle"}
    assert len(connections) <= POOL_MAX


def test_a_statement_is_cancelled_when_its_request_times_out(faulty: Faulty) -> None:
    client = faulty.service.client()
    task = client.create()

    async def outlast() -> None:
        holder = await asyncpg.connect(faulty.database)
        async with holder.transaction():
            await holder.execute("SELECT FROM taskwell.task WHERE id = $1 FOR UPDATE", task["id"])
            response = await asyncio.to_thread(client.request, "PATCH", task["id"], json={"title": "too late"})
            assert_problem(response, 500, "DATABASE_ERROR")
            await asyncio.sleep(0.5)
            states = await asyncio.to_thread(faulty.connections)
        await holder.close()
        assert states.count("active") == 0

    asyncio.run(outlast())
    assert client.titles() == ["Buy milk"]


def test_a_migration_that_changes_a_table_fails_no_request(new_database_url: Callable[[str], str]) -> None:
    with running("postgres", DATABASE_URL=new_database_url("postgres")) as service:
        client = service.client()
        task = client.create()
        assert client.request("GET", task["id"]).status_code == 200
        execute(service.url_of_database, "ALTER TABLE task ALTER COLUMN title TYPE varchar")
        assert client.request("GET", task["id"]).json() == task
        assert client.request("PATCH", task["id"], json={"title": "new"}).json()["title"] == "new"
