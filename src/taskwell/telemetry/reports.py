"""One scrape for all worker processes: whoever serves the metrics asks each worker for its report.

A report is the worker's metrics at this moment. In the scrape each sample has the label `worker`, so the samples of a
worker that died and was replaced begin at zero again, as Prometheus expects of counters. See
docs/adr/0014-one-scrape-asks-every-worker.md.
"""

import asyncio
import multiprocessing
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from multiprocessing.connection import Connection

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

REPLY_SECONDS = 2
"""A worker that does not report within this time is shown as down. Prometheus waits for 10 seconds by default."""


class Reports:
    """The reports of all workers."""

    def __init__(self) -> None:
        self._connections: dict[int, Connection] = {}
        self._restarts = 0
        self._numbers = count()
        self._lock = threading.Lock()

    def connect(self, worker: int) -> Connection:
        """Returns the worker's end of a connection. A worker that has one already is replaced by a new process."""
        ours, its = multiprocessing.Pipe()
        if replaced := self._connections.get(worker):
            self._restarts += 1
            replaced.close()
        # pyright takes the type of Windows, which has the same methods.
        self._connections[worker] = ours  # pyright: ignore[reportArgumentType]
        return its  # pyright: ignore[reportReturnType]

    def collect(self) -> Iterator[Metric]:
        """Asks all workers at once, and yields their metrics together."""
        with self._lock:
            reports = self._ask()
        up = GaugeMetricFamily("taskwell_worker_up", "Whether the worker process reports.", labels=["worker"])
        for worker, report in reports.items():
            up.add_metric([str(worker)], report is not None)
        yield up
        yield CounterMetricFamily(
            "taskwell_worker_restarts", "Worker processes that died and were replaced.", self._restarts
        )
        yield from _merged(reports)

    def _ask(self) -> dict[int, Sequence[Metric] | None]:
        number = next(self._numbers)
        connections = self._connections.copy()
        for connection in connections.values():
            with suppress(OSError):
                connection.send(number)
        deadline = time.monotonic() + REPLY_SECONDS
        return {worker: _reply(connection, number, deadline) for worker, connection in connections.items()}


def _reply(connection: Connection, number: int, deadline: float) -> Sequence[Metric] | None:
    """Returns the reply to the question `number`, or None. An earlier one may come first, if it was late."""
    with suppress(EOFError, OSError):
        while connection.poll(max(deadline - time.monotonic(), 0)):
            answered, report = connection.recv()
            if answered == number:
                metrics: Sequence[Metric] = report
                return metrics
    return None


def _merged(reports: dict[int, Sequence[Metric] | None]) -> Iterable[Metric]:
    """Returns one metric for each name, because the format has all samples of a name together."""
    merged: dict[str, Metric] = {}
    for worker, report in reports.items():
        for metric in report or ():
            found = merged.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
            found.samples += [
                sample._replace(labels={**sample.labels, "worker": str(worker)}) for sample in metric.samples
            ]
    return merged.values()


def report_to(connection: Connection, collect: Callable[[], Iterable[Metric]]) -> None:
    """Answers on `connection`, for as long as the process lives. Call it in the event loop of the service.

    The event loop itself collects, so a report is consistent, and a loop that hangs does not report.
    """
    loop = asyncio.get_running_loop()

    async def report() -> list[Metric]:
        return list(collect())

    def answer() -> None:
        # RuntimeError: the event loop has ended.
        with suppress(EOFError, OSError, RuntimeError):
            while True:
                number = connection.recv()
                connection.send((number, asyncio.run_coroutine_threadsafe(report(), loop).result()))

    threading.Thread(target=answer, name="metrics", daemon=True).start()
