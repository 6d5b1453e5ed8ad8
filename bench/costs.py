"""Measure a workload: the CPU time of the server and of PostgreSQL, and the latency that the client sees."""

import time
from dataclasses import dataclass
from pathlib import Path

import load
from accounting import cpu_seconds
from database import Postgres
from servers import Running

POLL_SECONDS = 0.1
POLLS = 50


@dataclass(frozen=True)
class Cost:
    """The result of one run: CPU in milliseconds per request, latency in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p95: float
    p99: float
    server_ms: float
    postgres_ms: float


def measure(  # noqa: PLR0913, PLR0917 - each argument is one condition of the measurement
    running: Running,
    postgres: Postgres,
    workload: str,
    users: Path,
    seconds: float,
    connections: int = load.CONNECTIONS,
) -> Cost:
    """Runs the workload against a server that has warmed up."""
    server, database = cpu_seconds(running.pid), cpu_seconds(postgres.pid)
    result = load.run(workload, running.url, users, seconds, connections)
    # The server still works on the requests that were in flight when the time was up.
    server, database = when_idle(running.pid) - server, cpu_seconds(postgres.pid) - database
    per_request = 1000 / result.sent
    return Cost(
        requests=result.sent,
        per_second=result.per_second,
        p50=result.p50,
        p95=result.p95,
        p99=result.p99,
        server_ms=server * per_request,
        postgres_ms=database * per_request,
    )


def when_idle(pid: int) -> float:
    """Returns the CPU time once it has stopped growing, or after five seconds."""
    used = cpu_seconds(pid)
    for _ in range(POLLS):
        time.sleep(POLL_SECONDS)
        before, used = used, cpu_seconds(pid)
        if used == before:
            break
    return used
