"""Every error there is comes as `application/problem+json` to clients that ask for it, and its `type` leads to a page."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.problem import assert_problem, assert_problem_details
from support.service import Service, running, sign

ORIGIN = "https://app.example"
PREFIX = "/prefix"
ACCEPT = "Accept: application/problem+json"
TOKEN = f"Authorization: Bearer {sign('alice')}"
JSON = "Content-Type: application/json"

MakeURL = Callable[[str], str]

# For each case: the lines of the head, the body, and the status and code of the response.
FAILURES: dict[str, tuple[list[str], str, int, str]] = {
    # The endpoint engine.
    "no token": (["GET /api/alice/tasks"], "", 401, "AUTH_MISSING"),
    "a bad token": (["GET /api/alice/tasks", "Authorization: Bearer a.b.c"], "", 401, "AUTH_INVALID"),
    "another user": (["GET /api/bob/tasks", TOKEN], "", 403, "AUTH_FORBIDDEN"),
    "no such task": (["GET /api/alice/tasks/0", TOKEN], "", 404, "NOT_FOUND"),
    "no such method": (["PATCH /api/alice/tasks", TOKEN], "", 405, "METHOD_NOT_ALLOWED"),
    "a late body": (["POST /api/alice/tasks", TOKEN, JSON, "Content-Length: 9"], "", 408, "REQUEST_TIMEOUT"),
    "a body that is not JSON": (
        ["POST /api/alice/tasks", TOKEN, JSON, "Content-Length: 1"], "{", 400, "VALIDATION_ERROR"),
    "a large body": (["POST /api/alice/tasks", TOKEN, JSON, "Content-Length: 99999"], "", 413, "PAYLOAD_TOO_LARGE"),
    "another media type": (
        ["POST /api/alice/tasks", TOKEN, "Content-Length: 2"], "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
    "an invalid body": (["POST /api/alice/tasks", TOKEN, JSON, "Content-Length: 2"], "{}", 422, "VALIDATION_ERROR"),
    "an unknown parameter": (["GET /api/alice/tasks?x=1", TOKEN], "", 422, "VALIDATION_ERROR"),
    # The framework.
    "no such route": (["GET /nonsense"], "", 404, "NOT_FOUND"),
    "no such page": (["GET /problems/nonsense"], "", 404, "NOT_FOUND"),
    "no such file": (["GET /docs/assets/nonsense"], "", 404, "NOT_FOUND"),
    "no such method of the framework's": (["POST /health"], "", 405, "METHOD_NOT_ALLOWED"),
    "no such method of a file": (["POST /docs/assets/favicon.png"], "", 405, "METHOD_NOT_ALLOWED"),
    # The middleware.
    "a refused preflight": (
        ["OPTIONS /api/alice/tasks", "Origin: https://evil.example", "Access-Control-Request-Method: GET"],
        "", 400, "VALIDATION_ERROR"),
    # The protocol.
    "two hosts": (["GET /health", "Host: y"], "", 400, "VALIDATION_ERROR"),
    "a broken chunk": (
        ["POST /api/alice/tasks", TOKEN, JSON, "Transfer-Encoding: chunked"], "ZZZ\r\n", 400, "VALIDATION_ERROR"),
}  # fmt: skip


@pytest.fixture(scope="module")
def fragile(new_database_url: MakeURL) -> Iterator[Service]:
    """A service under a prefix, with a short timeout for bodies, and room for one request in flight."""
    settings: dict[str, Any] = {
        "TASKWELL_ROOT_PATH": PREFIX,
        "TASKWELL_BODY_TIMEOUT_SECONDS": "0.3",
        "TASKWELL_CORS_ORIGINS": ORIGIN,
        "TASKWELL_MAX_IN_FLIGHT": "1",
    }
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service:
        yield service


def _exchange(service: Service, lines: list[str], body: str, method: str | None = None) -> httpx2.Response:
    """Sends these exact bytes and returns the response."""
    address = urlsplit(service.url)
    head = "\r\n".join([f"{lines[0]} HTTP/1.1", "Host: x", *lines[1:], "", ""])
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall((head + body).encode())
        response = HTTPResponse(connection, method=method)
        response.begin()
        return httpx2.Response(response.status, headers=response.getheaders(), content=response.read())


@pytest.mark.parametrize("case", FAILURES)
def test_every_error_honours_the_accept_header(case: str, fragile: Service) -> None:
    lines, body, status, code = FAILURES[case]
    response = _exchange(fragile, [*lines, ACCEPT], body)
    problem = assert_problem_details(response, status, code, root_path=PREFIX)
    page = fragile.http.get(problem["type"])
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert code in page.text


@pytest.mark.parametrize("case", FAILURES)
def test_every_error_is_plain_json_to_other_clients(case: str, fragile: Service) -> None:
    lines, body, status, code = FAILURES[case]
    assert_problem(_exchange(fragile, lines, body), status, code)


@pytest.mark.parametrize("case", [case for case in FAILURES if FAILURES[case][0][0].startswith("GET ")])
def test_an_error_has_the_same_headers_without_a_body(case: str, fragile: Service) -> None:
    lines, body, *_ = FAILURES[case]
    whole = _exchange(fragile, [*lines, ACCEPT], body)
    head = _exchange(fragile, [lines[0].replace("GET", "HEAD"), *lines[1:], ACCEPT], body, "HEAD")
    assert (head.status_code, head.content) == (whole.status_code, b"")
    assert {name: head.headers[name] for name in head.headers if name not in ("date", "x-request-id")} == {
        name: whole.headers[name] for name in whole.headers if name not in ("date", "x-request-id")
    }


@pytest.mark.parametrize("line", ["BREW /health", f"GET /health HTTP/1.1\r\n{ACCEPT}\r\nno header\r\nX:"])
def test_a_head_that_is_not_http_has_no_accept_header_and_gets_plain_json(line: str, fragile: Service) -> None:
    assert_problem(_exchange(fragile, [line, ACCEPT], ""), 400, "VALIDATION_ERROR")


def test_the_accept_header_of_the_request_before_does_not_count(fragile: Service) -> None:
    address = urlsplit(fragile.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(f"GET /nonsense HTTP/1.1\r\nHost: x\r\n{ACCEPT}\r\n\r\n".encode())
        assert b"application/problem+json" in connection.recv(65536)
        connection.sendall(b"\x00JUNK\r\n\r\n")
        assert b"application/json" in connection.recv(65536)


def _get(service: Service, path: str, token: str = "") -> httpx2.Response:
    headers = {"Accept": "application/problem+json", "Authorization": f"Bearer {token or sign('alice')}"}
    return service.http.get(path, headers=headers)


class _Broken:
    async def list(self, owner: str, **options: object) -> None:
        raise RuntimeError(owner, options)


class _Slow:
    async def list(self, *arguments: object) -> None:
        await asyncio.sleep(2)
        raise RuntimeError(arguments)


def test_a_bug_honours_the_accept_header(fragile: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fragile.state, "tasks", _Broken())
    assert_problem_details(_get(fragile, "/api/alice/tasks"), 500, "INTERNAL_ERROR", root_path=PREFIX)


def test_a_shed_request_honours_the_accept_header(fragile: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fragile.state, "tasks", _Slow())
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(_get, fragile, "/api/alice/tasks")
        time.sleep(0.5)
        response = _get(fragile, "/api/alice/tasks")
        assert not slow.done()
    assert_problem_details(response, 503, "OVERLOADED", root_path=PREFIX)


def test_a_database_error_honours_the_accept_header(new_database_url: MakeURL) -> None:
    with running("sqlite", migrate=False, DATABASE_URL=new_database_url("sqlite")) as service:
        assert_problem_details(_get(service, "/api/alice/tasks"), 500, "DATABASE_ERROR")
        assert_problem_details(_get(service, "/health/ready"), 503, "DATABASE_ERROR")


def test_an_outage_of_the_auth_server_honours_the_accept_header(new_database_url: MakeURL) -> None:
    # Nothing listens on port 1 of the loopback interface.
    url = "http://127.0.0.1:1"
    claims = {"sub": "alice", "iss": url, "aud": url, "exp": time.time() + 60}
    token = jwt.encode(claims, Ed25519PrivateKey.generate(), "EdDSA", headers={"kid": "a"})
    database_url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=database_url, BETTER_AUTH_URL=url, BETTER_AUTH_SECRET="") as service:
        assert_problem_details(_get(service, "/api/alice/tasks", token), 503, "AUTH_UNAVAILABLE")
        assert_problem_details(_get(service, "/health/ready"), 503, "AUTH_UNAVAILABLE")


# --- preferences

PREFERS_PROBLEM_DETAILS = [
    "application/problem+json",
    "APPLICATION/PROBLEM+JSON",
    "application/problem+json;charset=utf-8",
    "text/html, application/problem+json;q=0.9",
    "application/json, application/problem+json",
    "application/json;q=0.5, application/problem+json;q=0.6",
    "application/problem+json;q=0.1, application/json;q=0",
    "application/problem+json, */*",
    "application/json;q=0.2, application/problem+json;q=0.5, */*",
    "application/problem+json; q=0.001",
]
PREFERS_JSON = [
    "",
    "*/*",
    "application/*",
    "application/json",
    "text/html",
    "application/problem+json;q=0",
    "application/problem+json;q=0.000, */*",
    "application/problem+jsonx",
    "application/json, application/problem+json;q=0.1",
    "application/problem+json;q=0.8, application/json;q=0.9",
    "application/problem+json;q=0.5, */*",
    "application/problem+json;q=0.5, application/*;q=0.6, */*;q=0.1",
    "\xff",
]


@pytest.mark.parametrize("accept", PREFERS_PROBLEM_DETAILS)
def test_problem_details_are_sent_to_clients_that_prefer_them(fragile: Service, accept: str) -> None:
    response = fragile.http.get("/nonsense", headers={"Accept": accept})
    assert_problem_details(response, 404, "NOT_FOUND", root_path=PREFIX)


@pytest.mark.parametrize("accept", PREFERS_JSON)
def test_plain_json_is_sent_to_all_other_clients(fragile: Service, accept: str) -> None:
    response = fragile.http.get("/nonsense", headers={b"Accept": accept.encode("latin-1")})
    assert_problem(response, 404, "NOT_FOUND")


def test_preferences_in_several_lines_count_together(fragile: Service) -> None:
    several = ["GET /nonsense", "Accept: application/json;q=0.5", "Accept: application/problem+json"]
    assert_problem_details(_exchange(fragile, several, ""), 404, "NOT_FOUND", root_path=PREFIX)
