"""Requests at a given rate, each on its time whether or not the ones before were answered. wrk has no rate."""

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

# No answer came, or none that could be read.
LOST = 0


@dataclass(frozen=True)
class Answer:
    """What came of a request; the time is from when it was sent."""

    status: int
    milliseconds: float


@dataclass(frozen=True)
class Answers:
    """What came of all of them."""

    all: Sequence[Answer]
    seconds: float

    @property
    def per_second(self) -> float:
        return len(self.all) / self.seconds

    def share(self, status: int) -> float:
        return Counter(one.status for one in self.all)[status] / len(self.all)

    def percentile(self, percent: int, *statuses: int) -> float:
        """Milliseconds, of the answers that had one of these statuses."""
        times = [one.milliseconds for one in self.all if one.status in statuses]
        return statistics.quantiles(times, n=100)[percent - 1] if len(times) > 1 else float("nan")


def pace(url: str, request: Callable[[], bytes], per_second: float, seconds: float, connections: int) -> Answers:
    """Sends what `request` makes, over so many connections in turn. One that waits for an answer sends when it has it."""
    return uvloop.run(_pace(url, request, per_second, seconds, connections))


async def _pace(url: str, request: Callable[[], bytes], per_second: float, seconds: float, connections: int) -> Answers:
    where = urlsplit(url)
    loop = asyncio.get_running_loop()
    turns = asyncio.Semaphore(CONNECTING_AT_ONCE)
    answers: list[Answer] = []

    async def connect() -> _Wire:
        """A connection that the server has taken: the kernel gives it to us before that."""
        async with turns:
            _, wire = await loop.create_connection(_Wire, where.hostname, where.port)
            await wire.ask(f"GET /health HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            return wire

    async def ask(wire: _Wire, begin: float) -> None:
        due = begin
        while due < end:
            if (pause := due - time.perf_counter()) > 0:
                await asyncio.sleep(pause)
            answer = await wire.ask(request())
            answers.append(answer)
            if answer.status == LOST:
                wire = await connect()
            due = max(due + connections / per_second, time.perf_counter())
        wire.transport.close()

    wires = await asyncio.gather(*[connect() for _ in range(connections)])
    started = time.perf_counter()
    end = started + seconds
    await asyncio.gather(*[ask(wire, started + number / per_second) for number, wire in enumerate(wires)])
    return Answers(answers, time.perf_counter() - started)


class _Wire(asyncio.Protocol):
    """A connection, without asyncio's streams: they would take more time than the server does, on the same cores."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._sent = 0.0
        self._status = LOST
        self._missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def ask(self, request: bytes) -> "asyncio.Future[Answer]":
        """Sends a request; its answer comes whole."""
        self._answer = asyncio.get_running_loop().create_future()
        self._sent, self._status = time.perf_counter(), LOST
        if self.transport.is_closing():
            self._end(LOST)
        else:
            self.transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        if self._status == LOST:
            # A head comes in one piece, as the server sends it in one.
            head, _, data = data.partition(b"\r\n\r\n")
            self._status = int(head[9:12])
            self._missing = int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])
        self._missing -= len(data)
        if not self._missing:
            self._end(self._status)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._answer.done():
            self._end(LOST)

    def _end(self, status: int) -> None:
        self._answer.set_result(Answer(status, (time.perf_counter() - self._sent) * 1000))
