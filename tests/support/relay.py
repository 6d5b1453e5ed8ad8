"""A network between a service and its database that fails on command.

It forwards bytes without understanding them, so TLS works too.
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from support.ports import free_port

CALL_SECONDS = 10
# Closing a socket with this option sends RST instead of FIN.
NO_LINGER = struct.pack("ii", 1, 0)
POSTGRES_PORT = 5432

T = TypeVar("T")


def executes(request: bytes) -> bool:
    """Tells whether unencrypted messages of a client run a statement, that is, contain a Bind or a Query.

    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """
    while len(request) >= 5:
        if request[:1] in (b"B", b"Q"):
            return True
        request = request[1 + int.from_bytes(request[1:5], "big") :]
    return False


@dataclass
class Loss:
    """The order to lose one reply."""

    request: Callable[[bytes], bool]
    then: Literal["cut", "silence"]
    happened: threading.Event = field(default_factory=threading.Event)


class Relay:
    """Listens on the loopback interface and forwards to the server of a URL, for the duration of a `with` block.

    `url` is the same URL with the relay's address. The methods may be called from any thread, and their effect is
    complete when they return. `round_trips` counts, over all connections, how often the server began a reply. The
    count is exact while no connection is being established: a TLS handshake adds session tickets that no client asked
    for.
    """

    def __init__(self, url: str) -> None:
        target = urlsplit(url)
        self.lead_to(url)
        self.port = free_port()
        login, at, _ = target.netloc.rpartition("@")
        self.url = target._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()
        self.connections_made = 0
        self.round_trips = 0
        self.flowing = True
        self.seconds_to_server = self.seconds_to_client = 0.0
        self._loss: Loss | None = None
        self._listener: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._forwarding: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def open(self) -> None:
        """Accepts connections. A new relay is open."""
        self._do(self._open())

    def lead_to(self, url: str) -> None:
        """Forwards new connections to the server of another URL."""
        target = urlsplit(url)
        self._target = str(target.hostname), target.port or POSTGRES_PORT

    def close(self) -> None:
        """Refuses new connections and ends the existing ones (FIN)."""
        self._do(self._close())

    def cut(self) -> None:
        """Ends every connection in an orderly way on both sides (FIN)."""
        self._do(self._drop(reset=False))

    def reset(self) -> None:
        """Resets every connection on both sides (RST)."""
        self._do(self._drop(reset=True))

    def black_hole(self) -> None:
        """Accepts and keeps connections but forwards nothing, not even the end of a connection, until `restore`."""
        self.flowing = False

    def forget(self, *, silently: bool) -> None:
        """Forgets every connection without telling either side, as an address translator does.

        A client that then sends something gets a reset or, with `silently`, nothing. The server keeps its side open
        until `restore`.
        """
        for connection in self._connections:
            connection.forgotten = "silence" if silently else "reset"

    def mute(self) -> None:
        """Loses everything that the server sends from now on, over the existing connections. Both sides stay open."""
        for connection in self._connections:
            connection.is_silent = True

    def restore(self) -> None:
        """Undoes every fault except `close`.

        Bytes that were held back are delivered first, as TCP does. Forgotten connections end on both sides, as they do
        when keepalive probes fail.
        """
        self._do(self._restore())

    def delay(self, *, to_server: float = 0, to_client: float = 0) -> None:
        """Delays the bytes sent from now on, per direction and in seconds."""
        self.seconds_to_server, self.seconds_to_client = to_server, to_client

    def swallow(
        self, request: Callable[[bytes], bool] = executes, *, then: Literal["cut", "silence"]
    ) -> threading.Event:
        """Loses the reply to the next request, on any connection, for which `request` returns true.

        The connection is then cut, or stays open in silence. The returned event is set when the reply is lost, which
        is after the server did the work. A request is everything that a client sent since the server last spoke. For a
        prepared statement it contains the parameters but not the SQL text; nothing can be read if it is encrypted.
        """
        self._loss = Loss(request, then)
        return self._loss.happened

    def loss_of_reply_to(self, request: bytes) -> Loss | None:
        """Returns what should happen to the reply. Each order is handed out once."""
        loss = self._loss
        if loss is None or not loss.request(request):
            return None
        self._loss = None
        return loss

    @property
    def connections_open(self) -> int:
        """The number of connections that clients hold open."""
        return self._do(self._count())

    def _do(self, action: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(CALL_SECONDS)

    async def _open(self) -> None:
        if self._listener is None:
            self._listener = await self._loop.create_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._listener:
            self._listener.close()
            self._listener = None
        await self._drop(reset=False)

    async def _drop(self, *, reset: bool) -> None:
        for connection in self._connections:
            for end in (connection.client, connection.server):
                end.drop(reset=reset)

    async def _restore(self) -> None:
        self.flowing = True
        self._loss = None
        self.delay()
        for connection in self._connections:
            for end in (connection.client, connection.server):
                if connection.forgotten:
                    end.drop(reset=False)
                else:
                    end.flow()

    async def _count(self) -> int:
        return sum(not connection.client.gone for connection in self._connections)

    async def _end(self) -> None:
        await self._close()
        for task in self._forwarding:
            task.cancel()
        await asyncio.gather(*self._forwarding, return_exceptions=True)

    def _accept(self) -> asyncio.Protocol:
        self.connections_made += 1
        self._connections = {one for one in self._connections if not (one.client.gone and one.server.gone)}
        connection = _Connection(self)
        self._connections.add(connection)
        task = self._loop.create_task(self._connect_onward(connection))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)
        return connection.client

    async def _connect_onward(self, connection: "_Connection") -> None:
        try:
            await self._loop.create_connection(lambda: connection.server, *self._target)
        except OSError as error:
            connection.server.connection_lost(error)


class _Connection:
    """A client's connection to the relay, and the relay's connection to the server."""

    def __init__(self, relay: Relay) -> None:
        self.client = _End(relay, self._from_client)
        self.server = _End(relay, self._from_server)
        self._relay = relay
        self._request = b""
        self._loss: Loss | None = None
        self.is_silent = False
        self.forgotten: Literal["silence", "reset"] | None = None

    def _from_client(self, data: bytes) -> None:
        if self.forgotten:
            if self.forgotten == "reset":
                self.client.drop(reset=True)
            return
        self._request += data
        if data and not self._loss:
            self._loss = self._relay.loss_of_reply_to(self._request)
        self._forward(data, self.server, self._relay.seconds_to_server)

    def _from_server(self, data: bytes) -> None:
        if data and self._request:
            self._relay.round_trips += 1
            self._request = b""
        if data and self._loss:
            self._lose_reply(self._loss)
        self._forward(data, self.client, self._relay.seconds_to_client)

    def _lose_reply(self, loss: Loss) -> None:
        self._loss = None
        self.is_silent = True
        if loss.then == "cut":
            self.client.drop(reset=False)
            self.server.drop(reset=False)
        loss.happened.set()

    def _forward(self, data: bytes, to: "_End", seconds: float) -> None:
        if not data or not self.is_silent:
            to.send(data, seconds)


class _End(asyncio.Protocol):
    """One of the relay's two sockets for a connection. Empty bytes mean the end of the stream, in both directions."""

    def __init__(self, relay: Relay, receive: Callable[[bytes], None]) -> None:
        self.gone = False
        self._relay = relay
        self._receive = receive
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()
        self._due = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.flow()

    def data_received(self, data: bytes) -> None:
        self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio passes it
        self.gone = True
        self._receive(b"")

    def send(self, data: bytes, seconds: float) -> None:
        self._waiting.append(data)
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._fall_due)
        else:
            self._fall_due()

    def _fall_due(self) -> None:
        self._due += 1
        self.flow()

    def flow(self) -> None:
        """Sends what is due. Counting due chunks, instead of marking them, keeps the order whatever the delays."""
        while self._due and self._transport and self._relay.flowing:
            self._due -= 1
            if data := self._waiting.popleft():
                self._transport.write(data)
            else:
                self._transport.close()

    def drop(self, *, reset: bool) -> None:
        if self._transport:
            if reset and not self.gone:
                wire = self._transport.get_extra_info("socket")
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
            self._transport.abort()
