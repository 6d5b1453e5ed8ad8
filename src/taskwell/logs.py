"""The log: a line for each event, to standard error."""

import asyncio
import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

FLUSH_SECONDS = 0.1

# What is written to a pipe at once is not torn apart by other processes up to this size (POSIX, PIPE_BUF; here Linux's).
MAX_WRITE_BYTES = 4096

# Facts of a record that no line of ours tells, and that cost more to find than the line to write
# (https://docs.python.org/3/howto/logging.html#optimization).
logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
logging._srcfile = None  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


def configuration(level: str) -> dict[str, Any]:
    """For `logging.config.dictConfig`, and for uvicorn. Only the access log, a line for each request, is written in batches."""
    line = "%(asctime)s %(levelname)s %(name)s %(message)s"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": Formatter, "fmt": line}},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "line"},
            "batches": {"()": BatchHandler, "formatter": "line"},
        },
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {"taskwell.access": {"handlers": ["batches"], "propagate": False}},
    }


class Formatter(logging.Formatter):
    """The standard one, which writes out each second once."""

    _second = 0
    _text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - its name
        del datefmt
        second = int(record.created)
        if second != self._second:
            self._second, self._text = second, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        return f"{self._text},{record.msecs:03.0f}"


class BatchHandler(logging.Handler):
    """Writes what came in a tenth of a second at once; one system call for each line costs more than the line.

    What was not written yet when the process is killed is lost; when it ends, it is written.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.append(self.format(record) + "\n")
            self._flush_soon()
        except Exception:  # noqa: BLE001 - as every handler of the standard library does
            self.handleError(record)

    def _flush_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        lines, self._lines, self._loop = self._lines, [], None
        if sys.stderr:
            for batch in _batches(lines):
                sys.stderr.write(batch)
            sys.stderr.flush()


def _batches(lines: Iterable[str]) -> Iterator[str]:
    batch = ""
    for line in lines:
        if len(batch) + len(line) > MAX_WRITE_BYTES:
            yield batch
            batch = ""
        batch += line
    if batch:
        yield batch
