"""Time limits of what every request does."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

T = TypeVar("T")


class Deadline:
    """Ends what takes longer than `seconds`, by raising what `error` makes.

    `asyncio.timeout` sets a timer each time. Here one is enough, as those who began first are over first. It belongs to
    one event loop, and a task is in it once at a time.
    """

    def __init__(self, seconds: float, error: Callable[[], Exception]) -> None:
        self._seconds = seconds
        self._error = error
        # In the order in which they are over.
        self._ends: dict[asyncio.Task[object], float] = {}
        self._overdue: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._ends)

    async def run(self, work: Awaitable[T]) -> T:
        """Waits for `work`. When the time is over it is cancelled, and the error raised when it has ended."""
        # To ask for the loop each time is a system call, and so is to ask for the task without it (until Python 3.12).
        loop = self._loop = self._loop or asyncio.get_running_loop()
        task = cast("asyncio.Task[object]", asyncio.current_task(loop))
        self._ends[task] = end = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(end, self._look, loop)
        try:
            return await work
        except asyncio.CancelledError:
            # Unless somebody else has cancelled it as well.
            if task in self._overdue and task.cancelling() == 1:
                raise self._error() from None
            raise
        finally:
            del self._ends[task]
            if task in self._overdue:
                self._overdue.remove(task)
                task.uncancel()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Cancels those whose time is over, and comes back for the next."""
        self._timer = None
        now = loop.time()
        for task, end in self._ends.items():
            if end > now:
                self._timer = loop.call_at(end, self._look, loop)
                break
            if task not in self._overdue:
                self._overdue.add(task)
                task.cancel()
