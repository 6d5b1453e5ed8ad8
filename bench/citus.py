"""Compare Taskwell on Citus with Taskwell on one PostgreSQL server, and measure what a worker's failure does to others.

Run: make bench BENCH=citus ARGS="--binaries /usr/lib/postgresql/18/bin"

All servers share this machine, so the ratios show what the distribution costs, and not what more machines bring.
"""

import argparse
import asyncio
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import load
import report
from database import SETTINGS, Postgres, Size, load_users
from servers import Running, start, taskwell
from support import citus, postgres
from support.rows import execute
from support.service import Client, create_schema, running
from taskwell.auth.tokens import UserId
from taskwell.cli.copy.copying import copy
from taskwell.database.postgres import PostgresDatabase
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.etags import ListState
from taskwell.tasks.purge import Purge
from taskwell.tasks.watching import WatchedChanges
from users import by_secret

WORKLOADS = ("get", "list", "post", "patch", "mix")
SIZE = Size(users=200, tasks=500)
CONNECTIONS = (1, 16)
LOOKS, PURGES = 30, 10
HARMED, CROWD, UNHARMED = 16, 40, 4

Row = list[str]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=citus")
    parser.add_argument("--binaries", type=Path, required=True, help="PostgreSQL's programs, with Citus installed")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each workload in each round")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--serve", action="store_true", help="only start a cluster, for TEST_CITUS_URL")
    given = parser.parse_args()
    with ExitStack() as stack:
        if given.serve:
            started = stack.enter_context(citus.cluster(given.binaries, given.workers))
            print(f"TEST_CITUS_URL={started.url}", flush=True)
            threading.Event().wait()
        load.require_wrk()
        postgres.SETTINGS |= SETTINGS
        plain = stack.enter_context(_plain(given.binaries))
        cluster = stack.enter_context(citus.cluster(given.binaries, given.workers))
        url = _seeded(plain, cluster)
        conditions = report.conditions(_version(url), [])
        print(conditions, flush=True)
        ratios = _compare(plain.url, url, given.rounds, given.seconds)
        whole = _whole(plain.url, url)
        failures = _failures(cluster, url)
    results: dict[str, Any] = {"conditions": conditions, "ratios": ratios, "whole": whole, "failures": failures}
    text = "\n".join(
        [
            report.head("Taskwell on Citus", conditions),
            (
                f"One coordinator, {given.workers} workers and one plain PostgreSQL on the same cores; {SIZE.rows:,} tasks of "
                f"{SIZE.users} users. Requests per second, medians of {given.rounds} rounds in which the databases take turns, "
                f"{given.seconds} s each; the ratio is taken within a round.\n"
            ),
            report.table(["workload", "connections", "plain", "Citus", "Citus ÷ plain"], ratios),
            "Work for more than one user: looks for changes of users with an open stream, who have none, and a purge.\n",
            report.table(["median, ms", "plain", "Citus"], whole),
            (
                f"{HARMED} clients of users on the failing worker and {UNHARMED} of users on the other, all as fast as they can. "
                "The timeouts are those of docs/operations.md.\n"
            ),
            report.table(
                ["worker", "its clients", "requests/s of others", "p95 ms", "slowest ms", "of others", "of its users"],
                failures,
            ),
        ]
    )
    print(text)
    print(f"stored in {report.store('citus', results, text)}")


@contextmanager
def _plain(binaries: Path) -> Iterator[Postgres]:
    server = postgres.PostgresServer(binaries)
    try:
        server.wait_until_ready()
        ((version,),) = execute(server.url, "SELECT current_setting('server_version')")
        yield Postgres(server.url, 0, str(version))
    finally:
        server.stop()


def _seeded(plain: Postgres, cluster: citus.Cluster) -> str:
    """Puts the same tasks into both, and returns the URL of the distributed database."""
    plain.migrate()
    plain.add_tasks(SIZE)
    url = citus.new_database(cluster.url, "bench")
    create_schema("citus", url)
    asyncio.run(copy(parse_database_url(plain.url), parse_database_url(url)))
    plain.tidy()
    execute(url, "VACUUM (ANALYZE) taskwell.task, taskwell.owner")
    return url


def _version(url: str) -> str:
    ((server,),) = execute(url, "SELECT current_setting('server_version')")
    ((extension,),) = execute(url, "SELECT extversion FROM pg_extension WHERE extname = 'citus'")
    ((build,),) = execute(url, "SELECT citus_version()")
    return f"{server} with {str(build).split(' on ')[0]} (extension {extension})"


# --- requests


