"""What goes over the wire: the forms of an error, request ids, and bytes that are no HTTP."""

import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from io import BytesIO
from typing import Self, cast
from urllib.parse import urlsplit

import httpx2
import pytest

from support.problem import assert_problem
from support.service import Client, Service, sign


@pytest.mark.parametrize(
    "accept", ["application/problem+json", "text/html, application/problem+json;q=0.9", "APPLICATION/PROBLEM+JSON"]
)
def test_problem_details_are_given_to_who_asks_for_them(alice: Client, accept: str) -> None:
    answer = alice.request("GET", 0, headers={"Accept": accept})
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["title"], body["type"], body["error_code"]) == (
        404,
        "Not Found",
        "about:blank",
        "NOT_FOUND",
    )
    assert body["instance"].endswith(body["request_id"])


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "application/problem+json;q=0", "application/problem+jsonx", "\xff"]
)
def test_problem_details_are_given_to_nobody_else(alice: Client, accept: str) -> None:
    assert_problem(alice.request("GET", 0, headers={"Accept": accept.encode("latin-1")}), 404, "NOT_FOUND")


@pytest.mark.parametrize("request_id", ["a", "A-b_c.9", "x" * 64])
def test_a_request_may_bring_its_own_id(alice: Client, request_id: str) -> None:
    assert alice.request("GET", headers={"X-Request-ID": request_id}).headers["x-request-id"] == request_id


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a b", "a/b", "é", "a\tb"])
def test_an_unacceptable_id_is_replaced(alice: Client, request_id: str) -> None:
    headers = {"X-Request-ID": request_id.encode("latin-1")}
    assert len(alice.request("GET", headers=headers).headers["x-request-id"]) == 26


def _exchange(service: Service, request: bytes) -> httpx2.Response:
    """What the service answers to these very bytes."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@pytest.mark.parametrize(
    "request_line",
    [b"BREW /health HTTP/1.1", b"GET /health HTTP/9.9", b"\x16\x03\x01\x02\x00", b"GET /health HTTP/1.1\r\nno header", b"POST /health HTTP/1.1\r\nContent-Length: x"],
)  # fmt: skip
def test_what_is_no_http_is_400(service: Service, request_line: bytes) -> None:
    assert_problem(_exchange(service, request_line + b"\r\nHost: x\r\n\r\n"), 400, "VALIDATION_ERROR")


@pytest.mark.parametrize("target", [b"/\xff", b"/api/\xfc/tasks", b"/health?q=\xfc", b"/\xc3\xbc", b"*", b"http://[/"])
def test_a_request_target_of_any_bytes_is_a_client_error(service: Service, target: bytes) -> None:
    answer = _exchange(service, b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.status_code < 500
    if answer.status_code != 200:
        assert_problem(answer, answer.status_code, answer.json()["error_code"])


def test_a_request_that_was_carried_out_is_answered_whatever_follows_it(service: Service, alice: Client) -> None:
    request = (
        f"POST {alice.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(alice.user)}\r\n"
        'Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{"title":"done"}'
    )
    answer = _exchange(service, request.encode() + b"JUNK\r\n\r\n")
    assert answer.status_code == 201
    assert alice.titles() == ["done"]


def test_a_head_of_any_size_is_a_client_error(service: Service) -> None:
    answer = _exchange(service, b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"x" * 1_000_000 + b"\r\n")
    assert_problem(answer, 400, "VALIDATION_ERROR")


def test_a_request_to_change_protocols_is_answered_as_http(service: Service) -> None:
    upgrade = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAA\r\n"
    answer = _exchange(service, b"GET /health HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
    assert answer.json()["status"] == "ok"


def _connect(service: Service) -> socket.socket:
    address = urlsplit(service.url)
    return socket.create_connection((address.hostname, address.port), timeout=10)


def _rest(connection: socket.socket) -> bytes:
    """All that still comes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_who_has_said_all_is_answered(service: Service) -> None:
    """A client may close its side of the connection behind its request (RFC 9112, section 9.6)."""
    for _ in range(20):
        with _connect(service) as connection:
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.shutdown(socket.SHUT_WR)
            assert _rest(connection).startswith(b"HTTP/1.1 200 OK\r\n")


class _Said(BytesIO):
    """What came over a connection, for one `HTTPResponse` after the other."""

    def makefile(self, mode: str) -> Self:
        del mode
        return self

    def close(self) -> None: ...


def _answers(said: bytes, method: str, number: int) -> Iterator[tuple[HTTPResponse, bytes]]:
    """So many answers, each with its body; there is nothing else."""
    stream = _Said(said)
    for _ in range(number):
        answer = HTTPResponse(cast("socket.socket", stream), method=method)
        answer.begin()
        yield answer, answer.read()
    assert stream.read() == b""


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("path", ["/health", "/openapi.json", "/docs"])
def test_answers_come_whole_and_one_after_the_other(service: Service, method: str, path: str) -> None:
    one = f"{method} {path} HTTP/1.1\r\nHost: x\r\n"
    with _connect(service) as connection:
        connection.sendall(f"{one}\r\n{one}\r\n{one}Connection: close\r\n\r\n".encode())
        for answer, body in _answers(_rest(connection), method, 3):
            assert answer.status == 200
            assert len(body) == (0 if method == "HEAD" else int(answer.headers["content-length"]))


