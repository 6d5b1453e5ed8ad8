"""Counters of requests: in the memory of this process, or in a Redis that processes share.

This module imports `limits` and the client of Redis, which take 0.1 s and 10 MB. Import it only when a limit is set.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from itertools import islice
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from limits.aio.storage import MemoryStorage, RedisStorage

from taskwell.http.error_responses import MAX_LOGGED_CAUSE, printable
from taskwell.http.limits import Deadline

MAX_KEYS = 100_000
"""Maximum number of users or addresses that a process counts. They take about 30 MB."""

REDIS_SECONDS = 0.25
"""Time limit for Redis to count a request. It includes the connection."""

SECONDS_BETWEEN_ATTEMPTS = 1

_MAX_CONNECTIONS = 20
_DEFAULT_PORT = 6379

logger = logging.getLogger(__name__)


class BoundedMemory(MemoryStorage):
    """Counts in the memory of this process. All keys must expire after the same time.

    If there are more keys than the maximum, the oldest one is forgotten.
    """

    # After each request, the original looks at every key to find those that expired. With 20,000 users, this takes 2 ms
    # for each request. The original also keeps any number of keys.

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        super().__init__()
        self._max_keys = max_keys
        # In the order in which they expire. Removing the first key of a plain dict can take as long as looking at all.
        self._ends: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Returns the number of keys."""
        return len(self._ends)

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Adds `amount` to the count of `key`, which expires `expiry` seconds after its first use. Returns the count."""
        if key not in self._ends:
            now = time.time()
            self._make_room(now)
            self._ends[key] = now + expiry
        self.storage[key] += amount
        return self.storage[key]

    def _make_room(self, now: float) -> None:
        # Checks two keys for each new one, so expired keys disappear faster than new ones arrive.
        for key in list(islice(self._ends, 2)):
            if self._ends[key] <= now or len(self._ends) >= self._max_keys:
                del self._ends[key], self.storage[key]


class SharedRedis:
    """Counts in the Redis at `url`. While Redis cannot be reached, requests are not counted, and the log says so once.

    It is a context manager, which closes the connections at the end.
    """

    def __init__(self, url: str) -> None:
        # Not at the top, because only this class needs it, and it belongs to an extra of the package.
        from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415

        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        self._address = f"{host}:{parts.port or _DEFAULT_PORT}"
        # Requests wait for a connection; without a maximum, a burst of requests would open one each.
        self._pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, max_connections=_MAX_CONNECTIONS, timeout=None
        )
        self._storage = RedisStorage(
            f"async+redis://{self._address}",
            implementation="redispy",
            key_prefix="taskwell",
            connection_pool=self._pool,  # type: ignore[arg-type]
        )
        self._deadline = Deadline(REDIS_SECONDS, lambda: TimeoutError(f"no reply within {REDIS_SECONDS} s"))
        self._is_away = False
        self._next_attempt = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int | None:
        """Adds `amount` to the count of `key`, which expires `expiry` seconds after its first use.

        Returns the count, or None if Redis is away. After a failure, there is only one attempt each second, so that
        the other requests do not wait.
        """
        now = asyncio.get_running_loop().time()
        if self._is_away and now < self._next_attempt:
            return None
        self._next_attempt = now + SECONDS_BETWEEN_ATTEMPTS
        try:
            count = await self._deadline.run(self._storage.incr(key, expiry, amount))
        except Exception as error:  # noqa: BLE001 - whatever the client of Redis raises, the service goes on
            self._note_failure(error)
            return None
        self._note_success()
        return count

    def _note_failure(self, error: Exception) -> None:
        if not self._is_away:
            cause = printable(f"{type(error).__name__}: {error}", MAX_LOGGED_CAUSE)
            logger.warning("Redis at %s is away, so requests are not limited: %s", self._address, cause)
        self._is_away = True

    def _note_success(self) -> None:
        if self._is_away:
            logger.warning("Redis at %s is back, so requests are limited again", self._address)
        self._is_away = False
