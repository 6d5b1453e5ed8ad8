"""What a service level agreement would ask of Taskwell: start, steady load, saturation, overload and recovery, memory.

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
from database import Asker, Postgres, Size, askers, serve_postgres
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
    """How long and how large."""

    size: Size
    seconds: int
    starts: int
    few_requests: int
    many_requests: int


FULL = Options(Size(), 20, 10, 10_000, 1_000_000)
QUICK = Options(Size(20, 1000), 2, 2, 1_000, 10_000)

Row = tuple[str, str]


class Levels:
    """What is measured, on one PostgreSQL."""

    def __init__(self, postgres: Postgres, folder: Path, options: Options) -> None:
        self._postgres = postgres
        self._options = options
        self._auth = by_secret()
        everybody = askers(options.size)
        self._users = load.write_users(folder / "users", self._auth, everybody)
        self._readers = [asker for asker in everybody if asker.does == "reads"]
        self._tokens = {asker.user: self._auth.token(asker.user) for asker in self._readers}
        # The same requests each time.
        self._random = random.Random(5)  # noqa: S311 - guards nothing
        postgres.migrate()
        with postgres.without_indexes():
            postgres.add_tasks(options.size)
        postgres.tidy()

    def start_up(self) -> Iterator[Row]:
        times = []
        for _ in range(self._options.starts):
            with self._taskwell() as running:
                times.append(running.ready_seconds)
        yield f"ready after start, median of {len(times)}", f"{statistics.median(times):.2f} s"
        yield "the slowest of them", f"{max(times):.2f} s"

    def steady(self) -> Iterator[Row]:
        with self._taskwell() as running:
            load.run("mix", running.url, self._users, 1)
            answers = pace(
                running.url,
                self._mix(running, self._readers[0]),
                STEADY_PER_SECOND,
                self._options.seconds,
                STEADY_CONNECTIONS,
            )
        yield (
            f"one user, the mix at {answers.per_second:.0f} requests/s: p50",
            f"{answers.percentile(50, OK, CREATED):.1f} ms",
        )
        yield "p95", f"{answers.percentile(95, OK, CREATED):.1f} ms"
        yield "p99", f"{answers.percentile(99, OK, CREATED):.1f} ms"

    def saturated(self) -> Iterator[Row]:
        with self._taskwell() as running:
            load.run("mix", running.url, self._users, 1)
            answers = load.run("mix", running.url, self._users, self._options.seconds)
        yield (
            f"32 connections, the mix as fast as it goes, {answers.per_second:,.0f} requests/s: p95",
            f"{answers.p95:.1f} ms",
        )
        yield "p99", f"{answers.p99:.1f} ms"

    def overload(self) -> Iterator[Row]:
        """Lists of a thousand tasks are so much work that a client on this machine can really ask for ten times as many."""
        yield from self._overload("all", "lists of 1,000 tasks", self._lists)
        yield from self._overload("mix", "the mix", self._mix)

    def _overload(self, workload: str, name: str, requests: Callable[[Running], Callable[[], bytes]]) -> Iterator[Row]:
        with self._taskwell() as running:
            load.run(workload, running.url, self._users, 1)
            capacity = load.run(workload, running.url, self._users, self._options.seconds).per_second
            offered = OVER_CAPACITY * capacity
            answers = pace(running.url, requests(running), offered, self._options.seconds, CROWD)
            after = pace(running.url, self._mix(running), STEADY_PER_SECOND, 1, STEADY_CONNECTIONS)
        accepted = answers.share(OK) + answers.share(CREATED)
        refused = answers.share(OVERLOADED)
        yield f"capacity, {name}", f"{capacity:,.0f} requests/s"
        yield f"{CROWD} connections that ask for {offered:,.0f}/s: sent", f"{answers.per_second:,.0f} requests/s"
        yield "accepted", f"{accepted:.1%}, {accepted * answers.per_second:,.0f} requests/s"
        yield "answered 503", f"{refused:.1%}"
        yield "answered otherwise or not at all", f"{abs(1 - accepted - refused):.1%}"
        yield "p95 of the accepted", f"{answers.percentile(95, OK, CREATED):.0f} ms"
        yield "p95 of the refused", f"{answers.percentile(95, OVERLOADED):.0f} ms"
        yield "in the second after it, the mix at 100 requests/s: p95", f"{after.percentile(95, OK, CREATED):.1f} ms"
        yield "of these, answered 503", f"{after.share(OVERLOADED):.1%}"

    def memory(self) -> Iterator[Row]:
        with self._taskwell() as running:
            done = 0
            held = {}
            for goal in (self._options.few_requests, self._options.many_requests):
                seconds = 1.0
                while done < goal:
                    answers = load.run("mix", running.url, self._users, seconds)
                    done += answers.sent
                    seconds = min((goal - done) / answers.per_second, LONGEST_SECONDS)
                held[goal] = resident_megabytes(running.pid)
                yield f"memory after {done:,} requests of the mix", f"{held[goal]:.1f} MB"
        few, many = held.values()
        yield "grown by", f"{many / few - 1:.1%}"

    @contextmanager
    def _taskwell(self) -> Iterator[Running]:
        with start(taskwell(), self._auth, self._postgres.url) as running:
            yield running

    def _mix(self, running: Running, *of: Asker) -> Callable[[], bytes]:
        """The same mix as wrk's, of these users or of all that read."""
        askers = of or self._readers
        turns = count()

        def request() -> bytes:
            turn = next(turns)
            asker = self._random.choice(askers)
            task = f"/{asker.first_id + asker.step * self._random.randrange(asker.tasks)}"
            title = f'{{"title": "Paced, in turn {turn}"}}'
            match MIX[turn % len(MIX)]:
                case "get":
                    return self._request(running, asker, "GET", task)
                case "list":
                    return self._request(running, asker, "GET", "?limit=50")
                case "patch":
                    return self._request(running, asker, "PATCH", task, title)
            return self._request(running, asker, "POST", "", title)

        return request

    def _lists(self, running: Running) -> Callable[[], bytes]:
        requests = [self._request(running, asker, "GET", "?limit=1000") for asker in self._readers]
        return lambda: self._random.choice(requests)

    def _request(self, running: Running, asker: Asker, method: str, path: str, body: str = "") -> bytes:
        lines = [
            f"{method} /api/{asker.user}/tasks{path} HTTP/1.1",
            f"Host: {urlsplit(running.url).netloc}",
            f"Authorization: Bearer {self._tokens[asker.user]}",
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
    parser.add_argument("--quick", action="store_true", help="short runs on few tasks, not stored: does it run?")
    parser.add_argument("--only", choices=LEVELS, action="append", help="one of these; may be given several times")
    given = parser.parse_args()
    load.require_wrk()
    options = QUICK if given.quick else FULL
    rows: list[Row] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-bench-")))
        postgres = stack.enter_context(serve_postgres())
        # Before there is any load of ours.
        conditions = report.conditions(postgres.version, [])
        levels = Levels(postgres, folder, options)
        for name in given.only or LEVELS:
            for row in LEVELS[name](levels):
                print(": ".join(row), flush=True)
                rows.append(row)
        results: dict[str, Any] = {"conditions": conditions, "levels": rows}
    if not given.quick and not given.only:
        text = "\n".join(
            [report.head("What Taskwell keeps", results["conditions"]), report.table(["", "measured"], rows)]
        )
        print(f"stored in {report.store('levels', results, text)}")


if __name__ == "__main__":
    main()
