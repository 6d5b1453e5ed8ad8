"""Finds what has changed for all open streams of this process, whoever has changed it.

Once a second, one statement looks for changes of all users who have a stream open. A write through this process makes
it look at its user at once. No session state of the database is used (no LISTEN), so it works through a transaction
pooler. When nothing has changed for a while, it stops looking, so that a serverless database can sleep. See
docs/adr/0012-live-events-by-one-look-for-all-streams.md.
"""

import asyncio
import logging
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self, cast

import orjson
from fastapi.sse import format_sse_event

from taskwell.auth.tokens import UserId
from taskwell.database.interface import Database, Row
from taskwell.errors import Problem
from taskwell.etags import ListState
from taskwell.tasks.repository import Change, Deletion, change_in, deleted_task, has_been, versioned
from taskwell.tasks.sync_tokens import token_of
from taskwell.tasks.watching import WatchedChanges

LOOK_SECONDS = 1
MAX_CHANGES = 50
"""Maximum number of one user's changes that a look reads. If there are more, another look follows at once."""

MAX_PENDING_BYTES = 512 * 1024
"""A stream that has more than this to send when there is news is cut off: its client reads too slowly.

The longest changes of one look have 430 KB. So a client that had read everything survives a batch of any size.
"""

logger = logging.getLogger(__name__)


def events_of(owner: UserId, changes: Iterable[Change], epoch: int) -> list[tuple[int, bytes]]:
    """Returns the revision of each change, and its event."""
    return [(change.revision, _event(owner, change, epoch)) for change in changes]


def _event(owner: UserId, change: Change, epoch: int) -> bytes:
    name, member = ("deleted", deleted_task(change)) if isinstance(change, Deletion) else ("task", versioned(change))
    return format_sse_event(
        event=name,
        data_str=orjson.dumps(member, option=orjson.OPT_UTC_Z).decode(),
        id=token_of(owner, ListState(change.revision, epoch)),
    )


def notice(name: str) -> bytes:
    """Returns an event that says something about the stream itself. Clients drop an event without data."""
    return format_sse_event(event=name, data_str="{}")


