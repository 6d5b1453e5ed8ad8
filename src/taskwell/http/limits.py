"""Limits on what requests may use: time, and the number of requests in flight."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar, cast

from taskwell.errors import DatabaseError, LoadShed

REQUEST_SECONDS = 5
"""Time limit for a request's work, once its body has arrived. The work waits only for the database."""

SECONDS_BETWEEN_LOG_LINES = 1

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("taskwell.problems")


class Deadline:
    """Cancels work after `seconds` and raises `error()`.

    `asyncio.timeout` sets one timer for each use. This class sets one timer for all uses: each gets the same time, so
    they expire in the order in which they began. Use an instance in one event loop, and once at a time in each task.
    """

    def __init__(self, seconds: float, error: Callable[[], Exception]) -> None:
        self._seconds = seconds
        self._error = error
        # In the order in which they expire.
        self.ends: dict[asyncio.Task[object], float] = {}
        """The tasks that are waiting, and when each of them expires."""
        self._expired: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, work: Awaitable[T]) -> T:
        """Awaits `work`. After `seconds`, cancels it, waits until it has ended, and raises the error."""
        # Kept, because `get_running_loop` makes a system call; so does `current_task` without a loop, before Python
        # 3.12.
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = cast("asyncio.Task[object]", asyncio.current_task(loop))
        self.ends[task] = end = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._cancel_expired, loop)
        try:
            return await work
        except asyncio.CancelledError:
            # If other code has cancelled the task too, that cancellation takes precedence.
            if task in self._expired and task.cancelling() == 1:
                raise self._error() from None
            raise
        finally:
            del self.ends[task]
            if task in self._expired:
                self._expired.remove(task)
                task.uncancel()

    def _cancel_expired(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        now = loop.time()
        for task, end in self.ends.items():
            if end > now:
                self._timer = loop.call_at(end, self._cancel_expired, loop)
                break
            if task not in self._expired:
                self._expired.add(task)
                task.cancel()


class Tally:
    """Counts events, and logs one line for all events of a second: `message`, with their number and then `args`."""

    def __init__(self, level: int, message: str, *args: object) -> None:
        self._level = level
        self._message = message
        self._args = args
        self._number = 0
        self.total = 0
        """The number of events since the start."""

    def add(self) -> None:
        """Counts an event."""
        self.total += 1
        if not self._number:
            asyncio.get_running_loop().call_later(SECONDS_BETWEEN_LOG_LINES, self._log)
        self._number += 1

    def _log(self) -> None:
        logger.log(self._level, self._message, self._number, *self._args)
        self._number = 0


class InFlight:
    """Runs at most `maximum` requests at once, each for at most five seconds, and sheds the rest.

    If more requests run than the database can serve, they do not finish sooner; each only waits longer. A request
    counts from the moment its body has arrived, so slow uploads do not keep others out. See
    docs/adr/0009-shed-load-by-capping-requests-in-flight.md.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._deadline = Deadline(REQUEST_SECONDS, self._no_reply)
        self.timeouts = 0
        """The number of requests whose time was up."""
        self.shed = Tally(logging.WARNING, "shed %d requests: %d were in flight, the maximum", maximum)

    def __len__(self) -> int:
        """Returns the number of requests in flight."""
        return len(self._deadline.ends)

    def require_capacity(self) -> None:
        """Sheds the request if `maximum` requests are in flight.

        Call this before reading the body: then shedding is cheap.

        Raises:
            LoadShed: there is no capacity.
        """
        # Not `len(self)`, because each request comes here twice.
        if len(self._deadline.ends) < self._maximum:
            return
        self.shed.add()
        raise LoadShed

    def run(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Calls `work` and awaits its result.

        Raises:
            LoadShed: there is no capacity; `work` was not called.
            DatabaseError: the time is up.
        """
        self.require_capacity()
        return self._deadline.run(work(*args, **kwargs))

    def _no_reply(self) -> DatabaseError:
        self.timeouts += 1
        return DatabaseError(cause=f"no reply within {REQUEST_SECONDS} s")
