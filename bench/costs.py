"""What requests cost: the server's CPU time and PostgreSQL's, besides what the client sees."""

import time
from dataclasses import dataclass
from pathlib import Path

import load
from accounting import cpu_seconds
from database import Postgres
from servers import Running

LOOK_SECONDS = 0.1
LOOKS = 50


@dataclass(frozen=True)
class Cost:
    """One run of a workload: CPU in milliseconds per request, latency in milliseconds."""

    requests: int
    per_second: float
    p50: float
    p95: float
    p99: float
    server_ms: float
    postgres_ms: float


def measure(  # noqa: PLR0913, PLR0917 - who, what, for whom, how long and by how many
    running: Running,
    postgres: Postgres,
    workload: str,
    users: Path,
    seconds: float,
    connections: int = load.CONNECTIONS,
) -> Cost:
    """Runs the workload against a server that is warm."""
    server, database = cpu_seconds(running.pid), cpu_seconds(postgres.pid)
    answers = load.run(workload, running.url, users, seconds, connections)
    # What was under way when time was up is still worked on.
    server, database = _when_idle(running.pid) - server, cpu_seconds(postgres.pid) - database
    per_request = 1000 / answers.sent
    return Cost(
        requests=answers.sent,
        per_second=answers.per_second,
        p50=answers.p50,
        p95=answers.p95,
        p99=answers.p99,
        server_ms=server * per_request,
        postgres_ms=database * per_request,
    )


def _when_idle(pid: int) -> float:
    """Its CPU time, once that stands still, or after five seconds."""
    used = cpu_seconds(pid)
    for _ in range(LOOKS):
        time.sleep(LOOK_SECONDS)
        before, used = used, cpu_seconds(pid)
        if used == before:
            break
    return used
