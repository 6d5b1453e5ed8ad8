"""Counts of what a database does in this process. The metrics read them; counting is too cheap to switch off."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class Traffic:
    """Counts of what was sent to PostgreSQL."""

    round_trips: int = 0
    connects: int = 0
    """Attempts to open a connection, also those that fail."""
    lost: int = 0
    """Connections that broke while a statement ran."""
    retries: int = 0
    """Statements that ran again, because their reply was lost."""
    errors: Counter[str] = field(default_factory=Counter)
    """Errors by kind; see `taskwell.database.failures`."""


@dataclass(frozen=True, slots=True)
class PoolUse:
    """The use of the connections of one pool: now, and since the start."""

    name: str
    maximum: int
    idle: int
    in_use: int
    waiting: int
    waits: int
    waited_seconds: float
    timeouts: int


class Counted(Protocol):
    """A database that counts."""

    traffic: Traffic

    def pools(self) -> list[PoolUse]:
        """Returns the use of each pool."""
        ...
