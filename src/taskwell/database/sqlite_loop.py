"""Runs short reads of SQLite on the event loop's own thread, which costs less than to pass them to another thread.

See docs/adr/0015-short-reads-on-the-event-loop-and-group-commit.md.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence

from taskwell.database.counts import Traffic
from taskwell.database.failures import Translated
from taskwell.database.interface import Row, Values

LOOP_SECONDS = 0.002
"""A read that takes longer is interrupted. The event loop serves nobody meanwhile."""

# SQLite looks at the clock after this number of its instructions: about twenty rows of a list, or thirty rows that are
# counted. So few pages of the file are read between two looks, however slow the disk is.
_INSTRUCTIONS = 200

# Interrupted; or another process recovers the log after a crash, for which this connection does not wait.
_NOT_NOW = (sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_BUSY)


class LoopReader:
    """A connection on which the event loop's thread reads."""

    connection: sqlite3.Connection

    def __init__(self, connect: Callable[[], sqlite3.Connection], traffic: Traffic) -> None:
        self._connect = connect
        self._translated = Translated(traffic.errors)
        self._until = 0.0

    async def open(self) -> None:
        """Opens the connection."""
        with self._translated:
            self.connection = await asyncio.to_thread(self._connect)
        self.connection.execute("PRAGMA busy_timeout = 0")
        self.connection.set_progress_handler(self._is_late, _INSTRUCTIONS)

    def close(self) -> None:
        """Closes the connection."""
        self.connection.close()

    def run(self, read: Callable[[sqlite3.Connection, Values], Sequence[Row]], values: Values) -> Sequence[Row] | None:
        """Returns the rows of `read`, or None if it cannot end at once: then run it in a thread.

        Raises:
            DatabaseError: the database failed.
        """
        self._until = time.perf_counter() + LOOP_SECONDS
        with self._translated:
            try:
                return read(self.connection, values)
            except sqlite3.OperationalError as error:
                # Errors that Python itself raises have no code.
                if getattr(error, "sqlite_errorcode", 0) & 0xFF in _NOT_NOW:
                    return None
                raise

    def _is_late(self) -> bool:
        return time.perf_counter() > self._until
