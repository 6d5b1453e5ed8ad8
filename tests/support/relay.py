"""A network between a service and its database, that fails when it is told to.

It carries bytes and knows nothing of what they mean, so that TLS passes too.
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

CALL_SECONDS = 10
LINGER_NOT_AT_ALL = struct.pack("ii", 1, 0)
POSTGRES_PORT = 5432

T = TypeVar("T")


def executes(request: bytes) -> bool:
    """Whether a client's messages, in plain text, run a statement: there is a Bind or a Query among them.

    https://www.postgresql.org/docs/current/protocol-message-formats.html
    """
    while len(request) >= 5:
        if request[:1] in (b"B", b"Q"):
            return True
        request = request[1 + int.from_bytes(request[1:5], "big") :]
    return False


@dataclass
class Loss:
    """A reply that is to be lost."""

    request: Callable[[bytes], bool]
    then: Literal["cut", "silence"]
    happened: threading.Event = field(default_factory=threading.Event)


class Relay:
    """A port of the loopback interface that leads to the server of a URL, while the `with` lasts.

    `url` is that URL, through here. Any thread may call the methods; what they say has happened when they return.
    `round_trips` is how often a server began to answer, over all connections. It is exact between two moments at which
    connections are established; during a TLS handshake the server also sends tickets that nobody asked for.
    """

    def __init__(self, url: str) -> None:
        there = urlsplit(url)
        self._target = str(there.hostname), there.port or POSTGRES_PORT
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        login, at, _ = there.netloc.rpartition("@")
        self.url = there._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()
        self.connections_made = 0
        self.round_trips = 0
        self.flowing = True
        self.seconds_to_server = self.seconds_to_client = 0.0
        self._loss: Loss | None = None
        self._entrance: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._ways: set[asyncio.Task[None]] = set()
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
        """Accepts connections, as it also does at first."""
        self._do(self._open())

    def close(self) -> None:
        """Refuses connections, and cuts those that there are."""
        self._do(self._close())

    def cut(self) -> None:
        """Ends every connection at both ends, in order (FIN)."""
        self._do(self._drop(reset=False))

    def reset(self) -> None:
        """Breaks every connection at both ends (RST)."""
        self._do(self._drop(reset=True))

    def black_hole(self) -> None:
        """Keeps every connection open, new ones too, and carries nothing, not even an end, until `restore`."""
        self.flowing = False

    def forget(self, *, silently: bool) -> None:
        """Loses track of every connection, and tells nobody: who then sends something is reset, or hears nothing."""
        for connection in self._connections:
            connection.forgotten = "silence" if silently else "reset"

    def restore(self) -> None:
        """Carries again, and first what was sent meanwhile, as TCP does."""
        self._do(self._restore())

    def delay(self, *, to_server: float = 0, to_client: float = 0) -> None:
        """Lets what is sent from now on take so many seconds."""
        self.seconds_to_server, self.seconds_to_client = to_server, to_client

    def swallow(
        self, request: Callable[[bytes], bool] = executes, *, then: Literal["cut", "silence"]
    ) -> threading.Event:
        """Loses one reply: to the next request, on any connection, of which `request` is true.

        Then the connection is cut, or stays open and nothing comes through. The event is set when the reply is lost; the
        server has then done what it was asked. A request is all that a client sent since the server last spoke. Of a
        prepared statement it holds the parameters, but not the text; of an encrypted one there is nothing to see.
        """
        self._loss = Loss(request, then)
        return self._loss.happened

    def loss_of_reply_to(self, request: bytes) -> Loss | None:
        """What is to happen to the reply; each is handed out once."""
        loss = self._loss
        if loss is None or not loss.request(request):
            return None
        self._loss = None
        return loss

    @property
    def connections_open(self) -> int:
        """How many connections clients hold open."""
        return self._do(self._count())

    def _do(self, action: Coroutine[None, None, T]) -> T:
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(CALL_SECONDS)

    async def _open(self) -> None:
        if self._entrance is None:
            self._entrance = await self._loop.create_server(self._accept, "127.0.0.1", self.port)

    async def _close(self) -> None:
        if self._entrance:
            self._entrance.close()
            self._entrance = None
        await self._drop(reset=False)

    async def _drop(self, *, reset: bool) -> None:
        for connection in self._connections:
            for end in (connection.client, connection.server):
                end.drop(reset=reset)

    async def _restore(self) -> None:
        self.flowing = True
        for connection in self._connections:
            connection.client.flow()
            connection.server.flow()

    async def _count(self) -> int:
        return sum(not connection.client.gone for connection in self._connections)

    async def _end(self) -> None:
        await self._close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    def _accept(self) -> asyncio.Protocol:
        self.connections_made += 1
        self._connections = {one for one in self._connections if not (one.client.gone and one.server.gone)}
        connection = _Connection(self)
        self._connections.add(connection)
        way = self._loop.create_task(self._lead_on(connection))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)
        return connection.client

    async def _lead_on(self, connection: "_Connection") -> None:
        try:
            await self._loop.create_connection(lambda: connection.server, *self._target)
        except OSError as error:
            connection.server.connection_lost(error)


class _Connection:
    """A client's connection, and the one that leads on from it to the server."""

    def __init__(self, relay: Relay) -> None:
        self.client = _End(relay, self._from_client)
        self.server = _End(relay, self._from_server)
        self._relay = relay
        self._request = b""
        self._loss: Loss | None = None
        self._silent = False
        self.forgotten: Literal["silence", "reset"] | None = None

    def _from_client(self, data: bytes) -> None:
        if self.forgotten:
            if self.forgotten == "reset":
                self.client.drop(reset=True)
            return
        self._request += data
        if data and not self._loss:
            self._loss = self._relay.loss_of_reply_to(self._request)
        self._carry(data, self.server, self._relay.seconds_to_server)

    def _from_server(self, data: bytes) -> None:
        if data and self._request:
            self._relay.round_trips += 1
            self._request = b""
        if data and self._loss:
            self._lose_reply(self._loss)
        self._carry(data, self.client, self._relay.seconds_to_client)

    def _lose_reply(self, loss: Loss) -> None:
        self._loss = None
        self._silent = True
        if loss.then == "cut":
            self.client.drop(reset=False)
            self.server.drop(reset=False)
        loss.happened.set()

    def _carry(self, data: bytes, to: "_End", seconds: float) -> None:
        if not data or not self._silent:
            to.send(data, seconds)


class _End(asyncio.Protocol):
    """One of the two ends of a connection; nothing, `b""`, is what it hears and says when that is the last."""

    def __init__(self, relay: Relay, heard: Callable[[bytes], None]) -> None:
        self.gone = False
        self._relay = relay
        self._heard = heard
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[bytes] = deque()
        self._due = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.flow()

    def data_received(self, data: bytes) -> None:
        self._heard(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self.gone = True
        self._heard(b"")

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
        """Sends what is due. Only how much is due is kept, so that no delay can change the order."""
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
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT_AT_ALL)
            self._transport.abort()
