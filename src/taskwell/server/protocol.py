"""What is not HTTP, or takes too long to become a request: ended by the server's protocol, before there is a request."""

import asyncio
import logging
from typing import Any, cast

from starlette.responses import Response
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from taskwell.errors import MalformedRequest
from taskwell.http.error_responses import problem_response
from taskwell.http.middleware import new_request_id

logger = logging.getLogger("taskwell.problems")

REQUEST_SECONDS = 10
MAX_HEAD_BYTES = 64 * 1024

# After a 503, the next request on the same connection is not read for this long. A client that retries at once would
# otherwise keep the process busy with shedding.
PAUSE_SECONDS = 0.1


class _Joining:
    """A transport that sends an answer's head with the first of its body.

    uvicorn writes them apart: two system calls and two packets. A head waits only where it says how long a body follows.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.unavailable = False
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 ") and b"\r\ncontent-length: " in data:
            self._head = data
            self.unavailable = data.startswith(b"HTTP/1.1 503 ")
            return
        # The client may be gone, which is no error.
        if not self.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        self.send_head()
        self._transport.close()

    def send_head(self) -> None:
        """Sends a head that still waits: no body came after all, as to HEAD."""
        if self._head:
            self.write(b"")


class HTTPProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 protocol, whose clients have ten seconds and 64 KiB for a request's head.

    Bytes that cannot be parsed (RFC 9112, section 2.2) are refused with the one body.
    """

    _deadline: asyncio.TimerHandle | None = None
    _unparsed = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(cast("asyncio.Transport", _Joining(transport)))
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_has_come()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing() or (self.cycle and not self.cycle.response_complete):
            return
        self._expect_request()
        # What is left of a body that was answered before it had come, is no head.
        if self._unparsed > MAX_HEAD_BYTES and not (self.cycle and self.cycle.more_body):
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        self._request_has_come()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._unparsed = 0
        # uvicorn leaves it where the answer was quicker than the body, and what comes then would never be taken for a head.
        self.cycle.more_body = False

    def on_response_complete(self) -> None:
        cast("_Joining", self.transport).send_head()
        super().on_response_complete()
        if cast("_Joining", self.transport).unavailable:
            self.flow.pause_reading()
            self.loop.call_later(PAUSE_SECONDS, self.flow.resume_reading)

    def _expect_request(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(REQUEST_SECONDS, self.transport.close)

    def _request_has_come(self) -> None:
        self._unparsed = 0
        if self._deadline:
            self._deadline.cancel()
            self._deadline = None

    def send_400_response(self, msg: str) -> None:
        """Answers with the one body and closes the connection, whose next byte has no meaning any more."""
        del msg
        if self.cycle and not self.cycle.response_complete and not self.cycle.more_body:
            # The request before it was whole, may have been carried out, and is still to be answered.
            self.cycle.keep_alive = False
            return
        answer = _refusal()
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            # So are those before the one whose body is broken.
            self.pipeline[0] = (self.cycle, cast("ASGI3Application", answer))
            return
        headers = [*self.server_state.default_headers, *answer.raw_headers]
        lines = [name + b": " + value + b"\r\n" for name, value in headers]
        self.transport.write(STATUS_LINE[400] + b"".join(lines) + b"\r\n" + bytes(answer.body))
        self.transport.close()


def _refusal() -> Response:
    request_id = new_request_id()
    problem = MalformedRequest("This is not HTTP/1.1, a method that is not known, or a head of more than 64 KiB.")
    logger.info("request_id=%s %s %s: %s", request_id, problem.status, problem.code, problem.detail)
    scope: dict[str, Any] = {"type": "http", "headers": [], "state": {"request_id": request_id}}
    answer = problem_response(scope, problem)
    answer.headers["X-Request-ID"] = request_id
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Connection"] = "close"
    return answer
