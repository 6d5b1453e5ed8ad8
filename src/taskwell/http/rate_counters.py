"""Counters of requests, in the memory of this process.

This module imports `limits`, which takes 0.1 s. Import it only when a limit is set.
"""

import time
from collections import OrderedDict
from itertools import islice

from limits.aio.storage import MemoryStorage

MAX_KEYS = 100_000
"""Maximum number of users or addresses that a process counts. They take about 30 MB."""


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
        # Two for each new key, so that all expired keys go.
        for key in list(islice(self._ends, 2)):
            if self._ends[key] <= now or len(self._ends) >= self._max_keys:
                del self._ends[key], self.storage[key]
