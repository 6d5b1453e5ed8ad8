"""A small pool of connections to PostgreSQL that outlives them.

The connection used last is taken first, so that the rest may be idle. Nothing is asked of a connection before it is used: asyncpg
knows by itself when one was closed, and a ping would be a round trip. What fails nevertheless is tried again where that cannot do
harm; see docs/adr/0007-what-is-tried-again.md.
"""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import cast

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from taskwell.database.failures import FAILURES, LOST, PERMANENT, translated
from taskwell.database.interface import Row
from taskwell.database.waiting_list import WaitingList

CLOSE_SECONDS = 0.5

# A connection that has not been used for a while may be gone without a word. When it says nothing for so long, what may
# be run again is, on another one. One that answered a moment ago is just slow, and is waited for.
TRUSTED_SECONDS = 10
SILENCE_SECONDS = 2.5

# A server that wakes or restarts is waited for; one that has been away for longer fails each request at once.
OUTAGE_SECONDS = 3
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 0.4

# After an outage every request finds its connection gone. So many reconnect at once, and the rest take what those give back.
CONNECTING_AT_ONCE = 5

# Address translators forget a connection that says nothing, and tell nobody: Azure's after 240 seconds, Amazon's after 350
# (https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset,
# https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html).
MAX_IDLE_SECONDS = 200

logger = logging.getLogger(__name__)


class Session:
    """A connection, and the statements that are prepared on it.

    With `named` the server keeps them. Without, each run sends the text along, in the same round trip: a transaction pooler that does
    not keep track of names would run another client's statement under ours.
    """

    def __init__(self, connection: asyncpg.Connection, *, named: bool) -> None:
        self.connection = connection
        self._named = named
        self._numbers = count(1)
        self._statements: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._in_use = False
        self.used_at = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """How long it has not been used."""
        return time.monotonic() - self.used_at

    @property
    def usable(self) -> bool:
        """Whether nothing is known against it."""
        return not self.connection.is_closed() and self.idle_seconds < MAX_IDLE_SECONDS

    @property
    def owes_an_answer(self) -> bool:
        """Whether an answer may still come, because its caller did not wait for it."""
        return self._in_use and not self.connection.is_closed()

    async def fetch(self, sql: str, arguments: Sequence[object], seconds: float | None = None) -> Sequence[Row]:
        """Runs one statement.

        Raises:
            TimeoutError: there was no answer within `seconds`.
        """
        self._in_use = True
        statement = self._statements.get(sql) or await self._prepare(sql, seconds)
        try:
            rows = await statement.fetch(*arguments, timeout=seconds)
        except asyncpg.InvalidCachedStatementError:
            # A migration has changed a table. The server says so before it runs anything.
            statement = await self._prepare(sql, seconds)
            rows = await statement.fetch(*arguments, timeout=seconds)
        self._in_use = False
        self.used_at = time.monotonic()
        return cast("list[Row]", rows)

    async def _prepare(self, sql: str, seconds: float | None) -> "PreparedStatement[asyncpg.Record]":
        name = f"taskwell_{next(self._numbers)}" if self._named else ""
        self._statements[sql] = statement = await self.connection.prepare(sql, name=name, timeout=seconds)
        return statement

    async def close(self) -> None:
        """Has the server cancel what still runs, and closes the connection: within half a second, whatever the network does."""
        # What asyncpg cannot close in good order it aborts.
        with suppress(Exception):
            await self.connection.close(timeout=CLOSE_SECONDS)


class Pool:
    """At most `maximum` connections, made by `connect`, which raises what the driver raises."""

    def __init__(self, connect: Callable[[], Awaitable[Session]], minimum: int, maximum: int) -> None:
        self._connect = connect
        self._minimum = minimum
        # Each place with a connection or without one.
        self._places: WaitingList[Session | None] = WaitingList([None] * maximum)
        self._turns = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._away_since = self._failed_at = -math.inf
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connects `minimum` times. A database that cannot be reached yet is no reason not to start."""
        attempts = [self._connect_in_turn() for _ in range(self._minimum)]
        for number, result in enumerate(await asyncio.gather(*attempts, return_exceptions=True), start=1):
            if isinstance(result, Session):
                self._places.idle[-number] = result
            elif not isinstance(result, FAILURES):
                raise result

    async def close(self) -> None:
        """Closes the connections, also those that still owe an answer."""
        idle = [session for session in self._places.idle if session]
        self._places.idle.clear()
        await asyncio.gather(*self._closing, *[session.close() for session in idle])

    async def fetch(self, sql: str, arguments: Sequence[object], *, repeatable: bool) -> Sequence[Row]:
        """Runs one statement on one connection.

        Raises:
            Overloaded: none became free within two seconds.
            DatabaseError: the database cannot be reached, or failed.
        """
        session = await self._places.take()
        try:
            with translated:
                if session is None or not session.usable:
                    session = await self._replace(session)
                is_trusted = not repeatable or session.idle_seconds < TRUSTED_SECONDS
                try:
                    return await session.fetch(sql, arguments, None if is_trusted else SILENCE_SECONDS)
                except LOST as error:
                    self._give_up_older_than(session)
                    if not repeatable:
                        raise
                    logger.warning("a statement is run again, as its answer was lost: %r", error)
                await session.close()
                session = await self._replace(session)
                return await session.fetch(sql, arguments)
        finally:
            self._give_back(session)

    def _give_back(self, session: Session | None) -> None:
        if session and session.owes_an_answer:
            # The caller is not kept waiting for that. The place is, so that there are never more connections than places.
            closing = asyncio.create_task(self._close_and_give_back(session))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            return
        if session is None or session.connection.is_closed():
            self._places.give(None, to_be_taken_last=True)
        else:
            self._places.give(session)

    async def _close_and_give_back(self, session: Session) -> None:
        await session.close()
        self._give_back(None)

    async def _replace(self, session: Session | None) -> Session:
        """A connection that can be used; a server that wakes or restarts is waited for."""
        if session:
            session.connection.terminate()
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._connect_in_turn()
            except PERMANENT:
                raise
            except FAILURES:
                if self._is_away():
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def _give_up_older_than(self, lost: Session) -> None:
        """What took one connection took those that were idle for even longer."""
        for idle in self._places.idle:
            if idle and idle.used_at <= lost.used_at:
                idle.connection.terminate()

    def _is_away(self) -> bool:
        """Takes note of a failure to connect: has the server been away for longer than is worth waiting?"""
        now = time.monotonic()
        if now - self._failed_at > OUTAGE_SECONDS:
            self._away_since = now
        self._failed_at = now
        return now - self._away_since > OUTAGE_SECONDS

    async def _connect_in_turn(self) -> Session:
        async with self._turns:
            places = self._places.idle
            if places and (idle := places[-1]) and idle.usable:
                # Given back while this caller waited for its turn: one connection less to make.
                places.pop()
                places.insert(0, None)
                return idle
            session = await self._connect()
            self._failed_at = -math.inf
            return session
