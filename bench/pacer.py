"""Requests at a given rate, each on its time whether or not the ones before were answered. wrk has no rate."""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    turns = asyncio.Semaphore(CONNECTING_AT_ONCE)
    answers: list[Answer] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection that the server has taken: the kernel gives it to us before that."""
        async with turns:
            reader, writer = await asyncio.open_connection(where.hostname, where.port)
            writer.write(f"GET /health HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
            await _read_status(reader)
            return reader, writer

    async def ask(wire: tuple[asyncio.StreamReader, asyncio.StreamWriter], begin: float) -> None:
        reader, writer = wire
        due = begin
        while due < end:
            await asyncio.sleep(due - time.perf_counter())
            sent = time.perf_counter()
            try:
                writer.write(request())
                status = await _read_status(reader)
            except (OSError, asyncio.IncompleteReadError):
                status = LOST
                reader, writer = await connect()
            answers.append(Answer(status, (time.perf_counter() - sent) * 1000))
            due = max(due + connections / per_second, time.perf_counter())
        writer.close()

    wires = await asyncio.gather(*[connect() for _ in range(connections)])
    started = time.perf_counter()
    end = started + seconds
    await asyncio.gather(*[ask(wire, started + number / per_second) for number, wire in enumerate(wires)])
    return Answers(answers, time.perf_counter() - started)


async def _read_status(reader: asyncio.StreamReader) -> int:
    """Reads a whole answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
    )
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
