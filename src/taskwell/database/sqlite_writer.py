"""Runs the writes of SQLite: those that wait together share one commit.

See docs/adr/0016-sqlite-on-the-event-loop.md.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.interface import Row, Undo
from taskwell.database.sqlite_loop import LoopLimit, is_not_now
from taskwell.database.sqlite_threads import Connect, Thread, patiently
from taskwell.database.waiting_list import WaitingList

GROUP_WRITES = 50
"""Maximum number of writes that share a commit."""

# After this time, no further write of a group begins; it comes with the next group. So a group seldom exceeds the event
# loop's limit, and the first write of a long group does not wait for long.
_LOOP_GROUP_SECONDS = 0.0025
_THREAD_GROUP_SECONDS = 0.02

Steps = Callable[[], Sequence[Row]]
_Result = Sequence[Row] | Exception


@dataclass(slots=True)
class _Waiting:
    """A write, and the future that its caller awaits. `alone`: it shares its commit with no other write."""

    steps: Steps
    alone: bool
    result: "asyncio.Future[_Result]"

    def run(self) -> Sequence[Row]:
        return () if self.result.cancelled() else self.steps()


class GroupWriter(Thread):
    """The connection that writes. Writes that arrive while others are committed form a group, with one commit.

    The event loop's thread runs the statements of a group, and the other thread commits it, which waits for the disk.
    If the statements cannot end at once, that thread runs them, too.

    Nobody waits for a group to fill: it has the writes that are there. One that fails is undone by itself, and none is
    acknowledged before the commit has succeeded.
    """

    def __init__(self, connect: Connect, traffic: Traffic) -> None:
        super().__init__(connect, "writer", traffic)
        # The places in the group that forms. There are none while a group is being written.
        self._places: WaitingList[None] = WaitingList([None] * GROUP_WRITES)
        self._group: list[_Waiting] = []
        self._is_busy = False

    async def run(self, steps: Steps, *, alone: bool = False) -> Sequence[Row]:
        """Runs `steps` in a transaction, and returns their rows when it is on disk. They may run twice.

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
        with self.translated:
            if isinstance(result, Exception):
                raise result
        return result

    def use(self) -> PoolUse:
        """Returns the use of the connection."""
        return self.use_of(self._places, in_use=int(self._is_busy))

    def _begin(self) -> None:
        self._places.idle.clear()
        group = list(takewhile(lambda waiting: not waiting.alone, self._group)) or self._group[:1]
        del self._group[: len(group)]
        results = None if group[0].alone else self._run_at_once(group)
        if results is None:
            run = partial(_run, self.connection, group, _THREAD_GROUP_SECONDS)
            writing = self.run_in_thread(partial(patiently, partial(_commit, self.connection, run)))
        else:
            writing = self.run_in_thread(partial(_commit, self.connection, lambda: results))
        writing.add_done_callback(partial(self._end, group))

    def _run_at_once(self, group: Sequence[_Waiting]) -> Sequence[_Result] | None:
        try:
            with LoopLimit(self.connection):
                return _run(self.connection, group, _LOOP_GROUP_SECONDS)
        except Exception as error:  # noqa: BLE001 - the callers raise it
            # Not within the limit, which would interrupt it.
            self.connection.rollback()
            return None if is_not_now(error) else [error] * len(group)

    def _end(self, group: Sequence[_Waiting], writing: "asyncio.Future[Sequence[_Result]]") -> None:
        error = writing.exception()
        results = [error] * len(group) if isinstance(error, Exception) else writing.result()
        for waiting, result in zip(group, results, strict=False):
            if not waiting.result.cancelled():
                waiting.result.set_result(result)
        self._group[:0] = [waiting for waiting in group[len(results) :] if not waiting.result.cancelled()]
        free = max(0, GROUP_WRITES - len(self._group))
        while free and self._places.waiting:
            self._places.give(None)
            free -= 1
        self._places.idle = [None] * free
        self._is_busy = bool(self._group)
        if self._is_busy:
            # After the callers who have just got a place.
            asyncio.get_running_loop().call_soon(self._begin)


def _commit(connection: sqlite3.Connection, run: Callable[[], Sequence[_Result]]) -> Sequence[_Result]:
    """Commits what `run` writes, or has written before. If that fails, nothing of it is written."""
    try:
        results = run()
        if connection.in_transaction:
            connection.execute("COMMIT")
    except BaseException:
        connection.rollback()
        raise
    return results


def _run(connection: sqlite3.Connection, group: Sequence[_Waiting], seconds: float) -> Sequence[_Result]:
    """Runs writes in a transaction, which stays open. Returns the results of those that began within `seconds`."""
    # A transaction that begins by reading could not write once another process has written.
    connection.execute("BEGIN IMMEDIATE")
    return [_run_alone(connection, group[0])] if len(group) == 1 else _run_together(connection, group, seconds)


def _run_alone(connection: sqlite3.Connection, waiting: _Waiting) -> _Result:
    try:
        return waiting.run()
    except Undo as undo:
        connection.rollback()
        return undo.rows


def _run_together(connection: sqlite3.Connection, group: Sequence[_Waiting], seconds: float) -> Sequence[_Result]:
    until = time.monotonic() + seconds
    results: list[_Result] = []
    for waiting in group:
        if results and time.monotonic() > until:
            break
        results.append(_run_in_savepoint(connection, waiting))
    return results


def _run_in_savepoint(connection: sqlite3.Connection, waiting: _Waiting) -> _Result:
    """Returns the rows of a write, or its error. Then what it has written is undone, and the transaction goes on.

    Raises:
        sqlite3.Error: the error concerns the whole transaction.
    """
    connection.execute("SAVEPOINT one")
    result: _Result
    try:
        result = waiting.run()
    except Undo as undo:
        connection.execute("ROLLBACK TO one")
        result = undo.rows
    except Exception as error:
        # SQLite itself rolls back after some errors, such as a full disk (https://www.sqlite.org/lang_transaction.html).
        if is_not_now(error) or not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO one")
        result = error
    connection.execute("RELEASE one")
    return result
