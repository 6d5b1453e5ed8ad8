"""Connections to SQLite that have a thread each, for what can take long or waits for the disk."""

import asyncio
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.failures import Translated
from taskwell.database.sqlite_loop import is_not_now
from taskwell.database.waiting_list import WaitingList

BUSY_SECONDS = 5
"""How long to wait for a lock that another process holds."""

_PAUSE_SECONDS = 0.002

T = TypeVar("T")
Connect = Callable[[], sqlite3.Connection]


def patiently(job: Callable[[], T]) -> T:
    """Runs `job` again until no other process holds a lock that it needs, for five seconds at most."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return job()
        except sqlite3.OperationalError as error:
            if not is_not_now(error) or time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


class Thread:
    """A connection, and the thread that uses it."""

    connection: sqlite3.Connection

    def __init__(self, connect: Connect, name: str, traffic: Traffic) -> None:
        self._connect = connect
        self._name = name
        self.translated = Translated(traffic.errors)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")

    async def open(self) -> None:
        """Opens the connection."""
        with self.translated:
            self.connection = await self.run_in_thread(self._connect)

    async def close(self) -> None:
        """Closes the connection when the running statement has ended."""
        await self.run_in_thread(self.connection.close)
        self._executor.shutdown()

    def run_in_thread(self, job: Callable[[], T]) -> "asyncio.Future[T]":
        """Runs `job`, which uses the connection, after the jobs before it."""
        return asyncio.get_running_loop().run_in_executor(self._executor, job)

    def use_of(self, slots: WaitingList[None], *, in_use: int) -> PoolUse:
        """Returns the use of the connection, for which callers wait in `slots`."""
        return PoolUse(
            self._name, 1, 1 - in_use, in_use, slots.waiting, slots.waits, slots.waited_seconds, slots.timeouts
        )


class Worker(Thread):
    """A thread that runs one job at a time; the others wait for two seconds at most."""

    def __init__(self, connect: Connect, name: str, traffic: Traffic) -> None:
        super().__init__(connect, name, traffic)
        self._turn: WaitingList[None] = WaitingList([None])

    async def run(self, job: Callable[[], T]) -> T:
        """Runs `job`, which uses the connection. Once begun, it runs to its end, even if the caller is cancelled.

        Raises:
            Overloaded: earlier jobs took two seconds; nothing was done.
            DatabaseError: the database failed.
        """
        await self._turn.take()
        try:
            with self.translated:
                return await self.run_in_thread(job)
        finally:
            self._turn.give(None)

    def use(self) -> PoolUse:
        """Returns the use of the connection."""
        return self.use_of(self._turn, in_use=1 - len(self._turn.idle))
