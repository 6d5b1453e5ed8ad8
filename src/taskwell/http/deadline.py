"""The time that a request has, once its body is there."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from taskwell.errors import DatabaseError

DEADLINE_SECONDS = 5


@asynccontextmanager
async def deadline() -> AsyncGenerator[None]:
    """Ends what is inside after five seconds, whatever it waits for; nothing here waits but for the database.

    Raises:
        DatabaseError: the time is over.
    """
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield
    except TimeoutError:
        raise DatabaseError(cause=f"no answer within {DEADLINE_SECONDS} s") from None
