"""Erases the content of tasks that have been in the trash for long enough.

It acts on the tasks of all users, so only the application and the command may import this module, not the modules that
serve requests; see `taskwell.database.interface.MaintainedDatabase`. Any number of processes may purge at the same
time.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from taskwell.database.failures import within
from taskwell.database.interface import MaintainedDatabase
from taskwell.errors import Problem
from taskwell.tasks import writes

# A batch is one transaction. On SQLite, all other writes wait for it, and the pause lets them in.
BATCH_SIZE = 500
BATCH_SECONDS = 10
PAUSE_SECONDS = 0.1

logger = logging.getLogger(__name__)


class Purge:
    """Erases tasks that were deleted more than `days` days ago.

    Their rows stay, so that ids and keys are not used again.
    """

    def __init__(self, database: MaintainedDatabase, days: int) -> None:
        self._erase = database.prepare_maintenance(writes.purge)
        self._days = days
        self.erased = self.failures = 0
        """The number of tasks erased, and of purges that failed."""
        self.succeeded_at = 0.0
        """The time of the last purge that succeeded, in seconds since the epoch. Zero before the first."""

    async def run(self) -> int:
        """Erases all such tasks, and returns their number. If it is interrupted, the batches before stay erased.

        Raises:
            DatabaseError: the database failed, or needed more than ten seconds for a batch.
            Overloaded: no connection became free in time.
        """
        erased = await self._run_batch()
        total = erased
        # On Citus, a batch is that of each shard.
        while erased >= BATCH_SIZE:
            await asyncio.sleep(PAUSE_SECONDS)
            erased = await self._run_batch()
            total += erased
        self.succeeded_at = time.time()
        return total

    async def _run_batch(self) -> int:
        ((erased,),) = await within(BATCH_SECONDS, self._erase(older_than_days=self._days, batch=BATCH_SIZE))
        self.erased += cast("int", erased)
        return cast("int", erased)

    @asynccontextmanager
    async def repeated(self, seconds: int) -> AsyncGenerator[None]:
        """Purges in the background, about every `seconds` seconds."""
        purging = asyncio.create_task(self._run_forever(seconds))
        try:
            yield
        finally:
            purging.cancel()
            await asyncio.wait([purging])

    async def _run_forever(self, seconds: int) -> None:
        # Random, so that processes that start together do not purge together. A process may also live for less than
        # `seconds`.
        await asyncio.sleep(seconds * random.random())  # noqa: S311 - not a secret
        while True:
            await self._run_and_log()
            await asyncio.sleep(seconds)

    async def _run_and_log(self) -> None:
        try:
            if erased := await self.run():
                logger.info("erased %d tasks that were deleted more than %d days ago", erased, self._days)
        except Problem as problem:
            self.failures += 1
            logger.warning("the purge failed, and will be tried again: %s", problem.cause)
        except Exception:
            # A bug must not stop later purges.
            self.failures += 1
            logger.exception("the purge failed")
