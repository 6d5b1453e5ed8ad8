"""Counts the requests that have ended, by method, route and status, and how long they took."""

from bisect import bisect_left
from collections.abc import Mapping

UPPER_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""The upper bounds of the buckets of durations, in seconds. One more bucket has all that took longer."""

UNKNOWN_ROUTE = "unknown"
OTHER_METHOD = "_OTHER"
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

Kind = tuple[str, str | None, int]


class Durations:
    """The number of durations in each bucket, and their sum in seconds."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(UPPER_BOUNDS) + 1)
        self.seconds = 0.0


class RequestCounts:
    """The counts of one process. Their number is bounded, whatever methods and paths clients send."""

    def __init__(self) -> None:
        self._durations: dict[Kind, Durations] = {}

    @property
    def durations(self) -> Mapping[Kind, Durations]:
        """The durations by method, route and status. The route of unknown paths is None."""
        return self._durations

    def note(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """Counts a request that has ended."""
        durations = self._durations.get((method, route, status)) or self._add(method, route, status)
        durations.counts[bisect_left(UPPER_BOUNDS, seconds)] += 1
        durations.seconds += seconds

    def _add(self, method: str, route: str | None, status: int) -> Durations:
        kind = (method if method in METHODS else OTHER_METHOD, route, status)
        return self._durations.setdefault(kind, Durations())