def _compare(plain: str, distributed: str, rounds: int, seconds: int) -> list[Row]:
    auth = by_secret()
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        users = load.write_users(Path(folder) / "users", auth, load_users(SIZE))
        servers = [stack.enter_context(start(taskwell(), auth, url)) for url in (plain, distributed)]
        for server in servers:
            load.run("mix", server.url, users, 2)
        for number in range(rounds):
            for connections in CONNECTIONS:
                for workload in WORKLOADS:
                    one, other = _in_turn(servers, number, partial(_rate, workload, users, seconds, connections))
                    found.setdefault((workload, connections), []).append((one, other))
                    print(f"{workload} {connections}: {one:.0f} {other:.0f}", flush=True)
    return [
        [
            workload,
            str(connections),
            *[f"{statistics.median(rates):,.0f}" for rates in zip(*pairs, strict=True)],
            report.spread([there / here for here, there in pairs]),
        ]
        for (workload, connections), pairs in found.items()
    ]


def _in_turn(servers: list[Running], number: int, measure: Callable[[Running], float]) -> tuple[float, float]:
    """Measures both; the other one comes first in the next round."""
    results = {server.url: measure(server) for server in (servers if number % 2 else reversed(servers))}
    return results[servers[0].url], results[servers[1].url]


def _rate(workload: str, users: Path, seconds: int, connections: int, server: Running) -> float:
    return load.run(workload, server.url, users, seconds, connections).per_second


# --- statements that are not of one user


def _whole(plain: str, distributed: str) -> list[Row]:
    pairs = [asyncio.run(_milliseconds(url)) for url in (plain, distributed)]
    names = (f"look for changes of {SIZE.users} users", "of one user", "purge of nothing")
    return [
        [name, *[f"{value:.1f}" for value in values]]
        for name, values in zip(names, zip(*pairs, strict=True), strict=True)
    ]


async def _milliseconds(url: str) -> tuple[float, ...]:
    parsed = cast("PostgresURL", parse_database_url(url))
    states = {
        UserId(str(user)): ListState(int(str(revision)), int(str(epoch)))
        for user, revision, epoch in await asyncio.to_thread(execute, url, "SELECT user_id, revision, epoch FROM owner")
    }
    first = dict(list(states.items())[:1])
    async with PostgresDatabase(parsed, pool_min=1, pool_max=4, prepared_statements="auto") as database:
        changes, purge = WatchedChanges(database), Purge(database, 30)
        return (
            await _median(partial(changes.read, states, 50), LOOKS),
            await _median(partial(changes.read, first, 50), LOOKS),
            await _median(purge.run, PURGES),
        )


async def _median(work: Callable[[], Awaitable[object]], times: int) -> float:
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        await work()
        taken.append(1000 * (time.perf_counter() - started))
    return statistics.median(taken)


# --- failures


def _failures(cluster: citus.Cluster, url: str) -> list[Row]:
    rows = []
    worker = cluster.workers[0]
    execute(url, "ALTER ROLE suite SET statement_timeout = '2s'")
    execute(url, "ALTER ROLE suite SET lock_timeout = '1s'")
    execute(url, "ALTER ROLE suite SET citus.node_connection_timeout = '300ms'")
    with running("citus", migrate=False, DATABASE_URL=url) as service:
        clients = [service.client() for _ in range(4 * CROWD)]
        theirs = [client for client in clients if citus.worker_of(url, client.user) == 0][:CROWD]
        others = [client for client in clients if citus.worker_of(url, client.user) == 1][:UNHARMED]
        for client in (*theirs, *others):
            client.create()
        states: list[tuple[str, int, AbstractContextManager[None]]] = [
            ("works", HARMED, nullcontext()),
            ("killed", HARMED, citus.killed(worker)),
            ("works again", HARMED, nullcontext()),
            ("frozen", HARMED, citus.frozen(worker)),
            ("works again", HARMED, nullcontext()),
            ("frozen", CROWD, citus.frozen(worker)),
            ("works again", CROWD, nullcontext()),
        ]
        for name, number, state in states:
            with state:
                rows.append([name, str(number), *_effect(theirs[:number], others)])
                print(rows[-1], flush=True)
    return rows


def _effect(theirs: list[Client], others: list[Client], seconds: float = 15) -> Iterator[str]:
    """Yields what `others` see while both groups send requests."""
    until = time.monotonic() + seconds
    results: dict[bool, list[tuple[int, float]]] = {True: [], False: []}

    def send(client: Client, *, harmed: bool) -> None:
        while time.monotonic() < until:
            started = time.perf_counter()
            status = client.request("GET").status_code
            results[harmed].append((status, 1000 * (time.perf_counter() - started)))

    threads = [threading.Thread(target=send, args=[client], kwargs={"harmed": True}) for client in theirs]
    threads += [threading.Thread(target=send, args=[client], kwargs={"harmed": False}) for client in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = sorted(milliseconds for _, milliseconds in results[False])
    yield f"{len(taken) / seconds:.0f}"
    yield f"{taken[int(len(taken) * 0.95)]:.0f}"
    yield f"{taken[-1]:.0f}"
    for harmed in (False, True):
        yield ", ".join(
            f"{status}: {number}" for status, number in sorted(Counter(s for s, _ in results[harmed]).items())
        )


if __name__ == "__main__":
    main()
