"""Overload: requests beyond the maximum in flight are shed at once, and no others are."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

import asyncpg
import pytest

from support.problem import assert_problem
from support.service import Client, Json, Service, running, sign
from taskwell.server.protocol import PAUSE_SECONDS

MAX_IN_FLIGHT = 3


@pytest.fixture
def narrow(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """A service that serves three requests at once, though it has connections for more."""
    url = new_database_url("postgres")
    with running("postgres", DATABASE_URL=url, TASKWELL_MAX_IN_FLIGHT=str(MAX_IN_FLIGHT)) as service:
        yield service


@asynccontextmanager
async def blocked(service: Service, client: Client) -> AsyncIterator[None]:
    """Locks the row that every write of the client's user needs."""
    connection = await asyncpg.connect(service.url_of_database)
    async with connection.transaction():
        await connection.execute("SELECT FROM taskwell.owner WHERE user_id = $1 FOR UPDATE", client.user)
        yield
    await connection.close()


async def fill(service: Service, client: Client) -> "list[asyncio.Task[Json]]":
    """Sends as many requests as the service serves at once; they wait for the locked row."""
    taken = [asyncio.create_task(asyncio.to_thread(client.create, str(number))) for number in range(MAX_IN_FLIGHT)]
    await _wait_until_full(service)
    return taken


async def _wait_until_full(service: Service) -> None:
    """Waits until each of the requests waits for the row's lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    connection = await asyncpg.connect(service.url_of_database)
    deadline = time.monotonic() + 5
    while await connection.fetchval(waiting) < MAX_IN_FLIGHT:
        assert time.monotonic() < deadline
    await connection.close()


def test_requests_beyond_the_maximum_are_shed_at_once_and_the_others_are_served(narrow: Service) -> None:
    client, other = narrow.client(), narrow.client()
    client.create("first")

    async def main() -> None:
        async with blocked(narrow, client):
            taken = await fill(narrow, client)
            for method, path, body in (("GET", "", None), ("POST", "", {"title": "no"}), ("DELETE", "1", None)):
                started = time.monotonic()
                answer = await asyncio.to_thread(other.request, method, path, json=body)
                assert time.monotonic() - started < 2
                assert_problem(answer, 503, "OVERLOADED")
                assert int(answer.headers["retry-after"]) > 0
            assert_problem(await asyncio.to_thread(narrow.http.get, other.home), 401, "AUTH_MISSING")
            # Requests that are not about tasks are not shed.
            assert (await asyncio.to_thread(narrow.http.get, "/health")).status_code == 200
            assert (await asyncio.to_thread(narrow.http.get, "/health/ready")).status_code == 200
        assert {(await task)["title"] for task in taken} == {"0", "1", "2"}

    asyncio.run(main())
    assert other.titles() == []
    assert len(client.titles()) == 1 + MAX_IN_FLIGHT


def test_a_client_whose_request_was_shed_and_that_retries_at_once_waits_a_moment(narrow: Service) -> None:
    client = narrow.client()
    client.create("first")
    address = urlsplit(narrow.url)

    def ask(connection: socket.socket) -> tuple[int, float]:
        started = time.monotonic()
        connection.sendall(
            f"GET {client.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n\r\n".encode()
        )
        answer = HTTPResponse(connection)
        answer.begin()
        answer.read()
        return answer.status, time.monotonic() - started

    async def main() -> None:
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            async with blocked(narrow, client):
                taken = await fill(narrow, client)
                first, again = [await asyncio.to_thread(ask, connection) for _ in range(2)]
            await asyncio.gather(*taken)
            later = await asyncio.to_thread(ask, connection)
        assert [first[0], again[0], later[0]] == [503, 503, 200]
        assert again[1] > PAUSE_SECONDS / 2

    asyncio.run(main())


def test_slow_uploads_do_not_keep_others_out(narrow: Service) -> None:
    client = narrow.client()
    address = urlsplit(narrow.url)
    head = (
        f"POST {client.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n"
        "Content-Type: application/json\r\nContent-Length: 17\r\n\r\n"
    )
    uploads = [socket.create_connection((address.hostname, address.port), timeout=10) for _ in range(20)]
    for upload in uploads:
        upload.sendall(head.encode() + b'{"title":')
    with ThreadPoolExecutor(MAX_IN_FLIGHT) as threads:
        assert [one["title"] for one in threads.map(client.create, ["a"] * 20)] == ["a"] * 20
    for upload in uploads:
        upload.sendall(b' "slow"')
        upload.sendall(b"}")
        answer = HTTPResponse(upload)
        answer.begin()
        assert answer.status == 201
        answer.read()
        upload.close()


def test_the_log_has_one_line_for_all_shed_requests(narrow: Service, caplog: pytest.LogCaptureFixture) -> None:
    client = narrow.client()
    client.create("first")

    async def main() -> None:
        async with blocked(narrow, client):
            taken = await fill(narrow, client)
            for _ in range(4):
                assert (await asyncio.to_thread(client.request, "GET")).status_code == 503
        await asyncio.gather(*taken)
        await asyncio.sleep(1.1)

    asyncio.run(main())
    lines = [record.getMessage() for record in caplog.records if record.name == "taskwell.problems"]
    assert lines == [f"shed 4 requests: {MAX_IN_FLIGHT} were in flight, the maximum"]


def test_a_burst_loses_no_request_and_serves_none_twice(narrow: Service) -> None:
    """Each request is either served or shed, and the next one after the burst is served."""
    client = narrow.client()
    with ThreadPoolExecutor(30) as threads:
        jobs = [threads.submit(client.request, "POST", json={"title": str(number)}) for number in range(150)]
        answers = [job.result() for job in jobs]
    assert {answer.status_code for answer in answers} == {201, 503}
    done = [answer.json()["title"] for answer in answers if answer.status_code == 201]
    assert sorted(client.titles()) == sorted(done)
    assert client.create()
