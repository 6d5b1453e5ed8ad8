"""Reads what has changed for all owners of open streams, in one statement.

On Citus it is one statement for each worker, all at the same time, and a worker that fails or is silent does not delay
the others. See docs/adr/0012-live-events-by-one-look-for-all-streams.md.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import cast

import orjson

from taskwell.auth.tokens import UserId
from taskwell.database.failures import within
from taskwell.database.interface import Database, Row
from taskwell.errors import Problem
from taskwell.etags import ListState
from taskwell.tasks import distributed, statements

TIMEOUT_SECONDS = 5

WORKER_SECONDS = 1
"""A look does not wait longer for a worker if others have replied. Its changes come with a later look."""

logger = logging.getLogger(__name__)

States = Mapping[UserId, ListState]


class WatchedChanges:
    """The changes of several owners."""

    def __init__(self, database: Database) -> None:
        self._changes = database.prepare(statements.list_changes_of_watched)
        self._on_worker = database.prepare(distributed.list_changes_on_worker)
        self._workers = database.prepare(distributed.list_workers_of_watched)
        self._has_citus = database.prepare(distributed.has_citus)
        self._has_distributed = database.prepare(distributed.is_distributed)
        self._is_distributed: bool | None = None
        self._is_failing = False

    async def read(self, states: States, limit: int) -> Sequence[Row]:
        """Returns the rows of `list_changes_of_watched`.

        An owner whose worker does not reply has no row, as if nothing had changed. The next look reads the same again.

        Raises:
            Problem: the database failed, or no worker has replied in time.
        """
        if self._is_distributed is None:
            self._is_distributed = await within(TIMEOUT_SECONDS, self._find_out())
        if self._is_distributed:
            return await self._read_from_workers(states, limit)
        return await within(TIMEOUT_SECONDS, self._changes(watched=_watched(states), limit=limit))

    async def _find_out(self) -> bool:
        """Returns whether the tasks are on several servers."""
        ((has_citus,),) = await self._has_citus()
        return bool(has_citus) and bool((await self._has_distributed())[0][0])

    async def _by_worker(self, states: States) -> Sequence[States]:
        parts: defaultdict[object, dict[UserId, ListState]] = defaultdict(dict)
        for owner, worker in await self._workers(watched=_watched(states)):
            parts[worker][cast("UserId", owner)] = states[cast("UserId", owner)]
        return list(parts.values())

    async def _read_from_workers(self, states: States, limit: int) -> Sequence[Row]:
        parts = await within(TIMEOUT_SECONDS, self._by_worker(states))
        results = await asyncio.gather(*[self._read_or_fail(part, limit) for part in parts])
        problems = [result for result in results if isinstance(result, Problem)]
        if len(problems) == len(parts):
            raise problems[0]
        self._note(problems)
        return [row for result in results if not isinstance(result, Problem) for row in result]

    async def _read_or_fail(self, states: States, limit: int) -> Sequence[Row] | Problem:
        try:
            return await within(WORKER_SECONDS, self._read_from_worker(states, limit))
        except Problem as problem:
            return problem

    async def _read_from_worker(self, states: States, limit: int) -> Sequence[Row]:
        rows = await self._on_worker(watched=_watched(states), owners=list(states), limit=limit)
        erased = states.keys() - {row[0] for row in rows}
        found = [*rows, *[(owner, 0, 0, *_NO_TASK) for owner in erased]]
        return [row for row in found if (row[1], row[2]) != states[cast("UserId", row[0])]]

    def _note(self, problems: Sequence[Problem]) -> None:
        # Once for an outage.
        if problems and not self._is_failing:
            logger.warning("cannot look for changes on every worker, and will try again: %s", problems[0].cause)
        self._is_failing = bool(problems)


_NO_TASK = (None,) * (len(statements.PUBLIC) + 2)


def _watched(states: States) -> str:
    return orjson.dumps([(owner, *state) for owner, state in states.items()]).decode()
