"""The connections to SQLite that have a thread each, and how writes that wait together share one commit.

See docs/adr/0015-short-reads-on-the-event-loop-and-group-commit.md.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import TypeVar

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.failures import Translated
from taskwell.database.interface import Row, Undo
from taskwell.database.waiting_list import WaitingList

GROUP_WRITES = 50
"""Maximum number of writes that share a commit."""

GROUP_SECONDS = 0.02
"""A write that is not the first of its group does not begin after this time; it comes with the next group."""

T = TypeVar("T")
Connect = Callable[[], sqlite3.Connection]


class _Thread:
    """A connection, and the thread that uses it."""

    connection: sqlite3.Connection

    def __init__(self, connect: Connect, name: str, traffic: Traffic) -> None:
        self._connect = connect
        self._name = name
        self._translated = Translated(traffic.errors)
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"sqlite-{name}")

    async def open(self) -> None:
        """Opens the connection."""
        with self._translated:
            self.connection = await self._run(self._connect)

    async def close(self) -> None:
        """Closes the connection when the running statement has ended."""
        await self._run(self.connection.close)
        self._executor.shutdown()

    def _run(self, job: Callable[[], T]) -> "asyncio.Future[T]":
        return asyncio.get_running_loop().run_in_executor(self._executor, job)

    def _use(self, slots: WaitingList[None], *, in_use: int) -> PoolUse:
        return PoolUse(
            self._name, 1, 1 - in_use, in_use, slots.waiting, slots.waits, slots.waited_seconds, slots.timeouts
        )


class Worker(_Thread):
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
            with self._translated:
                return await self._run(job)
        finally:
            self._turn.give(None)

    def use(self) -> PoolUse:
        """Returns the use of the connection."""
        return self._use(self._turn, in_use=1 - len(self._turn.idle))


Steps = Callable[[], Sequence[Row]]
_Result = Sequence[Row] | Exception


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A write, and the future that its caller awaits. `alone`: it shares its commit with no other write."""

    steps: Steps
    alone: bool
    result: "asyncio.Future[_Result]"


class GroupWriter(_Thread):
    """The thread that writes. Writes that arrive while others are being committed form a group, which one commit ends.

    A commit waits for the disk, so with many writers this saves most of the waiting. Nobody waits for a group to fill:
    the thread takes the writes that are there. Each is undone by itself if it fails, and none is acknowledged before
    the commit has succeeded.
    """

    def __init__(self, connect: Connect, traffic: Traffic) -> None:
        super().__init__(connect, "writer", traffic)
        # The places in the group that forms. There are none while the thread is busy.
        self._places: WaitingList[None] = WaitingList([None] * GROUP_WRITES)
        self._group: list[_Waiting] = []
        self._is_busy = False

    async def run(self, steps: Steps, *, alone: bool = False) -> Sequence[Row]:
        """Runs `steps` in a transaction, and returns their rows when it is on disk.

        If the caller is cancelled before they have begun, nothing is written. Once begun, they run to their end.

        Raises:
            Overloaded: earlier writes took two seconds; nothing was done.
            DatabaseError: the database failed, or another process held its lock for five seconds.
        """
        await self._places.take()
        loop = asyncio.get_running_loop()
        waiting = _Waiting(steps, alone, loop.create_future())
        self._group.append(waiting)
        if not self._is_busy:
            self._is_busy = True
            # Not at once, so that callers who got their places together are in one group.
            loop.call_soon(self._begin)
        result = await waiting.result
        with self._translated:
            if isinstance(result, Exception):
                raise result
        return result

    def use(self) -> PoolUse:
        """Returns the use of the connection."""
        return self._use(self._places, in_use=int(self._is_busy))

    def _begin(self) -> None:
        self._places.idle.clear()
        group = list(takewhile(lambda waiting: not waiting.alone, self._group)) or self._group[:1]
        del self._group[: len(group)]
        running = self._run(partial(_commit, self.connection, group))
        running.add_done_callback(partial(self._end, group))

    def _end(self, group: Sequence[_Waiting], running: "asyncio.Future[Sequence[_Result]]") -> None:
        error = running.exception()
        results = [error] * len(group) if isinstance(error, Exception) else running.result()
        for waiting, result in zip(group, results, strict=False):
            if not waiting.result.cancelled():
                waiting.result.set_result(result)
        self._group[:0] = group[len(results) :]
        for _ in range(GROUP_WRITES - len(self._group)):
            self._places.give(None)
        self._is_busy = bool(self._group)
        if self._is_busy:
            # After the callers who have just got a place.
            asyncio.get_running_loop().call_soon(self._begin)


def _commit(connection: sqlite3.Connection, group: Sequence[_Waiting]) -> Sequence[_Result]:
    """Runs the writes of a group in one transaction. Returns the result of each that it had the time to begin."""
    # A transaction that begins by reading could not write once another process has written.
    connection.execute("BEGIN IMMEDIATE")
    try:
        results = [_run_alone(group[0])] if len(group) == 1 else _run_together(connection, group)
        connection.execute("COMMIT")
    except Undo as undo:
        connection.rollback()
        return [undo.rows]
    except BaseException:
        connection.rollback()
        raise
    return results


def _run_alone(waiting: _Waiting) -> _Result:
    return () if waiting.result.cancelled() else waiting.steps()


def _run_together(connection: sqlite3.Connection, group: Sequence[_Waiting]) -> Sequence[_Result]:
    until = time.monotonic() + GROUP_SECONDS
    results: list[_Result] = []
    for waiting in group:
        if results and time.monotonic() > until:
            break
        results.append(() if waiting.result.cancelled() else _run_in_savepoint(connection, waiting.steps))
    return results


def _run_in_savepoint(connection: sqlite3.Connection, steps: Steps) -> _Result:
    """Returns the rows of `steps`, or their error. Then what they have written is undone, and the transaction goes on.

    Raises:
        sqlite3.Error: the error ended the transaction, and with it all writes of the group.
    """
    connection.execute("SAVEPOINT one")
    result: _Result
    try:
        result = steps()
    except Undo as undo:
        connection.execute("ROLLBACK TO one")
        result = undo.rows
    except Exception as error:
        # SQLite itself rolls back after some errors, such as a full disk (https://www.sqlite.org/lang_transaction.html).
        if not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one")
        result = error
    connection.execute("RELEASE one")
    return result
