"""A small pool of connections to PostgreSQL, which replaces connections that break.

The pool reuses the most recently used connection first, so the others can be idle. It does not ping a connection before
use: that would be a round trip, and asyncpg knows when a connection was closed. A statement that fails nevertheless is
retried if that does no harm; see docs/adr/0007-retry-only-what-is-safe-to-repeat.md.
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

from taskwell.database.counts import PoolUse, Traffic
from taskwell.database.failures import FAILURES, PERMANENT, Translated, is_lost
from taskwell.database.interface import Row
from taskwell.database.waiting_list import WaitingList

CLOSE_SECONDS = 0.5

# A connection that was idle for TRUSTED_SECONDS may be dead without either side knowing. If no reply comes within
# SILENCE_SECONDS, a repeatable statement runs again on a new connection. A connection that was used a moment ago is
# only slow, so the pool waits for it.
TRUSTED_SECONDS = 10
SILENCE_SECONDS = 2.5

# Requests wait this long for a server that wakes or restarts. After that, each request tries to connect once and then
# fails.
OUTAGE_SECONDS = 3
FIRST_PAUSE_SECONDS = 0.05
LAST_PAUSE_SECONDS = 0.4

# After an outage every request finds its connection lost. At most this many requests connect at the same time; the
# others then reuse those connections.
CONNECTING_AT_ONCE = 5

# Network address translators drop a silent connection without telling either side: Azure's after 240 seconds, Amazon's
# after 350 (https://learn.microsoft.com/azure/load-balancer/load-balancer-tcp-reset,
# https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html).
MAX_IDLE_SECONDS = 200

logger = logging.getLogger(__name__)


class PooledConnection:
    """A connection, and the statements that are prepared on it.

    With `named`, the server keeps the statements. Otherwise, each run sends the text again, in the same round
    trip. This is for transaction poolers that do not track names: there, one client's name could mean another client's
    statement.
    """

    def __init__(self, driver: asyncpg.Connection, *, named: bool, traffic: Traffic | None = None) -> None:
        self.driver = driver
        self._traffic = traffic or Traffic()
        self._named = named
        self._numbers = count(1)
        self._statements: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._in_use = False
        self.used_at = time.monotonic()

    @property
    def idle_seconds(self) -> float:
        """Seconds since the connection was last used."""
        return time.monotonic() - self.used_at

    @property
    def usable(self) -> bool:
        """Whether the connection is open and was not idle for too long."""
        return not self.driver.is_closed() and self.idle_seconds < MAX_IDLE_SECONDS

    @property
    def awaits_reply(self) -> bool:
        """Whether the caller stopped waiting for a reply that may still arrive."""
        return self._in_use and not self.driver.is_closed()

    async def fetch(self, sql: str, arguments: Sequence[object], seconds: float | None = None) -> Sequence[Row]:
        """Runs one statement.

        Raises:
            TimeoutError: no reply came within `seconds`.
        """
        self._in_use = True
        statement = self._statements.get(sql) or await self._prepare(sql, seconds)
        self._traffic.round_trips += 1
        try:
            rows = await statement.fetch(*arguments, timeout=seconds)
        except asyncpg.InvalidCachedStatementError:
            # A migration has changed a table. The server reports it before it runs anything.
            statement = await self._prepare(sql, seconds)
            self._traffic.round_trips += 1
            rows = await statement.fetch(*arguments, timeout=seconds)
        except asyncpg.PostgresError as error:
            # asyncpg raises this when the reply is complete, so the connection can be kept.
            self._in_use = is_lost(error)
            raise
        self._in_use = False
        self.used_at = time.monotonic()
        return cast("list[Row]", rows)

    async def _prepare(self, sql: str, seconds: float | None) -> "PreparedStatement[asyncpg.Record]":
        name = f"taskwell_{next(self._numbers)}" if self._named else ""
        self._traffic.round_trips += 1
        self._statements[sql] = statement = await self.driver.prepare(sql, name=name, timeout=seconds)
        return statement

    async def close(self) -> None:
        """Cancels the running statement and closes the connection, within half a second, whatever the network does."""
        # asyncpg aborts a connection that it cannot close cleanly.
        with suppress(Exception):
            await self.driver.close(timeout=CLOSE_SECONDS)


class Pool:
    """Holds at most `maximum` connections. `connect` opens one, and raises the driver's exceptions."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[PooledConnection]],
        minimum: int,
        maximum: int,
        traffic: Traffic | None = None,
    ) -> None:
        self._connect = connect
        self._minimum = minimum
        self._maximum = maximum
        self._traffic = traffic or Traffic()
        self._translated = Translated(self._traffic.errors)
        # Each slot holds a connection, or None until one is opened.
        self._slots: WaitingList[PooledConnection | None] = WaitingList([None] * maximum)
        self._connecting = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self._away_since = self._failed_at = -math.inf
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Opens `minimum` connections. The service also starts if the database cannot be reached yet."""
        attempts = [self._connect_or_reuse() for _ in range(self._minimum)]
        for number, result in enumerate(await asyncio.gather(*attempts, return_exceptions=True), start=1):
            if isinstance(result, PooledConnection):
                self._slots.idle[-number] = result
            elif not isinstance(result, FAILURES):
                raise result

    async def close(self) -> None:
        """Closes the connections, including those that still await a reply."""
        idle = [connection for connection in self._slots.idle if connection]
        self._slots.idle.clear()
        await asyncio.gather(*self._closing, *[connection.close() for connection in idle])

    def use(self) -> PoolUse:
        """Returns the use of the connections."""
        slots = self._slots
        return PoolUse(
            name="postgres",
            maximum=self._maximum,
            idle=sum(connection is not None for connection in slots.idle),
            in_use=self._maximum - len(slots.idle),
            waiting=slots.waiting,
            waits=slots.waits,
            waited_seconds=slots.waited_seconds,
            timeouts=slots.timeouts,
        )

    async def fetch(self, sql: str, arguments: Sequence[object], *, repeatable: bool) -> Sequence[Row]:
        """Runs one statement on one connection.

        Raises:
            Overloaded: no connection became free within two seconds.
            DatabaseError: the database failed, or cannot be reached.
        """
        connection = await self._slots.take()
        try:
            with self._translated:
                if connection is None or not connection.usable:
                    connection = await self._replace(connection)
                is_trusted = not repeatable or connection.idle_seconds < TRUSTED_SECONDS
                try:
                    return await connection.fetch(sql, arguments, None if is_trusted else SILENCE_SECONDS)
                except FAILURES as error:
                    if not is_lost(error):
                        raise
                    self._traffic.lost += 1
                    self._terminate_older_than(connection)
                    if not repeatable:
                        raise
                    self._traffic.retries += 1
                    logger.warning("running a statement again, because its reply was lost: %r", error)
                await connection.close()
                connection = await self._replace(connection)
                return await connection.fetch(sql, arguments)
        finally:
            self._give_back(connection)

    def _give_back(self, connection: PooledConnection | None) -> None:
        if connection and connection.awaits_reply:
            # The caller does not wait until the connection is closed. The slot does, so there are never more
            # connections than slots.
            closing = asyncio.create_task(self._close_and_give_back(connection))
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            return
        if connection is None or connection.driver.is_closed():
            self._slots.give(None, to_be_taken_last=True)
        else:
            self._slots.give(connection)

    async def _close_and_give_back(self, connection: PooledConnection) -> None:
        await connection.close()
        self._give_back(None)

    async def _replace(self, connection: PooledConnection | None) -> PooledConnection:
        """Returns a new connection. Waits for a server that wakes or restarts."""
        if connection:
            connection.driver.terminate()
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return await self._connect_or_reuse()
            except PERMANENT:
                raise
            except FAILURES:
                if self._is_away():
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    def _terminate_older_than(self, lost: PooledConnection) -> None:
        """Terminates connections that were idle for even longer than `lost`: the same event has probably broken them."""
        for idle in self._slots.idle:
            if idle and idle.used_at <= lost.used_at:
                idle.driver.terminate()

    def _is_away(self) -> bool:
        """Records a failed connection attempt. Returns whether the server has been away for too long to wait for it."""
        now = time.monotonic()
        if now - self._failed_at > OUTAGE_SECONDS:
            self._away_since = now
        self._failed_at = now
        return now - self._away_since > OUTAGE_SECONDS

    async def _connect_or_reuse(self) -> PooledConnection:
        async with self._connecting:
            slots = self._slots.idle
            if slots and (idle := slots[-1]) and idle.usable:
                # Meanwhile, another caller has given a connection back.
                slots.pop()
                slots.insert(0, None)
                return idle
            self._traffic.connects += 1
            connection = await self._connect()
            self._failed_at = -math.inf
            return connection
