"""Runs short reads of SQLite on the event loop's own thread, which costs less than to pass them to another thread.

See docs/adr/0016-sqlite-on-the-event-loop.md.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from taskwell.database.counts import Traffic
from taskwell.database.failures import Translated
from taskwell.database.interface import Row, Values

LOOP_SECONDS = 0.02
"""Statements that keep the event loop for longer are interrupted. That happens when the disk is slow."""

LOOP_LOOKS = 500
"""Statements that need more than 100,000 instructions of SQLite, 200 for each look, are interrupted, too: two to five
milliseconds. Unlike time, this does not depend on what else the machine does."""

# SQLite looks at the limits after this number of instructions: every 16 rows of a list, or every 67 that are counted.
# So it reads few pages of the file between two looks, however slow the disk is. With 100, a list would cost 6 % more.
_INSTRUCTIONS = 200

# Interrupted; or another process holds a lock, for which the event loop does not wait.
_NOT_NOW = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY)


class LoopLimit:
    """A context in which the statements of a connection are interrupted when they keep the event loop for too long."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._until = 0.0
        self._looks = 0

    def __enter__(self) -> None:
        self._until = time.perf_counter() + LOOP_SECONDS
        self._looks = LOOP_LOOKS
        self._connection.set_progress_handler(self._is_reached, _INSTRUCTIONS)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.set_progress_handler(None, 0)

    def _is_reached(self) -> bool:
        self._looks -= 1
        return self._looks < 0 or time.perf_counter() > self._until


def is_not_now(error: Exception) -> bool:
    """Returns whether a statement failed only because it may not wait. It can succeed in a thread."""
    # Errors that Python itself raises have no code.
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_NOW


class LoopReader:
    """A connection on which the event loop's thread reads. It must have no busy timeout."""

    connection: sqlite3.Connection

    def __init__(self, connect: Callable[[], sqlite3.Connection], traffic: Traffic) -> None:
        self._connect = connect
        self._translated = Translated(traffic.errors)

    async def open(self) -> None:
        """Opens the connection."""
        with self._translated:
            self.connection = await asyncio.to_thread(self._connect)

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    def run(self, read: Callable[[sqlite3.Connection, Values], Sequence[Row]], values: Values) -> Sequence[Row] | None:
        """Returns the rows of `read`, or None if it cannot end at once: then run it in a thread.

        Raises:
            DatabaseError: the database failed.
        """
        with self._translated, LoopLimit(self.connection):
            try:
                return read(self.connection, values)
            except sqlite3.Error as error:
                if is_not_now(error):
                    return None
                raise
