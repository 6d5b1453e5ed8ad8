"""The access log: one line for each request, written in batches every tenth of a second.

One `logging` record for each line took a quarter of a request's time outside the database. So the log
collects finished requests, and writes a batch of lines as one record. A process that stops writes the remaining lines. A
process that is killed, or signalled twice, loses them.
"""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import orjson

from taskwell.telemetry.logs import LogFormat, has_colours
from taskwell.telemetry.requests import printable_path, request_name

FLUSH_SECONDS = 0.1

# Several processes may share a pipe. Up to this size, a write is never mixed with others (POSIX, PIPE_BUF on Linux).
MAX_WRITE_BYTES = 4096

_RESET = "\x1b[0m"
_COLOURS_OF_STATUS = {2: "\x1b[32m", 3: "\x1b[36m", 4: "\x1b[33m", 5: "\x1b[31m"}

# A path that needs no escapes, neither in the log nor in JSON.
_PLAIN_PATH = re.compile(rb"[!#-\[\]-~]+")

logger = logging.getLogger("taskwell.access")

# When the request ended, its id, its trace id, its user, the client's address, the method, the route, the path, the
# status, the duration in seconds, the number of bytes sent, and the error code.
_Entry = tuple[float, str, str | None, str | None, str, str, str | None, bytes, int, float, int, str | None]
_Format = Callable[[str, _Entry], str]


class AccessLog:
    """The access log of one event loop."""

    def __init__(self, chosen: LogFormat) -> None:
        self._entries: list[_Entry] = []
        self._format = _json if chosen == "json" else _coloured if has_colours(chosen) else _text

    def note(  # noqa: PLR0913, PLR0917 - an object that holds them would cost time in every request
        self,
        request_id: str,
        trace_id: str | None,
        user_id: str | None,
        client: str,
        method: str,
        route: str | None,
        raw_path: bytes,
        status: int,
        seconds: float,
        sent_bytes: int,
        error_code: str | None,
    ) -> None:
        """Adds a request that has ended. docs/telemetry.md describes its fields."""
        if not self._entries:
            if not logger.isEnabledFor(logging.INFO):
                return
            asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)
        self._entries.append(
            (
                time.time(), request_id, trace_id, user_id, client, method, route, raw_path, status, seconds, sent_bytes,
                error_code,
            )
        )  # fmt: skip

    def flush(self) -> None:
        """Writes the lines for all requests added since the last call."""
        entries, self._entries = self._entries, []
        for batch in _batches(_lines(entries, self._format)):
            logger.info(batch)


def _lines(entries: Iterable[_Entry], format_: _Format) -> Iterator[str]:
    formatted, text = 0, ""
    for entry in entries:
        ended = entry[0]
        second = int(ended)
        if second != formatted:
            formatted, text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        yield format_(f"{text}.{int((ended - second) * 1000):03}Z", entry)


def _text(ended: str, entry: _Entry) -> str:
    _, request_id, _, _, client, method, _, raw_path, status, seconds, _, _ = entry
    name = request_name(request_id, client, method, raw_path)
    return f"{ended} INFO taskwell.access {name} {status} {seconds * 1000:.1f}ms"


def _coloured(ended: str, entry: _Entry) -> str:
    before, status, duration = _text(ended, entry).rsplit(" ", 2)
    return f"{before} {_COLOURS_OF_STATUS[int(status[0])]}{status}{_RESET} {duration}"


def _json(ended: str, entry: _Entry) -> str:
    # By hand, from parts that repeat: it takes half of the time that a dict and orjson do. An id of a request or a trace
    # has no character that JSON escapes.
    _, request_id, trace_id, user_id, client, method, route, raw_path, status, seconds, sent_bytes, error_code = entry
    path = f'"{raw_path.decode()}"' if _PLAIN_PATH.fullmatch(raw_path) else _as_json(printable_path(raw_path))
    return (
        f'{{"time":"{ended}","level":"INFO","logger":"taskwell.access","request_id":"{request_id}",'
        f'"trace_id":{_as_json(trace_id)},"user_id":{_as_json(user_id)},"client":{_as_json(client)},'
        f'"path":{path},{_kind(method, route, status, error_code)},"duration_ms":{seconds * 1000:.1f},"bytes":{sent_bytes}}}'
    )


@lru_cache(1024)
def _as_json(text: str | None) -> str:
    return orjson.dumps(text).decode()


@lru_cache(1024)
def _kind(method: str, route: str | None, status: int, error_code: str | None) -> str:
    members = {"method": method, "route": route, "status": status, "error_code": error_code}
    return orjson.dumps(members).decode()[1:-1]


def _batches(lines: Iterable[str]) -> Iterator[str]:
    batch, size = list[str](), 0
    for line in lines:
        line_size = 1 + (len(line) if line.isascii() else len(line.encode()))
        if size + line_size > MAX_WRITE_BYTES:
            yield "\n".join(batch)
            batch, size = [], 0
        batch.append(line)
        size += line_size
    if batch:
        yield "\n".join(batch)
