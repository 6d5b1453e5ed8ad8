"""The requests that are worked on.

More at once than the database keeps up with do not get more done; each of them only waits longer. A request is counted when its
body is there, so that slow uploads keep nobody out; see docs/adr/0009-shed-by-requests-in-flight.md.
"""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from taskwell.deadline import Deadline
from taskwell.errors import DatabaseError, Overloaded

DEADLINE_SECONDS = 5

P = ParamSpec("P")
T = TypeVar("T")


class InFlight:
    """At most `maximum` at once, each for five seconds at most, whatever it waits for; nothing here waits but for the database."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._deadline = Deadline(DEADLINE_SECONDS)

    async def run(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Does `work`.

        Raises:
            Overloaded: there are `maximum` already; nothing was done.
            DatabaseError: the time is over.
        """
        if len(self._deadline) >= self._maximum:
            raise Overloaded(cause=f"{self._maximum} requests are in flight")
        try:
            return await self._deadline.run(work(*args, **kwargs))
        except TimeoutError:
            raise DatabaseError(cause=f"no answer within {DEADLINE_SECONDS} s") from None
