"""What goes over the wire: the forms of an error, request ids, and bytes that are no HTTP."""

import socket
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx
import pytest

from problem import assert_problem
from service import Client, Service, sign


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


def _exchange(service: Service, request: bytes) -> httpx.Response:
    """What the service answers to these very bytes."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(request)
        answer = HTTPResponse(connection)
        answer.begin()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


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
