"""When something breaks, the response has the shape of every error and no internals, and the service continues."""

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
from taskwell.server import protocol, run

ORIGIN = "https://app.example"


@pytest.fixture(scope="module")
def hasty(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """A service with a short timeout for bodies, one database connection, and two CORS origins."""
    settings: dict[str, Any] = {
        "TASKWELL_BODY_TIMEOUT_SECONDS": "0.3",
        "TASKWELL_POOL_MAX": "1",
        "TASKWELL_CORS_ORIGINS": f"{ORIGIN}, http://localhost:3000",
    }
    with running("postgres", DATABASE_URL=new_database_url("postgres"), **settings) as service:
        yield service


def wait_until_logged(text: str, caplog: pytest.LogCaptureFixture) -> None:
    """The access log is written every tenth of a second."""
    deadline = time.monotonic() + 5
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)


def start_creation(service: Service, client: Client) -> socket.socket:
    """Sends the first half of a request."""
    address = urlsplit(service.url)
    head = (
        f"POST {client.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n"
        "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n"
    )
    connection = socket.create_connection((address.hostname, address.port), timeout=10)
    connection.sendall(head.encode() + b'{"title":')
    return connection


def read_response(connection: socket.socket) -> httpx2.Response:
    response = HTTPResponse(connection)
    response.begin()
    return httpx2.Response(response.status, headers=response.getheaders(), content=response.read())


def test_a_body_that_does_not_arrive_gets_408(hasty: Service) -> None:
    client = hasty.client()
    with start_creation(hasty, client) as connection:
        problem = read_response(connection)
    assert_problem(problem, 408, "REQUEST_TIMEOUT")
    assert problem.headers["connection"] == "close"
    assert client.titles() == []


def test_a_body_still_missing_when_the_service_stops_gets_408(
    monkeypatch: pytest.MonkeyPatch, new_database_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "STOP_SECONDS", 0.3)
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        connection = start_creation(service, service.client())
        # The service reads what came first before what came later, so now it waits for the body.
        assert service.http.get("/health").status_code == 200
    with connection:
        assert_problem(read_response(connection), 408, "REQUEST_TIMEOUT")
    assert not [record for record in caplog.records if record.exc_info]


