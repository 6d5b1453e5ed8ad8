"""Waiting for something there are only so many of."""

import asyncio
from collections import deque
from collections.abc import Iterable
from typing import Generic, TypeVar

from taskwell.deadline import Deadline
from taskwell.errors import Overloaded

WAIT_SECONDS = 2

T = TypeVar("T")


class Line(Generic[T]):
    """Things that are taken, used and given back. Who finds none waits in line: who came first gets the next."""

    def __init__(self, idle: Iterable[T] = ()) -> None:
        self.idle = list(idle)
        """Those that nobody has; the last is the next to be taken."""
        self._waiting: deque[asyncio.Future[T]] = deque()
        self._deadline = Deadline(WAIT_SECONDS, _too_long)

    async def take(self) -> T:
        """One of them; it must be given back.

        Raises:
            Overloaded: none was given back within two seconds.
        """
        if self.idle:
            return self.idle.pop()
        return await self._deadline.run(self._wait())

    async def _wait(self) -> T:
        given: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(given)
        try:
            return await given
        except asyncio.CancelledError:
            if not given.cancelled():
                # It came, but too late.
                self.give(given.result())
            elif given in self._waiting:
                self._waiting.remove(given)
            raise

    def give(self, thing: T, *, to_be_taken_last: bool = False) -> None:
        """Gives one back."""
        while self._waiting:
            given = self._waiting.popleft()
            if not given.done():
                given.set_result(thing)
                return
        self.idle.insert(0 if to_be_taken_last else len(self.idle), thing)


def _too_long() -> Overloaded:
    return Overloaded(cause=f"no database connection became free within {WAIT_SECONDS} s")
