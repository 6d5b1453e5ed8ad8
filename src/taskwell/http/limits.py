"""The requests that are worked on.

More at once than the database keeps up with do not get more done; each of them only waits longer. A request is counted when its
body is there, so that slow uploads keep nobody out; see docs/adr/0009-shed-by-requests-in-flight.md.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from taskwell.deadline import Deadline
from taskwell.errors import DatabaseError, TurnedAway

DEADLINE_SECONDS = 5
SECONDS_BETWEEN_LINES = 1

P = ParamSpec("P")
T = TypeVar("T")

logger = logging.getLogger("taskwell.problems")


class InFlight:
    """At most `maximum` at once, each for five seconds at most, whatever it waits for; nothing here waits but for the database."""

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._deadline = Deadline(DEADLINE_SECONDS, _no_answer)
        self._turned_away = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._deadline)

    def require_room(self) -> None:
        """To be asked before the body is read, so that turning away costs little.

        Raises:
            TurnedAway: there are `maximum` already.
        """
        if len(self) < self._maximum:
            return
        if not self._turned_away:
            asyncio.get_running_loop().call_later(SECONDS_BETWEEN_LINES, self._tell)
        self._turned_away += 1
        raise TurnedAway

    def _tell(self) -> None:
        logger.warning("%d requests were turned away, as %d were in flight", self._turned_away, self._maximum)
        self._turned_away = 0

    def run(self, work: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> Awaitable[T]:
        """Does `work`.

        Raises:
            TurnedAway: there are `maximum` already; nothing was done.
            DatabaseError: the time is over.
        """
        self.require_room()
        return self._deadline.run(work(*args, **kwargs))


def _no_answer() -> DatabaseError:
    return DatabaseError(cause=f"no answer within {DEADLINE_SECONDS} s")
