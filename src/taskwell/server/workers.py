"""Serves in several processes: starts them, replaces one that dies, and stops them without losing a request."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import TYPE_CHECKING

from taskwell.server.run import serve
from taskwell.settings import Settings
from taskwell.telemetry.logs import start_logging

if TYPE_CHECKING:
    from taskwell.telemetry.reports import Reports

RESTART_SECONDS = 0.5
"""Pause before a worker process that died is replaced, so that workers that keep dying use little CPU."""

logger = logging.getLogger(__name__)

# A fork would copy locks that other threads hold, and the copies would never be released.
_context = multiprocessing.get_context("spawn")


def serve_with_workers(
    listener: socket.socket, count: int, on_start: Callable[[], None], reports: "Reports | None" = None
) -> None:
    """Serves in `count` worker processes until SIGTERM or Ctrl-C. Each worker reads the settings from the environment.

    Calls `on_start` once all of them accept requests.

    Raises:
        OSError: a worker ended before it accepted requests; the log says why.
    """
    workers = [_Worker(listener, number, reports) for number in range(count)]
    wakeup, signalled = os.pipe()

    def stop(number: int, frame: object) -> None:
        del number, frame
        os.write(signalled, b"x")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    is_announced = False
    try:
        while True:
            ended = wait(
                [wakeup, *[worker.process.sentinel for worker in workers]], timeout=None if is_announced else 0.05
            )
            if wakeup in ended:
                return
            if not is_announced and all(worker.has_started.is_set() for worker in workers):
                is_announced = True
                on_start()
            for index, worker in enumerate(workers):
                if worker.process.sentinel in ended:
                    workers[index] = worker.replaced(listener)
    finally:
        # Now only the workers have references to the listener. Each accepts the connections that wait in the kernel before it
        # closes its own reference.
        listener.close()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


class _Worker:
    """A worker process. Creating one starts it."""

    def __init__(self, listener: socket.socket, number: int, reports: "Reports | None") -> None:
        self._number = number
        self._reports = reports
        self.has_started: Event = _context.Event()
        metrics_to = reports.connect(number) if reports else None
        self.process = _context.Process(target=_work, args=[listener, self.has_started, metrics_to])
        self.process.start()
        if metrics_to:
            # Now only the worker has it, so its death is noticed.
            metrics_to.close()

    def replaced(self, listener: socket.socket) -> "_Worker":
        """Starts a worker in place of this one, which has died.

        Raises:
            OSError: this worker died before it accepted requests, and another one would too.
        """
        self.process.join()
        if not self.has_started.is_set():
            raise OSError("a worker process did not start")
        logger.error("worker process %s died with status %s; starting another", self.process.pid, self.process.exitcode)
        time.sleep(RESTART_SECONDS)
        return _Worker(listener, self._number, self._reports)


def _work(listener: socket.socket, has_started: Event, metrics_to: Connection | None) -> None:
    """Serves in a worker process. It stops when its parent process has ended, even if the parent was killed."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()
    settings = Settings.read(os.environ)
    start_logging(settings.TASKWELL_LOG_LEVEL, settings.TASKWELL_LOG_FORMAT)
    serve(settings, listener, has_started.set, metrics_to)


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
