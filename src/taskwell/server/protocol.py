"""The server's HTTP/1.1 protocol (RFC 9112), on httptools' parser.

A connection serves one request after the other. The memory and time that one client can use are bounded: the server
stops parsing while a complete request waits for its response, and it disconnects a client that sends a head or reads a
response too slowly. See docs/adr/0005-uvicorn-with-our-own-protocol.md.
"""

import asyncio
import logging
import math
import socket
import struct
import sys
from collections import deque
from typing import Any, cast
from urllib.parse import unquote

import httptools
from starlette.types import ASGIApp, Scope
from uvicorn import Config
from uvicorn.server import ServerState

from taskwell.http.forwarded import TrustedProxies
from taskwell.server.exchange import Exchange
from taskwell.server.framing import check_framing, refusal
from taskwell.telemetry.requests import UNKNOWN

if sys.platform == "linux":
    import fcntl
    import termios

    def _bytes_in_kernel(wire: socket.socket) -> int:
        return int.from_bytes(fcntl.ioctl(wire, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

else:

    def _bytes_in_kernel(wire: socket.socket) -> int:
        del wire
        return 0


HEAD_SECONDS = 10
"""Time limit for a request's head, from the start of the connection or, for later requests, from the head's first byte."""

MAX_HEAD_BYTES = 64 * 1024

UNREAD_SECONDS = 30
"""A client that reads nothing of a response for this long is disconnected."""

LINGER_SECONDS = 10
MAX_LINGER_BYTES = 2 * 1024 * 1024
"""After a response, the server reads and discards at most this much of a body, for at most `LINGER_SECONDS`.

It is twice the size of the largest body that any route accepts, so a client that sends a little more gets its 413.
"""

LAST_REQUEST_SECONDS = 1
"""When the service stops, an idle connection may send one more request within this time."""

HALF_CLOSED_SECONDS = 1
"""A client that has closed its side may still read its response. After this time, `receive` reports it as disconnected,
so that a long stream ends."""

PAUSE_SECONDS = 0.1
"""After a 503, the next request on the same connection waits for this long. Otherwise, clients that retry at once would
keep the process busy with shedding."""

# The parser gets the input in pieces of this size, so that few requests are parsed at once.
_PIECE_BYTES = 4096

# The application reads a body while it arrives. If more than this is unread, the server stops parsing.
_BODY_BUFFER_BYTES = 64 * 1024

_WATCH_SECONDS = 5

# Closing a socket with this option sends a reset.
_NO_LINGER = struct.pack("ii", 1, 0)

logger = logging.getLogger("taskwell.problems")

_Address = tuple[str, int]


class HTTPProtocol(asyncio.Protocol):
    """One connection. uvicorn's server creates it for each, and calls `shutdown` when the service stops."""

    def __init__(
        self,
        proxies: TrustedProxies,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._app = cast("ASGIApp", config.loaded_app)
        self._proxies = proxies
        self._root_path = config.root_path
        self._keep_alive_seconds = config.timeout_keep_alive
        self._server = server_state
        self._app_state = app_state
        self._loop = _loop or asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._addresses: dict[str, _Address | None] = {}
        self._is_behind_proxy = False
        # Input: the bytes that were read but not parsed, the parser, and the head that it is parsing.
        self._unparsed: bytes = b""
        self._parser = self._new_parser()
        self._head_bytes = 0
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._is_head_complete = False
        self._is_replaying = False
        # The current exchange, or the last one, and those that were parsed after it.
        self._exchange: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._arriving: Exchange | None = None
        # Whether the service is stopping; and whether, for that or another reason, the connection closes after the
        # requests that were read.
        self._is_stopping = False
        self._is_ending = False
        self._is_pausing = False
        self._is_refused = False
        self._is_lingering = False
        self._discarded_bytes = 0
        # When to close the connection, unless something happens before.
        self._closes_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        # Output.
        self._writable: asyncio.Future[None] | None = None
        self._watcher: asyncio.TimerHandle | None = None
        self._watched_bytes = 0

    def _new_parser(self) -> httptools.HttpRequestParser:
        parser = httptools.HttpRequestParser(self)
        # Bytes after a request with `Connection: close` must not turn that request into an error.
        parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return parser

    # --- the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._server.connections.add(cast("Any", self))
        self._addresses = {
            name: _address(transport, key) for name, key in (("client", "peername"), ("server", "sockname"))
        }
        client = self._addresses["client"]
        self._is_behind_proxy = client is not None and self._proxies.trust(client[0])
        self._close_at(self._loop.time() + HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._server.connections.discard(cast("Any", self))
        if self._timer:
            self._timer.cancel()
        for exchange in self._unfinished():
            exchange.disconnect()
        self.resume_writing()
        self._unparsed = b""

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            self._discard(len(data))
            return
        self._unparsed += data
        self._parse()

    def eof_received(self) -> bool:
        """Keeps the connection open if a complete request waits for its response (RFC 9112, section 9.6)."""
        if self._is_lingering or self._is_between_requests or self._arriving:
            for exchange in self._unfinished():
                exchange.disconnect()
            return False
        self._is_ending = True
        self._loop.call_later(HALF_CLOSED_SECONDS, self._half_close)
        return True

    def _half_close(self) -> None:
        for exchange in self._unfinished():
            exchange.half_close()

    def _unfinished(self) -> list[Exchange]:
        under_way = [self._exchange] if self._exchange and not self._exchange.is_complete else []
        return [*under_way, *self._waiting]

    # --- input

    @property
    def _is_between_requests(self) -> bool:
        return (self._exchange is None or self._exchange.is_complete) and not self._waiting

    @property
    def _must_wait(self) -> bool:
        """Whether parsing must wait for the application, or for the pause after a 503, or has ended."""
        if self._is_pausing or self._is_refused or self._waiting:
            return True
        exchange = self._exchange
        if exchange is None or exchange.is_complete:
            return False
        return exchange.is_whole or exchange.received > _BODY_BUFFER_BYTES

    def _parse(self) -> None:
        while self._unparsed and not self._must_wait and not self._transport.is_closing():
            piece, self._unparsed = self._unparsed[:_PIECE_BYTES], self._unparsed[_PIECE_BYTES:]
            if self._arriving and self._arriving.is_complete:
                self._discard(len(piece))
            self._head_bytes += len(piece)
            try:
                self._parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                self._ignore_upgrade(piece[upgrade.args[0] :])
            except httptools.HttpParserError:
                self._refuse()
            if self._arriving:
                self._head_bytes = 0
            elif self._head_bytes > MAX_HEAD_BYTES:
                self._refuse()
        # When the service stops, it responds to what was read. It does not wait for what a client sends after that.
        if self._unparsed or (self._is_ending and not self._is_between_requests and not self._arriving):
            self._transport.pause_reading()
            return
        self._transport.resume_reading()
        if self._head_bytes and self._is_between_requests and self._closes_at > self._loop.time() + HEAD_SECONDS:
            self._close_at(self._loop.time() + HEAD_SECONDS)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Continues after the head of a request that offers another protocol (RFC 9110, section 7.8).

        The parser treats everything after such a head as data of the other protocol. So a new parser gets the headers
        that frame the body, and continues reading HTTP.
        """
        self._parser = self._new_parser()
        framing = [header for header in self._headers if header[0] in (b"content-length", b"transfer-encoding")]
        if framing:
            self._is_replaying = True
            self._parser.feed_data(
                b"POST / HTTP/1.1\r\n" + b"".join(b"%b: %b\r\n" % header for header in framing) + b"\r\n"
            )
            self._is_replaying = False
        elif self._arriving:
            self._message_complete(self._arriving)
        self._unparsed = rest + self._unparsed

    def on_message_begin(self) -> None:
        if not self._is_replaying:
            self._url, self._headers, self._is_head_complete = b"", [], False

    def on_url(self, url: bytes) -> None:
        if not self._is_replaying:
            self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # Header fields after a body (trailers) are ignored.
        if not self._is_replaying and self._arriving is None:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._is_replaying:
            return
        self._is_head_complete = True
        version = self._parser.get_http_version()
        headers = self._headers
        expects_continue = check_framing(version, self._parser.get_method(), headers)
        url = httptools.parse_url(self._url)
        raw_path: bytes = url.path or b"/"
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": version,
            "method": self._parser.get_method().decode(),
            "scheme": "http",
            "path": unquote(raw_path.decode("latin-1")),
            "raw_path": raw_path,
            "query_string": url.query or b"",
            "root_path": "",
            "headers": headers,
            "state": self._app_state.copy(),
            **self._addresses,
        }
        if self._is_behind_proxy:
            scope["client"] = self._client
        exchange = Exchange(
            self,
            scope,
            keep_alive=version == "1.1" and self._parser.should_keep_alive(),
            expects_continue=expects_continue,
        )
        self._arriving = exchange
        if self._is_between_requests:
            self._start(exchange)
        else:
            self._waiting.append(exchange)

    @property
    def _client(self) -> _Address | None:
        """The address of the client, with port 0 if it comes from the header of a proxy."""
        if self._is_behind_proxy and (client := self._proxies.client_of(self._headers)):
            return client, 0
        return self._addresses["client"]

    def on_body(self, body: bytes) -> None:
        if self._arriving and not self._arriving.is_complete:
            self._arriving.add_body(body)

    def on_message_complete(self) -> None:
        # A parser that sees an offer to upgrade calls this before the body; see `_ignore_upgrade`.
        if self._arriving and (self._is_replaying or not self._parser.should_upgrade()):
            self._message_complete(self._arriving)

    def _message_complete(self, exchange: Exchange) -> None:
        self._arriving = None
        self._head_bytes = 0
        exchange.end_body()
        if self._is_stopping:
            exchange.half_close()
        if exchange.is_complete and exchange is self._exchange:
            self._close_at(self._loop.time() + self._idle_seconds)

    # --- exchanges

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of every response: the date."""
        return self._server.default_headers

    @property
    def is_last(self) -> bool:
        """Whether the connection closes after the current exchange."""
        return self._is_ending and not self._waiting and not self._unparsed

    @property
    def _idle_seconds(self) -> float:
        return LAST_REQUEST_SECONDS if self._is_ending else self._keep_alive_seconds

    def _start(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._closes_at = math.inf
        task = self._loop.create_task(exchange.run(self._app))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def body_was_read(self) -> None:
        """Continues parsing, if it waited for the application to read the body."""
        if self._unparsed:
            self._parse()

    def response_complete(self) -> None:
        """Continues with the next request, or closes the connection."""
        exchange = self._exchange
        self._server.total_requests += 1
        if exchange is None:
            return
        if not exchange.keep_alive:
            self._linger() if self._arriving is exchange else self.close()
        elif self._is_refused and not self._waiting:
            self._send_refusal()
        elif exchange.status == 503:  # noqa: PLR2004 - RFC 9110, section 15.6.4
            self._is_pausing = True
            self._loop.call_later(PAUSE_SECONDS, self._next)
        else:
            self._next()

    def _next(self) -> None:
        self._is_pausing = False
        if self._transport.is_closing():
            return
        if self._waiting:
            self._start(self._waiting.popleft())
            return
        self._discarded_bytes = 0
        self._close_at(self._loop.time() + (LINGER_SECONDS if self._arriving else self._idle_seconds))
        if self._unparsed:
            self._parse()

    # --- input that is not HTTP

    def _refuse(self) -> None:
        """Responds with 400 after the complete requests before it, and closes.

        The bytes that follow cannot be parsed.
        """
        self._is_refused = True
        self._unparsed = b""
        broken = self._arriving
        if broken and broken in self._waiting:
            self._waiting.remove(broken)
        if broken and broken is self._exchange:
            broken.disconnect()
            self.close() if broken.status else self._send_refusal()
        elif self._is_between_requests:
            self._send_refusal()

    def _send_refusal(self) -> None:
        response = refusal(scope := self._refused)
        headers = [*self.default_headers, *response.raw_headers]
        lines = b"".join(b"%b: %b\r\n" % header for header in headers)
        body = b"" if scope["method"] == "HEAD" else bytes(response.body)
        self.write(b"HTTP/1.1 400 Bad Request\r\n" + lines + b"\r\n" + body)
        self._linger()

    @property
    def _refused(self) -> Scope:
        """A scope with the known parts of the broken request."""
        scope: Scope = {
            "type": "http",
            "method": UNKNOWN,
            "raw_path": b"",
            "root_path": self._root_path,
            # An incomplete head may lack `Accept`.
            "headers": self._headers if self._is_head_complete else [],
            # An incomplete head may lack the header of the proxy.
            "client": self._client if self._is_head_complete else self._addresses["client"],
        }
        if self._arriving:
            scope["method"], scope["raw_path"] = (self._arriving.scope[name] for name in ("method", "raw_path"))
        elif self._url:
            scope["method"] = self._parser.get_method().decode()
            scope["raw_path"] = self._url.partition(b"?")[0]
        return scope

    # --- output

    def write(self, data: bytes) -> None:
        """Sends `data`, unless the connection is closing."""
        if not self._transport.is_closing():
            self._transport.write(data)

    @property
    def is_full(self) -> bool:
        """Whether the client must read before more can be sent."""
        return self._writable is not None

    async def drain(self) -> None:
        """Waits until the client has read enough for more to be sent, or is gone."""
        while self._writable:
            await asyncio.shield(self._writable)

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()
        self._watch_unread(self._loop.time())

    def resume_writing(self) -> None:
        if self._writable:
            self._writable.set_result(None)
            self._writable = None

    def _watch_unread(self, last_progress: float) -> None:
        """Disconnects a client that reads nothing."""
        if self._transport.get_write_buffer_size() == 0 or self not in self._server.connections:
            return
        unread = self._unread_bytes
        now = self._loop.time()
        if unread != self._watched_bytes:
            self._watched_bytes, last_progress = unread, now
        seconds = LAST_REQUEST_SECONDS if self._is_stopping else UNREAD_SECONDS
        if now - last_progress >= seconds:
            self.reset()
            return
        # Only one timer: a second one would see no progress after the first has seen it.
        if self._watcher:
            self._watcher.cancel()
        self._watcher = self._loop.call_later(min(seconds, _WATCH_SECONDS), self._watch_unread, last_progress)

    @property
    def _unread_bytes(self) -> int:
        """Number of bytes that the client's system has not acknowledged.

        The kernel takes bytes from the buffer in lumps of a megabyte or so. By the buffer alone, as on other systems
        than Linux, a client that reads 30 KB a second seems to read nothing for half a minute.
        """
        return self._transport.get_write_buffer_size() + _bytes_in_kernel(self._transport.get_extra_info("socket"))

    # --- closing

    def reset(self) -> None:
        """Closes the connection at once with a TCP reset, and discards what is not sent yet, in the kernel too."""
        wire: socket.socket = self._transport.get_extra_info("socket")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._transport.abort()

    def close(self) -> None:
        """Closes the connection once everything is sent."""
        if not self._transport.is_closing():
            self._transport.close()
            self._watch_unread(self._loop.time())

    def _linger(self) -> None:
        """Ends the output and discards further input.

        Closing at once would reset the connection, and the response could get lost.
        """
        self._is_lingering = True
        self._unparsed = b""
        if self._transport.is_closing():
            return
        self._transport.write_eof()
        self._transport.resume_reading()
        self._close_at(self._loop.time() + (LAST_REQUEST_SECONDS if self._is_stopping else LINGER_SECONDS))
        self._watch_unread(self._loop.time())

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > MAX_LINGER_BYTES:
            self._transport.abort()

    def _close_at(self, time: float) -> None:
        self._closes_at = time
        if self._timer is None or self._timer.when() > time:
            if self._timer:
                self._timer.cancel()
            self._timer = self._loop.call_at(time, self._check_time)

    def _check_time(self) -> None:
        self._timer = None
        if self._closes_at <= self._loop.time():
            self.close()
        elif self._closes_at < math.inf:
            self._timer = self._loop.call_at(self._closes_at, self._check_time)

    def shutdown(self) -> None:
        """Stops: responds to the accepted requests, gives an idle client a moment for one more, then closes."""
        self._is_stopping = self._is_ending = True
        if self._is_lingering or (self._is_between_requests and not self._arriving):
            self._close_at(min(self._closes_at, self._loop.time() + LAST_REQUEST_SECONDS))
        elif not self._arriving:
            self._transport.pause_reading()
        for exchange in self._unfinished():
            if exchange.is_whole:
                exchange.half_close()
        self._watch_unread(self._loop.time())


def _address(transport: asyncio.BaseTransport, key: str) -> _Address | None:
    address: object = transport.get_extra_info(key)
    if not isinstance(address, tuple):
        return None
    host, port, *_ = cast("tuple[str, int]", address)
    # A socket for both IPv4 and IPv6 writes IPv4 addresses with this prefix.
    return host.removeprefix("::ffff:") if "." in host else host, port
