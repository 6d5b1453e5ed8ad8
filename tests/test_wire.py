"""On the wire: request ids, framing, and bytes that are not HTTP."""

import asyncio
import logging
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Self, cast
from urllib.parse import urlsplit

import httpx2
import pytest

from support.problem import assert_problem
from support.service import Client, Service, running, sign
from taskwell.server import protocol
from taskwell.server.exchange import Exchange


@pytest.mark.parametrize("request_id", ["a", "A-b_c.9", "x" * 64])
def test_a_client_may_choose_the_request_id(alice: Client, request_id: str) -> None:
    assert alice.request("GET", headers={"X-Request-ID": request_id}).headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "a/b", "é", "a\tb"])
def test_a_request_id_of_another_form_is_replaced(alice: Client, request_id: str) -> None:
    headers = {"X-Request-ID": request_id.encode("latin-1")}
    assert len(alice.request("GET", headers=headers).headers["x-request-id"]) == 26


def _exchange(service: Service, request: bytes) -> httpx2.Response:
    """Sends these exact bytes and returns the response."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        response = HTTPResponse(connection)
        response.begin()
        return httpx2.Response(response.status, headers=response.getheaders(), content=response.read())


@pytest.mark.parametrize(
    "request_line",
    [b"BREW /health HTTP/1.1", b"GET /health HTTP/9.9", b"\x16\x03\x01\x02\x00", b"GET /health HTTP/1.1\r\nno header", b"POST /health HTTP/1.1\r\nContent-Length: x"],
)  # fmt: skip
def test_bytes_that_are_not_http_get_400(service: Service, request_line: bytes) -> None:
    assert_problem(_exchange(service, request_line + b"\r\nHost: x\r\n\r\n"), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("target", [b"/\xff", b"/api/\xfc/tasks", b"/health?q=\xfc", b"/\xc3\xbc", b"*", b"http://[/"])
def test_a_request_target_of_any_bytes_is_a_client_error(service: Service, target: bytes) -> None:
    response = _exchange(service, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert response.status_code < 500
    if response.status_code != 200:
        assert_problem(response, response.status_code, response.json()["error_code"])


def test_a_request_is_answered_even_if_bytes_that_are_not_http_follow_it(service: Service, alice: Client) -> None:
    request = (
        f"POST {alice.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(alice.user)}\r\n"
        'Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{"title":"done"}'
    )
    response = _exchange(service, request.encode() + b"JUNK\r\n\r\n")
    assert response.status_code == 201
    assert alice.titles() == ["done"]


def test_a_head_of_any_size_is_a_client_error(service: Service) -> None:
    response = _exchange(service, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"x" * 1_000_000 + b"\r\n")
    assert_problem(response, 400, "VALIDATION_ERROR")


def test_an_offer_to_upgrade_without_a_body_is_ignored(service: Service) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    response = _exchange(service, b"GET /health HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
    assert response.json()["status"] == "ok"


def _connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def _rest(connection: socket.socket) -> bytes:
    """Reads until the end of the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_a_client_that_half_closes_the_connection_gets_its_response(service: Service) -> None:
    """A client may close its side of the connection behind its request (RFC 9112, section 9.6)."""
    for _ in range(20):
        with _connect(service) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert _rest(connection).startswith(b"HTTP/1.1 200 OK\r\n")


class _Received(BytesIO):
    """The bytes of a connection, from which several `HTTPResponse`s read one after the other."""

    def makefile(self, mode: str) -> Self:
        del mode
        return self

    def close(self) -> None: ...


def _responses(received: bytes, method: str, number: int) -> Iterator[tuple[HTTPResponse, bytes]]:
    """Yields exactly `number` responses, each with its body."""
    stream = _Received(received)
    for _ in range(number):
        response = HTTPResponse(cast("socket.socket", stream), method=method)
        response.begin()
        yield response, response.read()
    assert stream.read() == b""


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/docs"])
def test_pipelined_requests_get_whole_responses_in_order(service: Service, method: str, path: str) -> None:
    one = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
    with _connect(service) as connection:
        connection.sendall(f"{one}\r\n{one}\r\n{one}Connection: close\r\n\r\n".encode())
        for response, body in _responses(_rest(connection), method, 3):
            assert response.status == 200
            assert len(body) == (0 if method == "HEAD" else int(response.headers["content-length"]))


