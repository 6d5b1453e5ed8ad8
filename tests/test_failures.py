"""When something breaks: the one shape, nothing internal in it, and the service goes on."""

import asyncio
import logging
import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from support.problem import assert_problem
from support.service import Client, Service, running, sign
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.server import protocol
from taskwell.server.run import OPTIONS

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def hasty(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """A service that waits a moment for a body, has one connection, and serves pages of one origin."""
    settings: dict[str, Any] = {
        "TASKWELL_BODY_TIMEOUT_SECONDS": "0.3",
        "TASKWELL_POOL_MAX": "1",
        "TASKWELL_CORS_ORIGINS": f"{ORIGIN}, http://localhost:3000",
    }
    with running("postgres", DATABASE_URL=new_database_url("postgres"), **settings) as service:
        yield service


def wait_until_logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The access log is written a tenth of a second at a time."""
    deadline = time.monotonic() + 5
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)


def begin_creation(service: Service, client: Client) -> socket.socket:
    """Sends the first half of a request."""
    address = urlsplit(service.url)
    head = (
        f"POST {client.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n"
        "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n"
    )
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(head.encode() + b'{"title":')
    return connection


def answer_on(connection: socket.socket) -> httpx2.Response:
    answer = HTTPResponse(connection)
    answer.begin()
    return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def test_a_body_that_does_not_come_is_408(hasty: Service) -> None:
    client = hasty.client()
    with begin_creation(hasty, client) as connection:
        problem = answer_on(connection)
    assert_problem(problem, 408, "REQUEST_TIMEOUT")
    assert problem.headers["connection"] == "close"
    assert client.titles() == []


def test_a_body_that_is_still_to_come_when_the_service_stops_is_408(
    monkeypatch: pytest.MonkeyPatch, new_database_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(OPTIONS, "timeout_graceful_shutdown", 0.3)
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        connection = begin_creation(service, service.client())
        # The service reads what came first before what came later, so now it waits for the body.
        assert service.http.get("/health").status_code == 200
    with connection:
        assert_problem(answer_on(connection), 408, "REQUEST_TIMEOUT")
    assert not [record for record in caplog.records if record.exc_info]


def test_a_client_that_hangs_up_leaves_no_trace(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    client = service.client()
    caplog.set_level(logging.INFO)
    begin_creation(service, client).close()
    wait_until_logged(" 499 ", caplog)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert client.titles() == []


def test_a_bug_is_told_to_the_log_and_to_nobody_else(
    new_database_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def list(self, owner: str, **options: object) -> None:
            raise RuntimeError("the canary of " + owner, options)

    settings: dict[str, Any] = {"TASKWELL_CORS_ORIGINS": ORIGIN}
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service:
        service.state["tasks"] = Broken()
        client = service.client()
        answer = client.request("GET", headers={"Origin": ORIGIN})
        again = client.request("GET")
    problem = assert_problem(answer, 500, "INTERNAL_ERROR")
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "canary" not in answer.text
    assert "connection" not in again.headers
    (record, _) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert problem["request_id"] in record.getMessage()
    assert "the canary" in str(record.exc_info)


def test_a_database_that_is_not_there_is_500_and_the_process_is_healthy() -> None:
    # Port 1 of the loopback interface: nobody listens there.
    with running("none", migrate=False, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing") as service:
        client = service.client()
        for method, path, body in (("GET", "", None), ("POST", "", {"title": "a"}), ("DELETE", "1", None)):
            answer = client.request(method, path, json=body)
            assert_problem(answer, 500, "DATABASE_ERROR")
            assert int(answer.headers["retry-after"]) > 0
            assert "127.0.0.1" not in answer.text
        assert service.http.get("/health").json()["status"] == "ok"
        problem = assert_problem(service.http.get("/health/ready"), 503, "DATABASE_ERROR")
        assert "database" in problem["detail"]


def test_a_role_without_rights_is_an_outage_and_no_bug(new_database_url: Callable[[str], str]) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    role = f"role_{uuid4().hex}"
    asyncio.run(_execute(url, f"CREATE ROLE {role} LOGIN"))
    theirs = urlsplit(url)._replace(netloc=f"{role}@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    with running("postgres", migrate=False, DATABASE_URL=theirs) as service:
        answer = service.client().request("GET")
    assert_problem(answer, 500, "DATABASE_ERROR")
    assert "task" not in answer.text


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


def test_a_locked_file_lets_readers_read_and_writers_wait_no_longer_than_told(
    new_database_url: Callable[[str], str],
) -> None:
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url) as service, ThreadPoolExecutor(5) as threads:
        client = service.client()
        client.create()
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        writers = [threads.submit(client.request, "POST", json={"title": "late"}) for _ in range(5)]
        time.sleep(0.2)
        started = time.monotonic()
        assert client.titles() == ["Buy milk"]
        assert service.http.get("/health/ready").status_code == 200
        assert time.monotonic() - started < 2
        answers = sorted(writer.result().json()["error_code"] for writer in writers)
        other.close()
        assert answers == ["DATABASE_ERROR", *["OVERLOADED"] * 4]
        assert client.create()


def test_a_connection_that_never_becomes_a_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, new_database_url: Callable[[str], str]
) -> None:
    monkeypatch.setattr(protocol, "REQUEST_SECONDS", 0.3)
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        address = urlsplit(service.url)
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection((address.hostname, address.port), timeout=3) as connection:
                connection.sendall(begun)
                while connection.recv(4096):
                    pass


def test_waiting_for_a_connection_ends_in_503(hasty: Service) -> None:
    blocked, other = hasty.client(), hasty.client()
    blocked.create()

    async def hold() -> None:
        """Holds the row that every write of the blocked user needs, until the other has been turned away."""
        connection = await asyncpg.connect(hasty.url_of_database)
        async with connection.transaction():
            await connection.execute("SELECT FROM taskwell.owner WHERE user_id = $1 FOR UPDATE", blocked.user)
            waiting = asyncio.to_thread(blocked.create, "late")
            writer = asyncio.ensure_future(waiting)
            await asyncio.sleep(0.2)
            answer, ready = await asyncio.gather(
                asyncio.to_thread(other.request, "GET"), asyncio.to_thread(hasty.http.get, "/health/ready")
            )
        assert assert_problem(ready, 503, "DATABASE_ERROR")["detail"] == "database: all connections are in use."
        assert_problem(answer, 503, "OVERLOADED")
        assert int(answer.headers["retry-after"]) > 0
        assert (await writer)["title"] == "late"
        await connection.close()

    asyncio.run(hold())
    assert other.titles() == []


def test_a_statement_that_hangs_ends_in_500_and_frees_its_connection(hasty: Service) -> None:
    blocked = hasty.client()
    blocked.create()

    async def hold() -> None:
        connection = await asyncpg.connect(hasty.url_of_database)
        async with connection.transaction():
            await connection.execute("SELECT FROM taskwell.owner WHERE user_id = $1 FOR UPDATE", blocked.user)
            answer = await asyncio.to_thread(blocked.request, "POST", json={"title": "late"})
        assert_problem(answer, 500, "DATABASE_ERROR")
        await connection.close()

    asyncio.run(hold())
    assert hasty.client().create()


# --- CORS


def test_a_page_of_a_configured_origin_may_call(hasty: Service) -> None:
    client = hasty.client()
    preflight = client.http.options(
        client.home,
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "PATCH",
            "Access-Control-Request-Headers": "authorization, content-type",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == ORIGIN
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    for answer in (
        client.request("GET", headers={"Origin": ORIGIN}),
        client.http.get(client.home, headers={"Origin": ORIGIN}),
    ):
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-ID" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"]
)
def test_no_other_page_may(hasty: Service, origin: str) -> None:
    answer = hasty.client().request("GET", headers={"Origin": origin})
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_a_preflight_is_granted_for_every_method(hasty: Service, method: str) -> None:
    asked = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    assert hasty.http.options(hasty.client().home, headers=asked).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"Origin": "https://evil.example"},
        {"Access-Control-Request-Method": "BREW"},
        {"Access-Control-Request-Headers": "x-evil"},
    ],
)
def test_a_preflight_that_is_refused_says_so_in_the_one_shape(hasty: Service, changes: dict[str, str]) -> None:
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", **changes}
    answer = hasty.http.options(hasty.client().home, headers=asked)
    assert_problem(answer, 400, "VALIDATION_ERROR")
    assert "Origin" in answer.headers["vary"]


def test_without_origins_there_is_no_cors(alice: Client) -> None:
    answer = alice.request("GET", headers={"Origin": ORIGIN})
    assert not [name for name in answer.headers if name.startswith("access-control")]


# --- the log


def test_the_log_tells_the_cause_and_never_the_token(alice: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    expired = sign(alice.user, exp=int(time.time()) - 100)
    answer = alice.request("GET", headers={"Authorization": f"Bearer {expired}"})
    alice.request("GET")
    assert f"request_id={answer.json()['request_id']} 401 AUTH_INVALID: expired:" in caplog.text
    wait_until_logged(f"GET {alice.home} 401", caplog)
    for part in expired.split("."):
        assert part[:-3] not in caplog.text


def test_a_burst_is_answered(alice: Client) -> None:
    with ThreadPoolExecutor(40) as threads:
        answers = [job.result() for job in [threads.submit(alice.request, "GET") for _ in range(200)]]
    assert {answer.status_code for answer in answers} == {200}
