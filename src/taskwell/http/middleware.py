"""Middleware for every request, plain ASGI: its id, its log line, and the response to a bug."""

import logging
import random
import re
import time
from collections.abc import Awaitable, Container
from http import HTTPStatus
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskwell.errors import InternalError
from taskwell.http.error_responses import problem_response
from taskwell.http.segments import remove_root_path, route_as_sent
from taskwell.telemetry.access_log import AccessLog
from taskwell.telemetry.request_counts import RequestCounts
from taskwell.telemetry.requests import MAX_LOGGED_PATH, client_of, name_of
from taskwell.telemetry.trace_context import trace_id_of

logger = logging.getLogger("taskwell.problems")

_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [high + low for high in _CROCKFORD for low in _CROCKFORD]
_ACCEPTABLE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_IDS = frozenset((b"x-request-id", b"traceparent"))
# Not Python's shared generator: a library could seed it, and then ids would repeat.
_random = random.Random()  # noqa: S311 - an id need not be secret

_NOSNIFF = (b"x-content-type-options", b"nosniff")

CLIENT_CLOSED_REQUEST = 499


class RequestMiddleware:
    """Gives each request an id, routes HEAD as GET, removes the prefix of a proxy, and adds a line to the access log.

    The prefix is `root_path`; `first_segments` are the first path segments of the service's routes. `counts`, if given,
    counts the requests.
    """

    def __init__(
        self,
        app: ASGIApp,
        access_log: AccessLog,
        *,
        root_path: str = "",
        first_segments: Container[str] = (),
        counts: RequestCounts | None = None,
    ) -> None:
        self.app = app
        self._root_path = root_path
        self._first_segments = first_segments
        self._log = access_log
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            # The lifespan is over. A signal ends a worker process, so nothing else would write the last lines.
            self._log.flush()
            return
        started = time.perf_counter()
        method: str = scope["method"]
        state: dict[str, Any] = scope["state"]
        if method == "HEAD":
            # A copy, because the server sends no body if the method in its own scope is HEAD.
            scope = {**scope, "method": "GET"}
            state["method"] = method
        request_id = _identify(scope, state)
        route_as_sent(scope)
        if self._root_path:
            remove_root_path(scope, self._root_path, self._first_segments)

        sent_bytes = 0

        def send_with_headers(message: Message) -> Awaitable[None]:
            nonlocal sent_bytes
            if message["type"] == "http.response.start":
                state["status"] = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode()), _NOSNIFF]
            else:
                sent_bytes += len(message["body"])
            return send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            pass
        finally:
            status, seconds = state.get("status", CLIENT_CLOSED_REQUEST), time.perf_counter() - started
            if self._counts is not None:
                self._counts.note(method, state.get("route"), status, seconds)
            self._log.note(
                request_id,
                state.get("trace_id"),
                state.get("owner"),
                client_of(scope),
                method,
                state.get("route"),
                scope["raw_path"][:MAX_LOGGED_PATH],
                status,
                seconds,
                sent_bytes if method != "HEAD" else 0,
                state.get("error_code"),
            )


class LastResort:
    """Turns a bug into a 500 with the body of every error. No exception reaches the server, which would drop the connection."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.app(scope, receive, send)
        except ClientDisconnect:
            raise
        except Exception:
            if scope["type"] != "http" or "status" in scope["state"]:
                raise
            scope["state"]["error_code"] = InternalError.code
            logger.exception("%s %s", name_of(scope), HTTPStatus(500).phrase)
            await problem_response(scope, InternalError())(scope, receive, send)


def _identify(scope: Scope, state: dict[str, Any]) -> str:
    """Stores the ids of the request and of its trace in `state`, and returns the first."""
    request_id = ""
    for name, value in scope["headers"]:
        if name in _IDS:
            if name == b"traceparent":
                state.setdefault("trace_id", trace_id_of(value))
                continue
            sent: str = value.decode("latin-1")
            request_id = sent if _ACCEPTABLE_REQUEST_ID.fullmatch(sent) else ""
    state["request_id"] = request_id = request_id or new_request_id()
    return request_id


def new_request_id() -> str:
    """Returns a ULID (github.com/ulid/spec): 48 bits of milliseconds and 80 random bits, sortable by time."""
    # It need not be secret, only unique. The system's random numbers would cost a system call.
    value = int(time.time() * 1000) << 80 | _random.getrandbits(80)
    return "".join([_PAIRS[value >> shift & 1023] for shift in range(120, -1, -10)])
