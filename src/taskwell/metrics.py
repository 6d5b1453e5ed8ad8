"""The metrics of one process: every name, what it means, and where its value comes from.

The parts of the service count for themselves. This module reads the counts when somebody asks, so nothing is paid in
between. It is imported only when metrics are on. No label has a value that clients choose. See
docs/adr/0014-one-scrape-asks-every-worker.md.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

import taskwell
from taskwell.auth.jwks_client import KeySet
from taskwell.auth.keys import Keys
from taskwell.auth.tokens import Cause, Verifier
from taskwell.database.counts import Counted, PoolUse
from taskwell.database.failures import KINDS
from taskwell.http.limits import InFlight
from taskwell.http.rate_limits import RateLimits
from taskwell.http.streams import StreamLimits
from taskwell.tasks.live import LiveChanges
from taskwell.tasks.purge import Purge
from taskwell.telemetry.request_counts import UNKNOWN_ROUTE, UPPER_BOUNDS, Durations, RequestCounts

_PROCESS = ProcessCollector(registry=CollectorRegistry())


@dataclass(frozen=True)
class Metrics:
    """The parts of the service that count."""

    requests: RequestCounts
    in_flight: InFlight
    streams: StreamLimits
    live: LiveChanges
    verifier: Verifier
    keys: Keys
    database: Counted
    rate_limits: RateLimits | None
    purge: Purge | None

    def collect(self) -> Iterator[Metric]:
        """Yields the present values."""
        yield InfoMetricFamily("taskwell", "The version of Taskwell.", {"version": taskwell.__version__})
        yield from _PROCESS.collect()
        yield from _requests(self.requests.durations)
        yield from self._load()
        yield from self._database()
        yield from self._auth()
        if self.rate_limits:
            yield from _rate_limits(self.rate_limits)
        if self.purge:
            yield from _purge(self.purge)

    def _load(self) -> Iterator[Metric]:
        yield _gauge("requests_in_flight", "Requests that are being worked on.", len(self.in_flight))
        yield _counter(
            "requests_shed", "Requests refused with 503, because too many were in flight.", self.in_flight.shed.total
        )
        yield _counter(
            "request_timeouts", "Requests whose database work took longer than 5 s.", self.in_flight.timeouts
        )
        yield _gauge("streams_open", "Open streams: exports and events.", len(self.streams))
        yield _counter("streams_shed", "Streams refused with 503, because too many were open.", self.streams.shed.total)
        yield _counter(
            "streams_refused", "Streams refused with 429, because their user had too many.", self.streams.refused.total
        )
        yield _gauge("event_streams", "Open streams of events.", len(self.live))
        yield _gauge(
            "events_lag_seconds",
            "Time since the last look for changes that succeeded. 0 while there is nothing to look for.",
            self.live.lag_seconds,
        )
        yield _counter(
            "event_streams_cut",
            "Streams of events cut off, because their clients read too slowly.",
            self.live.cut_streams,
        )

    def _database(self) -> Iterator[Metric]:
        yield from _pools(self.database.pools())
        traffic = self.database.traffic
        errors = CounterMetricFamily("taskwell_database_errors", "Errors of the database, by kind.", labels=["kind"])
        for kind in KINDS:
            errors.add_metric([kind], traffic.errors[kind])
        yield errors
        yield _counter("database_round_trips", "Round trips to PostgreSQL for statements.", traffic.round_trips)
        yield _counter("database_connects", "Attempts to open a connection to PostgreSQL.", traffic.connects)
        yield _counter("database_lost_connections", "Connections that broke while a statement ran.", traffic.lost)
        yield _counter("database_retries", "Statements that ran again, because their reply was lost.", traffic.retries)

    def _auth(self) -> Iterator[Metric]:
        yield _counter("token_cache_hits", "Tokens found in the cache of verified tokens.", self.verifier.cache_hits)
        yield _counter("token_verifications", "Tokens not found there, and verified.", self.verifier.verifications)
        refusals = CounterMetricFamily("taskwell_token_refusals", "Tokens refused, by cause.", labels=["cause"])
        for cause in Cause:
            refusals.add_metric([cause], self.verifier.refusals[cause])
        yield refusals
        if isinstance(self.keys, KeySet):
            yield _gauge("key_set_age_seconds", "Time since the key set was last fetched.", self.keys.age_seconds)
            fetches = CounterMetricFamily("taskwell_key_set_fetches", "Fetches of the key set.", labels=["result"])
            for result in ("success", "failure"):
                fetches.add_metric([result], self.keys.fetches[result])
            yield fetches


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"taskwell_{name}", meaning, value)


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(f"taskwell_{name}", meaning, value)


def _requests(durations: Mapping[tuple[str, str | None, int], Durations]) -> Iterator[Metric]:
    total = CounterMetricFamily("taskwell_requests", "Requests that have ended.", labels=["method", "route", "status"])
    of_route: defaultdict[tuple[str, str], list[Durations]] = defaultdict(list)
    for (method, route, status), one in durations.items():
        total.add_metric([method, route or UNKNOWN_ROUTE, str(status)], sum(one.counts))
        of_route[method, route or UNKNOWN_ROUTE].append(one)
    yield total
    histogram = HistogramMetricFamily(
        "taskwell_request_duration_seconds", "Time from the head of a request to the end of its response.",
        labels=["method", "route"],
    )  # fmt: skip
    for (method, route), found in of_route.items():
        histogram.add_metric([method, route], _buckets(found), sum(one.seconds for one in found))
    yield histogram


def _buckets(found: list[Durations]) -> list[tuple[str, float]]:
    """Returns the cumulative counts, as the format demands."""
    buckets: list[tuple[str, float]] = []
    count = 0
    for number, bound in enumerate((*map(str, UPPER_BOUNDS), "+Inf")):
        count += sum(one.counts[number] for one in found)
        buckets.append((bound, count))
    return buckets


def _pools(pools: list[PoolUse]) -> Iterator[Metric]:
    names = ["pool"]
    connections = GaugeMetricFamily(
        "taskwell_database_connections", "Open connections to the database, by state.", labels=["pool", "state"]
    )
    maximum = GaugeMetricFamily("taskwell_database_connections_max", "Maximum number of connections.", labels=names)
    waiting = GaugeMetricFamily("taskwell_database_waiting", "Callers that wait for a connection.", labels=names)
    waits = CounterMetricFamily("taskwell_database_waits", "Callers that had to wait for a connection.", labels=names)
    seconds = CounterMetricFamily("taskwell_database_wait_seconds", "Time that they have waited.", labels=names)
    timeouts = CounterMetricFamily("taskwell_database_wait_timeouts", "Callers that waited in vain.", labels=names)
    for pool in pools:
        connections.add_metric([pool.name, "idle"], pool.idle)
        connections.add_metric([pool.name, "in_use"], pool.in_use)
        maximum.add_metric([pool.name], pool.maximum)
        waiting.add_metric([pool.name], pool.waiting)
        waits.add_metric([pool.name], pool.waits)
        seconds.add_metric([pool.name], pool.waited_seconds)
        timeouts.add_metric([pool.name], pool.timeouts)
    yield from (connections, maximum, waiting, waits, seconds, timeouts)


def _rate_limits(rate_limits: RateLimits) -> Iterator[Metric]:
    refused = CounterMetricFamily("taskwell_rate_limited", "Requests refused with 429, by limit.", labels=["limit"])
    for limit in rate_limits.limits:
        refused.add_metric([limit.name], limit.refused.total)
    yield refused


def _purge(purge: Purge) -> Iterator[Metric]:
    yield _counter("purge_erased", "Tasks whose content the purge has erased.", purge.erased)
    yield _counter("purge_failures", "Purges that failed.", purge.failures)
    yield _gauge(
        "purge_last_success_timestamp_seconds", "When the last purge succeeded, or the epoch.", purge.succeeded_at
    )
