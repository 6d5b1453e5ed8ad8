"""The access log: one line for each request, written in batches every tenth of a second.

One `logging` record for each line took a quarter of a request's time outside the database. So the log
collects finished requests, and writes a batch of lines as one record. A process that stops writes the remaining lines. A
process that is killed, or signalled twice, loses them.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator

from taskwell.telemetry.requests import request_name

FLUSH_SECONDS = 0.1

# Several processes may share a pipe. Up to this size, a write is never mixed with others (POSIX, PIPE_BUF on Linux).
MAX_WRITE_BYTES = 4096

logger = logging.getLogger("taskwell.access")

# The time when the request ended, its id, the client's address, method, path and status, and its duration in seconds.
_Entry = tuple[float, str, str, str, bytes, int, float]


class AccessLog:
    """The access log of one event loop."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def note(  # noqa: PLR0913, PLR0917 - an object that holds them would cost time in every request
        self, request_id: str, client: str, method: str, raw_path: bytes, status: int, seconds: float
    ) -> None:
        """Adds a request that has ended."""
        if not self._entries:
            if not logger.isEnabledFor(logging.INFO):
                return
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._entries.append((time.time(), request_id, client, method, raw_path, status, seconds))

    def flush(self) -> None:
        """Writes the lines for all requests added since the last call."""
        entries, self._entries = self._entries, []
        for batch in _batches(_lines(entries)):
            logger.info(batch)


def _lines(entries: Iterable[_Entry]) -> Iterator[str]:
    formatted, text = 0, ""
    for ended, request_id, client, method, raw_path, status, seconds in entries:
        second = int(ended)
        if second != formatted:
            formatted, text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        yield (
            f"{text}.{int((ended - second) * 1000):03}Z INFO taskwell.access "
            f"{request_name(request_id, client, method, raw_path)} {status} {seconds * 1000:.1f}ms"
        )


def _batches(lines: Iterable[str]) -> Iterator[str]:
    batch, size = list[str](), 0
    for line in lines:
        if size + len(line) + 1 > MAX_WRITE_BYTES:
            yield "\n".join(batch)
            batch, size = [], 0
        batch.append(line)
        size += len(line) + 1
    if batch:
        yield "\n".join(batch)