def test_a_client_that_disconnects_creates_no_task_and_logs_no_error(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    client = service.client()
    caplog.set_level(logging.INFO)
    start_creation(service, client).close()
    wait_until_logged(" 499 ", caplog)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert client.titles() == []


def test_a_bug_appears_in_the_log_and_not_in_the_response(
    new_database_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        async def list(self, owner: str, *arguments: object) -> None:
            raise RuntimeError("the canary of " + owner, arguments)

    settings: dict[str, Any] = {"TASKWELL_CORS_ORIGINS": ORIGIN}
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service:
        service.state["tasks"] = Broken()
        client = service.client()
        response = client.request("GET", headers={"Origin": ORIGIN})
        again = client.request("GET")
    problem = assert_problem(response, 500, "INTERNAL_ERROR")
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert "canary" not in response.text
    assert "connection" not in again.headers
    (record, _) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert problem["request_id"] in record.getMessage()
    assert "the canary" in str(record.exc_info)


def test_requests_get_500_while_the_database_is_down_and_the_process_stays_healthy() -> None:
    # Nothing listens on port 1 of the loopback interface.
    with running("none", migrate=False, DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing") as service:
        client = service.client()
        for method, path, body in (("GET", "", None), ("POST", "", {"title": "a"}), ("DELETE", "1", None)):
            response = client.request(method, path, json=body)
            assert_problem(response, 500, "DATABASE_ERROR")
            assert int(response.headers["retry-after"]) > 0
            assert "127.0.0.1" not in response.text
        assert service.http.get("/health").json()["status"] == "ok"
        problem = assert_problem(service.http.get("/health/ready"), 503, "DATABASE_ERROR")
        assert "database" in problem["detail"]


def test_missing_database_rights_count_as_an_outage_and_not_as_a_bug(new_database_url: Callable[[str], str]) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    role = f"role_{uuid4().hex}"
    asyncio.run(_execute(url, f"CREATE ROLE {role} LOGIN"))
    theirs = urlsplit(url)._replace(netloc=f"{role}@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    with running("postgres", migrate=False, DATABASE_URL=theirs) as service:
        response = service.client().request("GET")
    assert_problem(response, 500, "DATABASE_ERROR")
    assert "task" not in response.text


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(sql)
    await connection.close()


@pytest.mark.slow
def test_a_locked_sqlite_file_blocks_no_reader_and_writers_only_until_their_timeout(
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
        responses = {writer.result().json()["error_code"] for writer in writers}
        other.close()
        assert responses <= {"DATABASE_ERROR", "OVERLOADED"}
        # Nothing was written later for those who got an error.
        assert client.create("next")
        assert client.titles() == ["next", "Buy milk"]


def test_a_connection_without_a_complete_request_is_closed(
    monkeypatch: pytest.MonkeyPatch, new_database_url: Callable[[str], str]
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        address = urlsplit(service.url)
        for begun in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"):
            with socket.create_connection((address.hostname, address.port), timeout=3) as connection:
                connection.sendall(begun)
                while connection.recv(4096):
                    pass


def test_waiting_for_a_database_connection_ends_in_503(hasty: Service) -> None:
    blocked, other = hasty.client(), hasty.client()
    blocked.create()

    async def hold() -> None:
        """Locks the row that every write of the blocked user needs, until the other user has got a 503."""
        connection = await asyncpg.connect(hasty.url_of_database)
        async with connection.transaction():
            await connection.execute("SELECT FROM taskwell.owner WHERE user_id = $1 FOR UPDATE", blocked.user)
            waiting = asyncio.to_thread(blocked.create, "late")
            writer = asyncio.ensure_future(waiting)
            await asyncio.sleep(0.2)
            response, ready = await asyncio.gather(
                asyncio.to_thread(other.request, "GET"), asyncio.to_thread(hasty.http.get, "/health/ready")
            )
        assert assert_problem(ready, 503, "DATABASE_ERROR")["detail"] == "database: all connections are in use."
        assert_problem(response, 503, "OVERLOADED")
        assert int(response.headers["retry-after"]) > 0
        assert (await writer)["title"] == "late"
        await connection.close()

    asyncio.run(hold())
    assert other.titles() == []


@pytest.mark.slow
def test_a_statement_that_hangs_gets_500_and_frees_its_connection(hasty: Service) -> None:
    blocked = hasty.client()
    blocked.create()

    async def hold() -> None:
        connection = await asyncpg.connect(hasty.url_of_database)
        async with connection.transaction():
            await connection.execute("SELECT FROM taskwell.owner WHERE user_id = $1 FOR UPDATE", blocked.user)
            response = await asyncio.to_thread(blocked.request, "POST", json={"title": "late"})
        assert_problem(response, 500, "DATABASE_ERROR")
        await connection.close()

    asyncio.run(hold())
    assert hasty.client().create()


# --- CORS


def test_a_page_of_an_allowed_origin_may_call_the_api(hasty: Service) -> None:
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
    for response in (
        client.request("GET", headers={"Origin": ORIGIN}),
        client.http.get(client.home, headers={"Origin": ORIGIN}),
    ):
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "X-Request-ID" in response.headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"]
)
def test_pages_of_other_origins_may_not_call_the_api(hasty: Service, origin: str) -> None:
    response = hasty.client().request("GET", headers={"Origin": origin})
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_a_preflight_request_succeeds_for_every_method(hasty: Service, method: str) -> None:
    headers = {
        "Origin": ORIGIN,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization",
    }
    assert hasty.http.options(hasty.client().home, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"Origin": "https://evil.example"},
        {"Access-Control-Request-Method": "BREW"},
        {"Access-Control-Request-Headers": "x-evil"},
    ],
)
def test_a_refused_preflight_request_gets_an_ordinary_error(hasty: Service, changes: dict[str, str]) -> None:
    headers = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", **changes}
    response = hasty.http.options(hasty.client().home, headers=headers)
    assert_problem(response, 400, "VALIDATION_ERROR")
    assert "Origin" in response.headers["vary"]


def test_no_cors_headers_are_sent_without_allowed_origins(alice: Client) -> None:
    response = alice.request("GET", headers={"Origin": ORIGIN})
    assert not [name for name in response.headers if name.startswith("access-control")]


# --- the log


def test_the_log_has_the_cause_of_a_refusal_and_never_the_token(
    alice: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    expired = sign(alice.user, exp=int(time.time()) - 100)
    response = alice.request("GET", headers={"Authorization": f"Bearer {expired}"})
    alice.request("GET")
    name = f"request_id={response.json()['request_id']} client=127.0.0.1 GET {alice.home}"
    assert f"{name} 401 AUTH_INVALID: expired:" in caplog.text
    wait_until_logged(f"GET {alice.home} 401", caplog)
    for part in expired.split("."):
        assert part[:-3] not in caplog.text


def test_every_request_of_a_burst_succeeds(alice: Client) -> None:
    with ThreadPoolExecutor(40) as threads:
        responses = [job.result() for job in [threads.submit(alice.request, "GET") for _ in range(200)]]
    assert {response.status_code for response in responses} == {200}
