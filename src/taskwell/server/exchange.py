"""One request and its response, between a connection and the application (ASGI 3.0, HTTP 2.3 message format)."""

import asyncio
import logging
from http import HTTPStatus
from typing import Protocol

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Scope

from taskwell.http.streams import BrokenStreamError
from taskwell.telemetry.requests import name_of

logger = logging.getLogger("taskwell.server")

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

# Responses that have no body, and so no framing of one (RFC 9112, section 6.3).
_WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)


class Connection(Protocol):
    """A connection, as an exchange uses it."""

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response."""
        ...

    @property
    def is_last(self) -> bool:
        """Whether the connection closes after this exchange."""
        ...

    def write(self, data: bytes) -> None:
        """Sends `data`."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether the client must read before more can be sent."""
        ...

    async def drain(self) -> None:
        """Waits until the client has read enough for more to be sent, or is gone."""
        ...

    def body_was_read(self) -> None:
        """Reports that the application has read the body's bytes, so there is room for more."""
        ...

    def response_complete(self) -> None:
        """Reports that the whole response was sent."""
        ...

    def close(self) -> None:
        """Closes the connection once everything is sent."""
        ...

    def reset(self) -> None:
        """Closes the connection at once with a TCP reset."""
        ...


class Exchange:
    """A request, whose body may still be arriving, and its response."""

    def __init__(self, connection: Connection, scope: Scope, *, keep_alive: bool, expects_continue: bool) -> None:
        self.scope = scope
        self.keep_alive = keep_alive
        self.status = 0
        self.received = 0
        """Number of the body's bytes that have arrived and that the application has not read."""
        self.is_whole = False
        """Whether the whole request has arrived."""
        self.is_complete = False
        """Whether the whole response was sent."""
        self._connection = connection
        self._expects_continue = expects_continue
        self._body: list[bytes] = []
        self._was_read = False
        self._is_gone = False
        self._is_half_closed = False
        self._waiter: asyncio.Future[None] | None = None
        # The response's head, until it is sent. Then the number of bytes that its body still lacks: None for a chunked body,
        # -1 for a body that ends when the connection closes.
        self._head = b""
        self._remaining: int | None = 0

    # --- called by the connection

    def add_body(self, body: bytes) -> None:
        """Adds a part of the body."""
        self._body.append(body)
        self.received += len(body)
        self._wake()

    def end_body(self) -> None:
        """Notes that the whole request has arrived."""
        self.is_whole = True
        self._wake()

    def half_close(self) -> None:
        """Notes that the client has closed its side. It may still read the response."""
        self._is_half_closed = True
        self._wake()

    def disconnect(self) -> None:
        """Notes that the client is gone."""
        self._is_gone = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    # --- called by the application, and around it

    async def run(self, app: ASGIApp) -> None:
        """Runs the application. An exception that it does not catch closes the connection."""
        try:
            await app(self.scope, self.receive, self.send)
        except ClientDisconnect:
            pass
        except (asyncio.CancelledError, BrokenStreamError):
            # Cancelled: the service is stopping, and the time for finishing requests is over.
            self._break_off()
        except Exception:
            logger.exception("%s: the application failed", name_of(self.scope))
            self._break_off()
        else:
            if not self.is_complete and not self._is_gone:
                logger.error("%s: the application sent no complete response", name_of(self.scope))
                self._break_off()

    def _break_off(self) -> None:
        """Closes the connection so that the client can tell that the response is incomplete."""
        # A body that ends when the connection closes is complete, unless there is an error (RFC 9112, section 8).
        if self._remaining == -1 and not self.is_complete:
            self._connection.reset()
        else:
            self._connection.close()

    async def receive(self) -> Message:
        """Returns the next part of the body, or a message that the client has disconnected."""
        if self._expects_continue and not self.status:
            self._expects_continue = False
            self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not (self._body or (self.is_whole and not self._was_read)):
            if self._is_gone or self._is_half_closed or self.is_complete:
                return {"type": "http.disconnect"}
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        body, self._body, self.received = b"".join(self._body), [], 0
        self._was_read = self.is_whole
        message = {"type": "http.request", "body": body, "more_body": not self.is_whole}
        # This can add the rest of the body, which is then for the next message.
        self._connection.body_was_read()
        return message

    async def send(self, message: Message) -> None:
        """Sends a part of the response.

        A head that declares the length of the body is sent together with the first part of the body: one system call
        and one packet instead of two. After a part that others follow, this waits until there is room for the next one.
        So nobody produces it earlier.

        Raises:
            ClientDisconnect: the client is gone.
            RuntimeError: the message is not allowed after the messages before it, or the response is malformed.
        """
        if self._connection.is_full or self._is_gone:
            await self._wait_for_room()
        if message["type"] == "http.response.start" and not self.status:
            self._start(message["status"], message["headers"])
        elif message["type"] == "http.response.body" and self.status and not self.is_complete:
            more: bool = message.get("more_body", False)
            self._continue(message.get("body", b""), more=more)
            if more:
                await self._wait_for_room()
        else:
            raise RuntimeError(f"an unexpected message: {message['type']}")

    async def _wait_for_room(self) -> None:
        await self._connection.drain()
        if self._is_gone:
            raise ClientDisconnect

    def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.status = status
        has_body = self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY
        self._remaining = None if has_body else 0
        lines = [_STATUS_LINES[status]]
        for name, value in (*self._connection.default_headers, *headers):
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            if name == b"content-length" and has_body:
                self._remaining = int(value)
            lines.append(b"%b: %b\r\n" % (name, value))
        if self._remaining is None:
            if self.scope["http_version"] == "1.1":
                lines.append(b"transfer-encoding: chunked\r\n")
            else:
                self.keep_alive, self._remaining = False, -1
        # A client that expects `100 Continue` and did not get it may send its body or leave it out. So the next byte
        # could belong to this body or to a new request.
        if self._expects_continue or self._connection.is_last or not self.keep_alive:
            self.keep_alive = False
            lines.append(b"connection: close\r\n")
        head = b"".join(lines)
        # A line break in a header would start another header or another response.
        if not len(lines) == head.count(b"\n") == head.count(b"\r"):
            raise RuntimeError("a response header contains a line break")
        self._head = head + b"\r\n"
        if has_body and (self._remaining is None or self._remaining < 0):
            self._connection.write(self._head)
            self._head = b""

    def _continue(self, body: bytes, *, more: bool) -> None:
        data, self._head = self._head, b""
        if self._remaining is None:
            data += b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            data += b"" if more else b"0\r\n\r\n"
        elif self._remaining < 0:
            data += body
        elif self.scope["method"] != "HEAD" and self.status not in _WITHOUT_BODY:
            self._remaining -= len(body)
            if self._remaining < 0 or (self._remaining and not more):
                raise RuntimeError("the response's body does not have its declared length")
            data += body
        if data:
            self._connection.write(data)
        if not more:
            self.is_complete = True
            self._wake()
            self._connection.response_complete()
