"""Heads that are not valid HTTP/1.1, and the response to them."""

import logging

from starlette.responses import Response
from starlette.types import Scope

from taskwell.errors import MalformedRequest
from taskwell.http.error_responses import problem_response
from taskwell.http.middleware import new_request_id
from taskwell.telemetry.requests import name_of

logger = logging.getLogger("taskwell.problems")


def check_framing(version: str, method: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
    """Rejects a head that servers and proxies could interpret differently. Returns whether the client expects 100 Continue.

    Raises:
        ValueError: the version is unknown, an HTTP/1.1 request has no Host or two (RFC 9112, section 3.2), a transfer
            coding is not chunked (section 6.1), or the method is CONNECT, which only proxies serve.
    """
    hosts, expects_continue = 0, False
    for name, value in headers:
        if name == b"host":
            hosts += 1
        elif name == b"expect":
            expects_continue = value.lower() == b"100-continue"
        elif name == b"transfer-encoding" and (value.lower() != b"chunked" or version == "1.0"):
            raise ValueError
    if version not in ("1.0", "1.1") or method == b"CONNECT" or hosts > 1 or (version == "1.1" and not hosts):
        raise ValueError
    return expects_continue


def refusal(scope: Scope) -> Response:
    """Returns the 400 for bytes that are not HTTP, and logs it. `scope` is as complete as the head was."""
    request_id = new_request_id()
    problem = MalformedRequest("This is not a valid HTTP/1.1 request, or its head is larger than 64 KiB.")
    scope["state"] = {"request_id": request_id, "error_code": problem.code}
    logger.info("%s %s %s: %s", name_of(scope), problem.status, problem.code, problem.detail)
    response = problem_response(scope, problem)
    response.headers["X-Request-ID"] = request_id
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Connection"] = "close"
    return response
