"""Measure what a service level agreement would name: start, steady load, saturation, overload and recovery, memory.

Run: make bench BENCH=levels
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import load
import report
from accounting import resident_megabytes
from database import LoadUser, Postgres, Size, load_users, serve_postgres
from pacer import pace
from servers import Running, start, taskwell
from users import by_secret

OK, CREATED, OVERLOADED = 200, 201, 503

STEADY_PER_SECOND = 100
STEADY_CONNECTIONS = 10
CROWD = 500
OVER_CAPACITY = 10
LONGEST_SECONDS = 30

READS = [*["get"] * 7, *["list"] * 2]
MIX = [*READS, "patch", *READS, "post"]


@dataclass(frozen=True)
class Options:
    """The duration and the size of the runs."""

    size: Size
    seconds: int
    starts: int
    few_requests: int
    many_requests: int


FULL = Options(Size(), 20, 10, 10_000, 1_000_000)
QUICK = Options(Size(20, 1000), 2, 2, 1_000, 10_000)

Row = tuple[str, str]


class Levels:
    """The measurements, all on one PostgreSQL server."""

    def __init__(self, postgres: Postgres, folder: Path, options: Options) -> None:
        self._postgres = postgres
        self._options = options
        self._auth = by_secret()
        users = load_users(options.size)
        self._users = load.write_users(folder / "users", self._auth, users)
        self._readers = [user for user in users if user.role == "reader"]
        self._tokens = {user.name: self._auth.token(user.name) for user in self._readers}
        # A fixed seed, so that every run sends the same requests.
        self._random = random.Random(5)  # noqa: S311 - protects nothing
        postgres.migrate()
        with postgres.without_indexes():
            postgres.add_tasks(options.size)
        postgres.tidy()

    def start_up(self) -> Iterator[Row]:
        times = []
        for _ in range(self._options.starts):
            with self._taskwell() as running:
                times.append(running.ready_seconds)
        yield f"time from start to ready, median of {len(times)}", f"{statistics.median(times):.2f} s"
        yield "slowest start", f"{max(times):.2f} s"

    def steady(self) -> Iterator[Row]:
        with self._taskwell() as running:
            load.run("mix", running.url, self._users, 1)
            responses = pace(
                running.url,
                self._mix(running, self._readers[0]),
                STEADY_PER_SECOND,
                self._options.seconds,
                STEADY_CONNECTIONS,
            )
        yield (
            f"one user, the mix at {responses.per_second:.0f} requests/s: p50",
            f"{responses.percentile(50, OK, CREATED):.1f} ms",
        )
        yield "p95", f"{responses.percentile(95, OK, CREATED):.1f} ms"
        yield "p99", f"{responses.percentile(99, OK, CREATED):.1f} ms"

    def saturated(self) -> Iterator[Row]:
        with self._taskwell() as running:
            load.run("mix", running.url, self._users, 1)
            result = load.run("mix", running.url, self._users, self._options.seconds)
        yield (
            f"32 connections, the mix at full speed, {result.per_second:,.0f} requests/s: p95",
            f"{result.p95:.1f} ms",
        )
        yield "p99", f"{result.p99:.1f} ms"

    def overload(self) -> Iterator[Row]:
        """Overloads with lists of a thousand tasks and with the mix.

        These lists are so much work that a client on the same machine can really send ten times the capacity.
        """
        yield from self._overload("all", "lists of 1,000 tasks", self._lists)
        yield from self._overload("mix", "the mix", self._mix)

    def _overload(self, workload: str, name: str, requests: Callable[[Running], Callable[[], bytes]]) -> Iterator[Row]:
        with self._taskwell() as running:
            load.run(workload, running.url, self._users, 1)
            capacity = load.run(workload, running.url, self._users, self._options.seconds).per_second
            offered = OVER_CAPACITY * capacity
            responses = pace(running.url, requests(running), offered, self._options.seconds, CROWD)
            after = pace(running.url, self._mix(running), STEADY_PER_SECOND, 1, STEADY_CONNECTIONS)
        served = responses.share(OK) + responses.share(CREATED)
        shed = responses.share(OVERLOADED)
        yield f"capacity, {name}", f"{capacity:,.0f} requests/s"
        yield f"{CROWD} connections, goal {offered:,.0f} requests/s: sent", f"{responses.per_second:,.0f} requests/s"
        yield "served", f"{served:.1%}, {served * responses.per_second:,.0f} requests/s"
        yield "shed with 503", f"{shed:.1%}"
        yield "other responses or none", f"{abs(1 - served - shed):.1%}"
        yield "p95 of the served", f"{responses.percentile(95, OK, CREATED):.0f} ms"
        yield "p95 of the shed", f"{responses.percentile(95, OVERLOADED):.0f} ms"
        yield "in the second after it, the mix at 100 requests/s: p95", f"{after.percentile(95, OK, CREATED):.1f} ms"
        yield "of these, shed with 503", f"{after.share(OVERLOADED):.1%}"

    def memory(self) -> Iterator[Row]:
        with self._taskwell() as running:
            done = 0
            used = {}
            for goal in (self._options.few_requests, self._options.many_requests):
                seconds = 1.0
                while done < goal:
                    result = load.run("mix", running.url, self._users, seconds)
                    done += result.sent
                    seconds = min((goal - done) / result.per_second, LONGEST_SECONDS)
                used[goal] = resident_megabytes(running.pid)
                yield f"memory after {done:,} requests of the mix", f"{used[goal]:.1f} MB"
        few, many = used.values()
        yield "growth", f"{many / few - 1:.1%}"

    @contextmanager
    def _taskwell(self) -> Iterator[Running]:
        with start(taskwell(), self._auth, self._postgres.url) as running:
            yield running

    def _mix(self, running: Running, *only: LoadUser) -> Callable[[], bytes]:
        """Returns the same mix as wrk's, for these users or else for all readers."""
        users = only or self._readers
        turns = count()

        def request() -> bytes:
            turn = next(turns)
            user = self._random.choice(users)
            task = f"/{user.first_id + user.step * self._random.randrange(user.tasks)}"
            title = f'{{"title": "Paced, in turn {turn}"}}'
            match MIX[turn % len(MIX)]:
                case "get":
                    return self._request(running, user, "GET", task)
                case "list":
                    return self._request(running, user, "GET", "?limit=50")
                case "patch":
                    return self._request(running, user, "PATCH", task, title)
            return self._request(running, user, "POST", "", title)

        return request

    def _lists(self, running: Running) -> Callable[[], bytes]:
        requests = [self._request(running, user, "GET", "?limit=1000") for user in self._readers]
        return lambda: self._random.choice(requests)

    def _request(self, running: Running, user: LoadUser, method: str, path: str, body: str = "") -> bytes:
        lines = [
            f"{method} /api/{user.name}/tasks{path} HTTP/1.1",
            f"Host: {urlsplit(running.url).netloc}",
            f"Authorization: Bearer {self._tokens[user.name]}",
            *(["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []),
        ]
        return "\r\n".join([*lines, "", body]).encode()


LEVELS: dict[str, Callable[[Levels], Iterator[Row]]] = {
    "start": Levels.start_up,
    "steady": Levels.steady,
    "saturated": Levels.saturated,
    "overload": Levels.overload,
    "memory": Levels.memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=levels")
    parser.add_argument(
        "--quick", action="store_true", help="check that the benchmark works: few tasks, short runs, nothing stored"
    )
    parser.add_argument("--only", choices=LEVELS, action="append", help="measure only this; may be repeated")
    given = parser.parse_args()
    load.require_wrk()
    options = QUICK if given.quick else FULL
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-bench-")))
        postgres = stack.enter_context(serve_postgres())
        # Before our own load begins, because it records the load average.
        conditions = report.conditions(postgres.version, [])
        levels = Levels(postgres, folder, options)
        for name in given.only or LEVELS:
            for row in LEVELS[name](levels):
                print(": ".join(row), flush=True)
                rows.append(row)
        results: dict[str, Any] = {"conditions": conditions, "levels": rows}
    if not given.quick and not given.only:
        text = "\n".join(
            [report.head("Service levels of Taskwell", results["conditions"]), report.table(["", "measured"], rows)]
        )
        print(f"stored in {report.store('levels', results, text)}")


if __name__ == "__main__":
    main()
