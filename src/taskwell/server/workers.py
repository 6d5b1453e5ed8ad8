"""Serving in several processes: starting them, replacing one that dies, and stopping them without losing a request."""

import logging
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event

from taskwell.server.run import serve
from taskwell.settings import Settings
from taskwell.telemetry.logs import start_logging

RESTART_SECONDS = 0.5
"""A worker process that dies is replaced after this pause, so that one that always dies costs little."""

logger = logging.getLogger(__name__)

# A fork would copy the threads' locks in any state.
_context = multiprocessing.get_context("spawn")


def serve_with_workers(listener: socket.socket, count: int, on_start: Callable[[], None]) -> None:
    """Serves in `count` worker processes until SIGTERM or Ctrl-C. Each one reads the settings from the environment.

    Calls `on_start` once all of them accept requests.

    Raises:
        OSError: a worker ended before it accepted requests; the log says why.
    """
    workers = [_Worker(listener) for _ in range(count)]
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
        # The workers' own references are then the last ones, and each accepts what waits in the kernel before it closes its own.
        listener.close()
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


class _Worker:
    """A worker process, started."""

    def __init__(self, listener: socket.socket) -> None:
        self.has_started: Event = _context.Event()
        self.process = _context.Process(target=_work, args=[listener, self.has_started])
        self.process.start()

    def replaced(self, listener: socket.socket) -> "_Worker":
        """Returns a new worker for this one, which has died.

        Raises:
            OSError: it had not started, and neither would another one.
        """
        self.process.join()
        if not self.has_started.is_set():
            raise OSError("a worker process did not start")
        logger.error("worker process %s died with status %s; starting another", self.process.pid, self.process.exitcode)
        time.sleep(RESTART_SECONDS)
        return _Worker(listener)


def _work(listener: socket.socket, has_started: Event) -> None:
    """Serves in a worker process, which ends when the process that started it is gone, killed or not."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()
    settings = Settings.read(os.environ)
    start_logging(settings.TASKWELL_LOG_LEVEL)
    serve(settings, listener, on_start=has_started.set)


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