def test_a_client_that_resets_its_connection_leaves_no_error_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    reset = struct.pack("ii", 1, 0)
    for _ in range(20):
        connection = _connect(service)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        # The response has begun.
        connection.recv(1)
        connection.close()
    assert service.http.get("/health").status_code == 200
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_head_is_limited_even_behind_a_body_that_came_after_its_response(service: Service) -> None:
    with _connect(service) as connection:
        connection.sendall(b"POST /api/a/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n")
        response = HTTPResponse(connection)
        response.begin()
        assert (response.status, bool(response.read())) == (401, True)
        connection.sendall(b'{"title":"e"}')
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with suppress(OSError):  # the service responds, and closes
            for number in range(40_000):
                connection.sendall(b"a%05d: %s\r\n" % (number, b"v" * 100))
            raise AssertionError("the service reads a head of 4 MB")


def test_a_broken_request_does_not_take_the_response_of_the_one_before_it(service: Service, alice: Client) -> None:
    body = b'{"title":"carried out"}'
    head = f"POST {alice.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(alice.user)}\r\nContent-Type: application/json\r\n"
    whole = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    broken = head.encode() + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n"
    for before in (1, 2):
        with _connect(service) as connection:
            connection.sendall(whole * before + broken)
            *created, (refused, problem) = _responses(_rest(connection), "POST", before + 1)
        assert [response.status for response, _ in created] == [201] * before
        assert (refused.status, refused.headers["connection"]) == (400, "close")
        assert b"VALIDATION_ERROR" in problem
    assert alice.titles() == ["carried out"] * 3


# --- offers of another protocol, framing, and what a client may claim