def test_who_vanishes_leaves_no_error(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    reset = struct.pack("ii", 1, 0)
    for _ in range(20):
        connection = _connect(service)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
        # It has begun to answer.
        connection.recv(1)
        connection.close()
    assert service.http.get("/health").status_code == 200
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_head_is_limited_also_behind_a_body_that_was_answered_before_it_came(service: Service) -> None:
    with _connect(service) as connection:
        connection.sendall(b"POST /api/a/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 13\r\n\r\n")
        answer = HTTPResponse(connection)
        answer.begin()
        assert (answer.status, bool(answer.read())) == (401, True)
        connection.sendall(b'{"title":"e"}')
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with suppress(OSError):  # it answers, and listens no more
            for number in range(40_000):
                connection.sendall(b"a%05d: %s\r\n" % (number, b"v" * 100))
            raise AssertionError("it listens to a head of 4 MB")


def test_what_is_no_http_takes_no_answer_from_the_request_before_it(service: Service, alice: Client) -> None:
    body = b'{"title":"carried out"}'
    head = f"POST {alice.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(alice.user)}\r\nContent-Type: application/json\r\n"
    whole = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    broken = head.encode() + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\n"
    for before in (1, 2):
        with _connect(service) as connection:
            connection.sendall(whole * before + broken)
            *created, (refused, problem) = _answers(_rest(connection), "POST", before + 1)
        assert [answer.status for answer, _ in created] == [201] * before
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


@pytest.mark.parametrize("protocol", ["h2c", "websocket", "TLS/1.0, foo"])
@pytest.mark.parametrize("chunked", [False, True], ids=["Content-Length", "chunked"])
@pytest.mark.parametrize("late", [False, True], ids=["in one packet", "body later"])
def test_an_offer_to_upgrade_is_ignored_and_the_body_is_read(
    service: Service, alice: Client, protocol: str, *, chunked: bool, late: bool
) -> None:
    head, body = _creation(alice, "upgraded", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", chunked=chunked)
    with _connect(service) as connection:
        if late:
            connection.sendall(head)
            for byte in (body[:4], body[4:]):
                time.sleep(0.05)
                connection.sendall(byte)
            connection.sendall(LAST)
        else:
            connection.sendall(head + body + LAST)
        statuses = [response.status for response, _ in _answers(_rest(connection), "POST", 2)]
    assert statuses == [201, 200]
    assert alice.titles() == ["upgraded"]


def test_the_body_behind_an_offer_to_upgrade_is_not_run_as_a_request(service: Service, alice: Client) -> None:
    smuggled = b"".join(_creation(alice, "smuggled"))
    head = f"POST {alice.home} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: {len(smuggled)}\r\n\r\n"
    with _connect(service) as connection:
        connection.sendall(head.encode())
        time.sleep(0.05)
        connection.sendall(smuggled + LAST)
        statuses = [response.status for response, _ in _answers(_rest(connection), "POST", 2)]
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
        b"PRI * HTTP/2.0",
    ],
)
def test_a_request_that_two_servers_could_understand_differently_is_refused(service: Service, head: bytes) -> None:
    with _connect(service) as connection:
        connection.sendall(head + b"\r\n\r\n")
        ((response, body),) = _answers(_rest(connection), "POST", 1)
    assert (response.status, response.headers["connection"]) == (400, "close")
    assert b"VALIDATION_ERROR" in body


def test_http_1_0_needs_no_host_and_gets_a_response_that_ends_with_the_connection(service: Service) -> None:
    with _connect(service) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        ((response, body),) = _answers(_rest(connection), "GET", 1)
    assert (response.status, response.headers["connection"], bool(body)) == (200, "close", True)


def test_a_client_that_half_closes_after_a_whole_request_gets_its_response(service: Service, alice: Client) -> None:
    with _connect(service) as connection:
        connection.sendall(b"".join(_creation(alice, "half-closed")))
        connection.shutdown(socket.SHUT_WR)
        assert _rest(connection).startswith(b"HTTP/1.1 201 Created\r\n")
    assert alice.titles() == ["half-closed"]


def test_a_client_that_waits_for_100_continue_gets_it_only_if_its_body_is_wanted(service: Service, alice: Client) -> None:
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
        (b"POST /api/x/tasks HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", b"1000\r\n%b\r\n" % (b"x" * 4096)),
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
        with pytest.raises(ConnectionError):
            _rest(connection)


def test_a_response_header_cannot_hold_a_line_break() -> None:
    class Connection:
        default_headers: ClassVar[list[tuple[bytes, bytes]]] = []
        is_last = False

        async def drain(self) -> None: ...

    scope = {"method": "GET", "http_version": "1.1"}
    exchange = Exchange(cast("Any", Connection()), scope, keep_alive=True, expects_continue=False)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"location", b"/\r\nset-cookie: a=b")]}
    with pytest.raises(RuntimeError, match="line break"):
        asyncio.run(exchange.send(start))
