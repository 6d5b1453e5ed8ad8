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
