"""Reusable items; when all are taken, callers wait, first come, first served."""

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from taskwell.errors import Overloaded

WAIT_SECONDS = 2

T = TypeVar("T")


class WaitingList(Generic[T]):
    """Items that are taken, used and given back."""

    def __init__(self, idle: Iterable[T] = ()) -> None:
        self.idle = list(idle)
        """Items that nobody has taken; the last one is taken next."""
        self._waiting: deque[asyncio.Future[T]] = deque()
        self.waits = self.timeouts = 0
        """The number of callers who had to wait, and of those who waited in vain."""
        self.waited_seconds = 0.0

    @property
    def waiting(self) -> int:
        """The number of callers who wait now."""
        return len(self._waiting)

    async def take(self) -> T:
        """Returns an item, which the caller must give back.

        Raises:
            Overloaded: no item was given back within two seconds.
        """
        if self.idle:
            return self.idle.pop()
        self.waits += 1
        started = time.monotonic()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await self._wait()
        except TimeoutError:
            self.timeouts += 1
            raise Overloaded(cause=f"no database connection became free within {WAIT_SECONDS} s") from None
        finally:
            self.waited_seconds += time.monotonic() - started

    async def _wait(self) -> T:
        promised: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(promised)
        try:
            return await promised
        except asyncio.CancelledError:
            if not promised.cancelled():
                # The item arrived in the moment of the cancellation.
                self.give(promised.result())
            elif promised in self._waiting:
                self._waiting.remove(promised)
            raise

    def give(self, item: T, *, to_be_taken_last: bool = False) -> None:
        """Gives an item back. The caller that has waited longest gets it."""
        while self._waiting:
            promised = self._waiting.popleft()
            if not promised.done():
                promised.set_result(item)
                return
        self.idle.insert(0 if to_be_taken_last else len(self.idle), item)