class Subscription:
    """The events that one stream has yet to send. It is over when the stream must end."""

    def __init__(self, live: "LiveChanges", owner: UserId, state: ListState) -> None:
        self.is_over = False
        self._live = live
        self._owner = owner
        self._state = state
        self._pending: deque[bytes] = deque()
        self._pending_bytes = 0
        self._has_news = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.leave(self._owner, self)

    async def wait(self, until: float) -> None:
        """Waits until there is something to send, or until this time of the event loop."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._has_news.wait()
        self._has_news.clear()

    def take(self, size: int) -> bytes:
        """Returns what to send next, about `size` bytes at most; nothing if there is nothing."""
        taken: list[bytes] = []
        while self._pending and size > 0:
            taken.append(self._pending.popleft())
            size -= len(taken[-1])
        part = b"".join(taken)
        self._pending_bytes -= len(part)
        return part

    def add(self, events: Sequence[tuple[int, bytes]]) -> None:
        """Adds the events that the stream has not sent yet."""
        self._add([event for revision, event in events if revision > self._state.revision])

    def notify(self, event: bytes) -> None:
        """Adds an event about the stream itself."""
        self._add([event])

    def _add(self, events: Sequence[bytes]) -> None:
        if self._pending_bytes > MAX_PENDING_BYTES and not self.is_over:
            self._live.cut_streams += 1
            self.end()
        if events and not self.is_over:
            self._pending += events
            self._pending_bytes += sum(map(len, events))
            self._has_news.set()

    def end(self) -> None:
        """Ends the stream, without what it has yet to send."""
        self.is_over = True
        self._pending.clear()
        self._pending_bytes = 0
        self._has_news.set()


class _Watch:
    """The streams of one user, and the state up to which they have been told of changes."""

    def __init__(self, state: ListState) -> None:
        self.state = state
        self.subscriptions: set[Subscription] = set()

    def tell(self, owner: UserId, rows: Sequence[Row]) -> bool:
        """Tells the streams of the changes in `rows`. Returns whether there may be more."""
        state, task_id = _state_in(rows[0]), rows[0][3]
        changes = [change_in(row[3:]) for row in rows] if task_id is not None else []
        has_more = len(changes) == MAX_CHANGES
        self.state = ListState(changes[-1].revision, state.epoch) if has_more else state
        events = events_of(owner, changes, state.epoch)
        for subscription in self.subscriptions:
            subscription.add(events)
        return has_more

    def end(self) -> None:
        """Ends the streams."""
        for subscription in self.subscriptions:
            subscription.end()


def _state_in(row: Row) -> ListState:
    return ListState(cast("int", row[1]), cast("int", row[2]))


class LiveChanges:
    """Tells the streams of this process what has changed, while its context is entered.

    It stops looking when nothing has changed for `idle_seconds`, and tells the streams with an event `idle`. A write
    through this process or a new stream makes it look again, with an event `awake`.
    """

    def __init__(self, database: Database, idle_seconds: float) -> None:
        self._changes = WatchedChanges(database)
        self._idle_seconds = idle_seconds
        self._watches: dict[UserId, _Watch] = {}
        # Users whom to look at before the next second.
        self._written: set[UserId] = set()
        self._is_idle = False
        self._is_failing = False
        # Times of the event loop: of the last change, and of the next look at all users.
        self._changed_at = self._look_at = 0.0
        # Time of the last look that succeeded, or when looking began.
        self._looked_at = 0.0
        self.cut_streams = 0
        """The number of streams that were cut off because their clients read too slowly."""
        self._due = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._looking = self._loop.create_task(self._look_forever())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looking.cancel()
        await asyncio.wait([self._looking])

    def __len__(self) -> int:
        """Returns the number of streams."""
        return sum(len(watch.subscriptions) for watch in self._watches.values())

    @property
    def lag_seconds(self) -> float:
        """Seconds since the last look for changes. Zero if there is nothing to look for."""
        return self._loop.time() - self._looked_at if self._watches and not self._is_idle else 0

    def join(self, owner: UserId, state: ListState) -> Subscription | None:
        """Returns the subscription of a stream that has sent all changes up to `state`.

        Returns None if the user's other streams have been told of changes that are not in `state`, or of another history:
        read again, and then try again.
        """
        watch = self._watches.get(owner)
        if not self._watches:
            self._looked_at = self._loop.time()
        if watch is None:
            watch = self._watches[owner] = _Watch(state)
        elif not has_been(watch.state, state):
            # A look ends the streams of an erased history, or else this one would end with them.
            self.wrote(owner)
            return None
        self._note_change()
        subscription = Subscription(self, owner, state)
        watch.subscriptions.add(subscription)
        return subscription

    def leave(self, owner: UserId, subscription: Subscription) -> None:
        """Ends a subscription."""
        # Not if the history that it was told of has ended.
        watch = self._watches.get(owner)
        if watch and subscription in watch.subscriptions:
            watch.subscriptions.remove(subscription)
            if not watch.subscriptions:
                del self._watches[owner]

    def wrote(self, owner: UserId) -> None:
        """Notes that a write of this process may have changed the owner's tasks."""
        if self._watches and (self._is_idle or owner in self._watches):
            self._written.add(owner)
            self._note_change()

    def _note_change(self) -> None:
        self._changed_at = self._loop.time()
        if self._is_idle:
            self._is_idle = False
            self._look_at = self._looked_at = self._changed_at
            self._tell_all(notice("awake"))
        self._due.set()

    def _tell_all(self, event: bytes) -> None:
        for watch in self._watches.values():
            for subscription in watch.subscriptions:
                subscription.notify(event)

    # --- looking

    async def _look_forever(self) -> None:
        while True:
            try:
                await self._look(await self._next())
            except Problem as problem:
                self._note_failure(problem)
            except Exception:
                # A bug must not stop later looks.
                logger.exception("looking for changes failed")
                await asyncio.sleep(LOOK_SECONDS)

    async def _next(self) -> Mapping[UserId, _Watch]:
        """Waits until it is time to look, and returns at whom."""
        while True:
            self._due.clear()
            is_looking = bool(self._watches) and not self._is_idle
            if is_looking and self._loop.time() >= self._look_at:
                self._look_at = self._loop.time() + LOOK_SECONDS
                self._written.clear()
                return self._watches.copy()
            written, self._written = self._written & self._watches.keys(), set()
            if written:
                return {owner: self._watches[owner] for owner in written}
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._look_at if is_looking else None):
                    await self._due.wait()

    async def _look(self, watches: Mapping[UserId, _Watch]) -> None:
        states = {owner: watch.state for owner, watch in watches.items()}
        rows = await self._changes.read(states, MAX_CHANGES)
        self._note_success()
        found: defaultdict[UserId, list[Row]] = defaultdict(list)
        for row in rows:
            found[cast("UserId", row[0])].append(row)
        for owner, changes in found.items():
            # Not a watch that began after the look: its streams have read these changes already.
            if self._watches.get(owner) is watches[owner]:
                self._tell(owner, changes)
        if found:
            self._note_change()
        elif self._loop.time() - self._changed_at >= self._idle_seconds:
            self._is_idle = True
            self._tell_all(notice("idle"))

    def _tell(self, owner: UserId, rows: Sequence[Row]) -> None:
        watch = self._watches[owner]
        if not has_been(watch.state, _state_in(rows[0])):
            # The account was erased, or a backup restored. The clients connect again, and learn it from a 410. New
            # streams do not wait for these, of which one can last long because its client reads slowly.
            del self._watches[owner]
            watch.end()
        elif watch.tell(owner, rows):
            self._written.add(owner)

    def _note_success(self) -> None:
        self._looked_at = self._loop.time()
        if self._is_failing:
            self._is_failing = False
            logger.info("looking for changes again")

    def _note_failure(self, problem: Problem) -> None:
        # Once for an outage. The streams stay open, and miss nothing.
        if not self._is_failing:
            self._is_failing = True
            logger.warning("cannot look for changes, and will try again each second: %s", problem.cause)
        self._look_at = self._loop.time() + LOOK_SECONDS
