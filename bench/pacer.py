"""Send requests at a given rate. wrk cannot do this."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

import uvloop

CONNECTING_AT_ONCE = 50

# The status of a request that got no response.
LOST = 0


@dataclass(frozen=True)
class Response:
    """The outcome of a request; the time counts from the moment it was sent."""

    status: int
    milliseconds: float


@dataclass(frozen=True)
class Responses:
    """The outcome of a run."""

    all: Sequence[Response]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.all) / self.seconds

    def share(self, status: int) -> float:
        return Counter(one.status for one in self.all)[status] / len(self.all)

    def percentile(self, percent: int, *statuses: int) -> float:
        """Returns milliseconds, from the responses that have one of these statuses."""
        times = [one.milliseconds for one in self.all if one.status in statuses]
        return statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else float("nan")


def pace(url: str, request: Callable[[], bytes], per_second: float, seconds: float, connections: int) -> Responses:
    """Sends what `request()` returns, `per_second` times a second, over `connections` that take turns.

    A connection that still waits for a response when its turn comes sends as soon as it has the response.
    """
    return uvloop.run(_pace(url, request, per_second, seconds, connections))


async def _pace(
    url: str, request: Callable[[], bytes], per_second: float, seconds: float, connections: int
) -> Responses:
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
    responses: list[Response] = []

    async def connect() -> _Connection:
        """Returns a connection that the server has accepted. The kernel accepts it earlier than the server does."""
        async with connecting:
            _, connection = await loop.create_connection(_Connection, address.hostname, address.port)
            await connection.send(f"GET /health HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
            return connection

    async def send_in_turn(connection: _Connection, begin: float) -> None:
        due = begin
        while due < end:
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            response = await connection.send(request())
            responses.append(response)
            if response.status == LOST:
                connection = await connect()
            due = max(due + connections / per_second, time.perf_counter())
        connection.transport.close()

    opened = await asyncio.gather(*[connect() for _ in range(connections)])
    started = time.perf_counter()
    end = started + seconds
    await asyncio.gather(*[send_in_turn(one, started + number / per_second) for number, one in enumerate(opened)])
    return Responses(responses, time.perf_counter() - started)


class _Connection(asyncio.Protocol):
    """A client connection. asyncio's streams would use more CPU than the server, on the same cores."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self._sent = 0.0
        self._status = LOST
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self, request: bytes) -> "asyncio.Future[Response]":
        """Sends a request; the future is done when the whole response has arrived."""
        self._response = asyncio.get_running_loop().create_future()
        self._sent, self._status = time.perf_counter(), LOST
        if self.transport.is_closing():
            self._end(LOST)
        else:
            self.transport.write(request)
        return self._response

    def data_received(self, data: bytes) -> None:
        if self._status == LOST:
            # The server sends the whole head in one piece.
            head, _, data = data.partition(b"\r\n\r\n")
            self._status = int(head[9:12])
            self._missing = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        self._missing -= len(data)
        if not self._missing:
            self._end(self._status)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._response.done():
            self._end(LOST)

    def _end(self, status: int) -> None:
        self._response.set_result(Response(status, (time.perf_counter() - self._sent) * 1000))
