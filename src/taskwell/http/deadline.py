"""The time that a request has, once its body is there."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from taskwell.errors import DatabaseError

DEADLINE_SECONDS = 5

T = TypeVar("T")


async def within_deadline(work: Awaitable[T]) -> T:
    """Does `work`, or ends it after five seconds, whatever it waits for; nothing here waits but for the database.

    Raises:
        DatabaseError: the time is over.
    """
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await work
    except TimeoutError:
        raise DatabaseError(cause=f"no answer within {DEADLINE_SECONDS} s") from None
