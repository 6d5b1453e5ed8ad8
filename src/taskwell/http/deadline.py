"""The time that there is for a body to come, and then for its answer."""

import asyncio
from collections.abc import Awaitable
from types import TracebackType
from typing import Self, TypeVar

from taskwell.errors import DatabaseError

DEADLINE_SECONDS = 5

T = TypeVar("T")


class Expiry:
    """`asyncio.timeout` for a single use, without the states that make it cost five times as much.

    Raises:
        TimeoutError: what is inside took longer than `seconds`, and was cancelled.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._has_come = False

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only a task can wait
        self._task = task
        self._cancelled_before = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._come)
        return self

    def _come(self) -> None:
        self._has_come = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        # Somebody else may have cancelled the task as well, and is to be heard.
        if self._has_come and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error


async def within_deadline(work: Awaitable[T]) -> T:
    """Does `work`, or ends it after five seconds, whatever it waits for; nothing here waits but for the database.

    Raises:
        DatabaseError: the time is over.
    """
    try:
        with Expiry(DEADLINE_SECONDS):
            return await work
    except TimeoutError:
        raise DatabaseError(cause=f"no answer within {DEADLINE_SECONDS} s") from None