def _creation(client: Client, title: str, *headers: str, chunked: bool = False) -> tuple[bytes, bytes]:
    """Returns the head and the body of a request that creates a task."""
    body = f'{{"title":"{title}"}}'.encode()
    lines = [
        f"POST {client.home} HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {sign(client.user)}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode(), b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if chunked else body


LAST = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize("offer", ["h2c", "websocket", "TLS/1.0, foo"])
@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize("late", [False, True], ids=["in one packet", "body later"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(
    service: Service, alice: Client, offer: str, *, chunked: bool, late: bool
) -> None:
    head, body = _creation(
        alice, "upgraded", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {offer}", chunked=chunked
    )
    with _connect(service) as connection:
        if late:
            connection.sendall(head)
            for byte in (body[:4], body[4:]):
                time.sleep(0.05)
                connection.sendall(byte)
            connection.sendall(LAST)
        else:
            connection.sendall(head + body + LAST)
        statuses = [response.status for response, _ in _responses(_rest(connection), "POST", 2)]
    assert statuses == [201, 200]
    assert alice.titles() == ["upgraded"]


def test_the_body_behind_an_offer_to_upgrade_is_not_run_as_a_request(service: Service, alice: Client) -> None:
    smuggled = b"".join(_creation(alice, "smuggled"))
    head = f"POST {alice.home} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(smuggled)}\r\n\r\n"
    with _connect(service) as connection:
        connection.sendall(head.encode())
        time.sleep(0.05)
        connection.sendall(smuggled + LAST)
        statuses = [response.status for response, _ in _responses(_rest(connection), "POST", 2)]
    assert statuses == [401, 200]
    assert alice.titles() == []


@pytest.mark.parametrize(
    "head",
    [
        b"GET /health HTTP/1.1",
        b"GET /health HTTP/1.1\r\nHost: a\r\nHost: a",
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked",
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity",
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked, gzip",
        b"POST /health HTTP/1.0\r\nTransfer-Encoding: chunked",
        b"POST /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4",
        b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: +3",
        b"GET /health HTTP/1.1\r\nHost: x\r\n folded: y",
        b"GET /health HTTP/1.1\r\nHost : x",
        b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443",
        b"PRI * HTTP/2.0\r\n\r\nSM",
    ],
)
def test_a_request_that_two_servers_could_understand_differently_is_refused(service: Service, head: bytes) -> None:
    with _connect(service) as connection:
        connection.sendall(head + b"\r\n\r\n")
        ((response, body),) = _responses(_rest(connection), "POST", 1)
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert b"VALIDATION_ERROR" in body


def test_http_1_0_needs_no_host_and_gets_a_response_that_ends_with_the_connection(service: Service) -> None:
    with _connect(service) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        ((response, body),) = _responses(_rest(connection), "GET", 1)
    assert (response.status, response.headers["connection"], bool(body)) == (200, "close", True)


def test_a_client_that_half_closes_after_a_whole_request_gets_its_response(service: Service, alice: Client) -> None:
    with _connect(service) as connection:
        connection.sendall(b"".join(_creation(alice, "half-closed")))
        connection.shutdown(socket.SHUT_WR)
        assert _rest(connection).startswith(b"HTTP/1.1 201 Created\r\n")
    assert alice.titles() == ["half-closed"]


def test_a_client_that_waits_for_100_continue_gets_it_only_if_its_body_is_wanted(
    service: Service, alice: Client
) -> None:
    head, body = _creation(alice, "continued", "Expect: 100-Continue", "Connection: close")
    with _connect(service) as connection:
        connection.sendall(head)
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert _rest(connection).startswith(b"HTTP/1.1 201 Created\r\n")
    with _connect(service) as connection:
        connection.sendall(head.replace(b"Bearer ", b"Bearer x"))
        refused = connection.recv(1000)
        # The next byte could be the body, or the next request.
        assert refused.startswith(b"HTTP/1.1 401 ")
        assert b"connection: close" in refused


def _claim(connection: socket.socket, data: bytes, seconds: float) -> int:
    """Sends `data` again and again, and reads nothing. Returns how much the server took."""
    taken, end = 0, time.monotonic() + seconds
    connection.settimeout(1)
    with suppress(OSError):
        while time.monotonic() < end:
            taken += connection.send(data)
    return taken


def _memory_bytes() -> int:
    return int(re.findall(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024


MAX_CLAIM_BYTES = 20 * 1024 * 1024  # of the kernel's buffers on both sides, and ours


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured by Linux's /proc")
@pytest.mark.parametrize(
    ("start", "data"),
    [
        (b"", b"GET /api/x/tasks HTTP/1.1\r\nHost: x\r\n\r\n" * 100),
        (b"POST /api/x/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n", b"x" * 65536),
        (
            b"POST /api/x/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1000\r\n%b\r\n" % (b"x" * 4096),
        ),
        (b"JUNK\r\n\r\n", b"JUNK\r\n\r\n" * 1000),
    ],
    ids=["requests", "a body", "chunks", "junk"],
)
def test_a_client_that_sends_and_does_not_read_is_not_read_from(
    service: Service, caplog: pytest.LogCaptureFixture, start: bytes, data: bytes
) -> None:
    before = _memory_bytes()
    with _connect(service) as connection:
        connection.sendall(start)
        assert _claim(connection, data, 3) < MAX_CLAIM_BYTES
        # Other users notice nothing.
        assert service.client().create()
    assert _memory_bytes() - before < MAX_CLAIM_BYTES
    assert len([record for record in caplog.records if "not a valid HTTP" in record.getMessage()]) <= 1


def test_a_client_that_reads_nothing_is_let_go(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "_WATCH_SECONDS", 0.1)
    with _connect(service) as connection:
        _claim(connection, b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n", 3)
        with suppress(ConnectionError):
            _rest(connection)
        with pytest.raises(ConnectionError):
            connection.send(b"x")


def test_a_response_header_cannot_hold_a_line_break() -> None:
    class Connection:
        default_headers: ClassVar[list[tuple[bytes, bytes]]] = []
        is_last = False
        is_full = False

    scope = {"method": "GET", "http_version": "1.1"}
    exchange = Exchange(cast("Any", Connection()), scope, keep_alive=True, expects_continue=False)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"location", b"/\r\nset-cookie: a=b")]}
    with pytest.raises(RuntimeError, match="line break"):
        asyncio.run(exchange.send(start))


def test_the_end_of_a_body_that_did_not_fit_into_the_buffer_is_not_lost() -> None:
    class Connection:
        def body_was_read(self) -> None:
            # The connection waited with the rest, and now parses it at once.
            if not exchange.is_whole:
                exchange.add_body(b"the rest")
                exchange.end_body()

    exchange = Exchange(cast("Any", Connection()), {}, keep_alive=True, expects_continue=False)
    exchange.add_body(b"the beginning")

    async def read() -> list[tuple[bytes, bool]]:
        messages = [await exchange.receive(), await exchange.receive()]
        return [(message["body"], message["more_body"]) for message in messages]

    assert asyncio.run(read()) == [(b"the beginning", True), (b"the rest", False)]


def test_an_idle_connection_is_kept_for_the_time_of_the_setting_and_then_closed(
    new_database_url: Callable[[str], str],
) -> None:
    url = new_database_url("sqlite")
    with (
        running("sqlite", DATABASE_URL=url, TASKWELL_KEEP_ALIVE_SECONDS="1") as service,
        _connect(service) as connection,
    ):
        for _ in range(2):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
            idle_since = time.monotonic()
            time.sleep(0.5)
        assert connection.recv(1) == b""
        assert time.monotonic() - idle_since > 0.9
