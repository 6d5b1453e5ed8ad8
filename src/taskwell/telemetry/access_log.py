"""The access log: a line for each request, written a tenth of a second at a time.

A record of `logging` for each line was a quarter of all that is done for a request before the database. What a line says is noted
instead when a request ends, and the lines become records of as many as can be written at once. What was not written yet when the
process is killed, or told to end twice, is lost; when it ends, it is written.
"""

import asyncio
import logging
import time
from collections.abc import Iterable, Iterator

FLUSH_SECONDS = 0.1

# What is written to a pipe at once is not torn apart by other processes up to this size (POSIX, PIPE_BUF; here Linux's).
MAX_WRITE_BYTES = 4096

logger = logging.getLogger("taskwell.access")

# When the request ended, its id, method, path and status, and how many seconds it took.
_Entry = tuple[float, str, str, str, int, float]


class AccessLog:
    """The requests of one event loop."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def note(self, request_id: str, method: str, path: str, status: int, seconds: float) -> None:
        """Notes a request that has ended."""
        if not self._entries:
            if not logger.isEnabledFor(logging.INFO):
                return
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._entries.append((time.time(), request_id, method, path, status, seconds))

    def flush(self) -> None:
        """Writes the lines of what was noted since the last time."""
        entries, self._entries = self._entries, []
        for batch in _batches(_lines(entries)):
            logger.info(batch)


def _lines(entries: Iterable[_Entry]) -> Iterator[str]:
    written_out, text = 0, ""
    for ended, request_id, method, path, status, seconds in entries:
        second = int(ended)
        if second != written_out:
            written_out, text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        yield (
            f"{text},{int((ended - second) * 1000):03} INFO taskwell.access "
            f"request_id={request_id} {method} {path} {status} {seconds * 1000:.1f}ms"
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
