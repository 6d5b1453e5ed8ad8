"""Measure how costs grow with the table, with one user's tasks, and with the number of workers.

Run: make bench BENCH=scale
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import load
import pgbench
import plot
import report
from costs import Cost, measure
from database import LoadUser, Postgres, Size, load_users, serve_postgres
from servers import start, taskwell
from statements import for_pgbench
from support.rows import execute
from users import FIRST_USER, by_secret, user

PICTURE = Path(__file__).parents[1] / "docs" / "performance-scale.svg"

# Workloads that write come last, so that the others read the tasks as they were seeded.
WORKLOADS = {"get": "GET one", "list": "list of 50", "patch": "PATCH", "post": "POST"}
TASKS_EACH = 100
USERS = 10
# Few enough that the writers of one user seldom wait for each other: this wait does not depend on the size.
CONNECTIONS = 8
OTHERS = Size()
WORKER_CONNECTIONS = 64


@dataclass(frozen=True)
class Curves:
    """The cost of each workload by size; and of counting alone, in milliseconds of PostgreSQL's CPU."""

    costs: dict[int, dict[str, Cost]]
    count_ms: dict[int, float]


class Scale:
    """The measurements, all on one PostgreSQL server."""

    def __init__(self, postgres: Postgres, folder: Path, seconds: int) -> None:
        self._postgres = postgres
        self._folder = folder
        self._seconds = seconds
        self._auth = by_secret()

    def by_table(self, sizes: Iterable[int]) -> Curves:
        """Measures ten users with a hundred tasks each, in tables with ever more such users."""
        costs: dict[int, dict[str, Cost]] = {}
        for rows in sizes:
            size = Size(rows // TASKS_EACH, TASKS_EACH)
            self._postgres.migrate()
            with self._postgres.without_indexes():
                self._postgres.add_tasks(size)
            self._postgres.tidy()
            costs[rows] = self._costs(load_users(size, USERS), f"{rows:,} tasks in the table")
        return Curves(costs, {})

    def by_user(self, sizes: Iterable[int]) -> Curves:
        """Measures one user with ever more tasks, in a table that also has the tasks of others."""
        self._postgres.migrate()
        with self._postgres.without_indexes():
            self._postgres.add_tasks(OTHERS)
            for number, tasks in enumerate(sizes):
                self._postgres.add_tasks(Size(1, tasks), OTHERS.users + number)
        self._postgres.tidy()
        costs: dict[int, dict[str, Cost]] = {}
        count_ms: dict[int, float] = {}
        for number, tasks in enumerate(sizes, OTHERS.users):
            if pgbench.program():
                script = f"\\set owner {FIRST_USER + number}\n{for_pgbench('count_tasks')}"
                count_ms[tasks] = pgbench.cpu_milliseconds(self._postgres, script, self._seconds)
            ((first,),) = execute(self._postgres.url, f"SELECT min(id) FROM task WHERE user_id = '{user(number)}'")
            both = [LoadUser(role, user(number), int(str(first)), 1, tasks) for role in ("reader", "creator")]
            costs[tasks] = self._costs(both, f"{tasks:,} tasks of one user")
        return Curves(costs, count_ms)

    def by_workers(self, numbers: Iterable[int]) -> dict[int, dict[str, Cost]]:
        """Measures the same load on several processes. They share the machine with PostgreSQL and wrk."""
        costs: dict[int, dict[str, Cost]] = {}
        users = load.write_users(self._folder / "users", self._auth, load_users(OTHERS))
        for workers in numbers:
            options = ["--workers", str(workers)] if workers > 1 else []
            # No process sheds load, because a response with 503 would end the measurement.
            server = taskwell(*options, TASKWELL_MAX_IN_FLIGHT=str(WORKER_CONNECTIONS))
            with start(server, self._auth, self._postgres.url) as running:
                load.run("mix", running.url, users, 1, WORKER_CONNECTIONS)
                costs[workers] = {
                    workload: measure(running, self._postgres, workload, users, self._seconds, WORKER_CONNECTIONS)
                    for workload in ("get", "mix")
                }
                print(f"{workers} workers: {costs[workers]['get'].per_second:,.0f} GETs/s", flush=True)
        return costs

    def _costs(self, load_users: list[LoadUser], title: str) -> dict[str, Cost]:
        users = load.write_users(self._folder / "users", self._auth, load_users)
        with start(taskwell(), self._auth, self._postgres.url) as running:
            load.run("get", running.url, users, 1, CONNECTIONS)
            found = {
                workload: measure(running, self._postgres, workload, users, self._seconds, CONNECTIONS)
                for workload in WORKLOADS
            }
        shown = ", ".join(f"{name} {one.server_ms:.3f} + {one.postgres_ms:.3f}" for name, one in found.items())
        print(f"{title}: {shown} ms", flush=True)
        return found


def draw(by_table: Curves, by_user: Curves, path: Path) -> None:
    users = _curves(by_user)
    if by_user.count_ms:
        # The statement of a list also counts. Its cost is shown as two curves, because only the count grows.
        listed = dict(users.pop("list of 50"))
        less = [(float(size), max(listed[size] - counting, 0.001)) for size, counting in by_user.count_ms.items()]
        users |= {
            "list without its count": less,
            "its count": [(float(size), counting) for size, counting in by_user.count_ms.items()],
        }
    panels = [
        plot.Panel("By the size of the table", "tasks in the table, 100 per user", _curves(by_table)),
        plot.Panel("By the size of a list", "tasks of one user, in a table of a million", users, dashed=["its count"]),
    ]
    plot.draw(panels, "CPU per request, server and PostgreSQL (ms)", path)


def _curves(curves: Curves) -> dict[str, list[tuple[float, float]]]:
    return {
        name: [(size, costs[workload].server_ms + costs[workload].postgres_ms) for size, costs in curves.costs.items()]
        for workload, name in WORKLOADS.items()
    }


def markdown(results: dict[str, Any], by_table: Curves, by_user: Curves, workers: dict[int, dict[str, Cost]]) -> str:
    heads = [*WORKLOADS.values()]
    return "\n".join(
        [
            report.head("How Taskwell's costs grow", results["conditions"]),
            "CPU in milliseconds per request: the server plus PostgreSQL; 8 connections.\n",
            report.table(["tasks in the table", *heads], _rows(by_table)),
            report.table(["tasks of one user", *heads, "count, in PostgreSQL"], _rows(by_user)),
            "64 connections. PostgreSQL and wrk use the same cores.\n",
            report.table(
                ["workers", "GETs/s", "mix, requests/s", "mix, p95 ms"],
                [
                    [str(n), f"{one['get'].per_second:,.0f}", f"{one['mix'].per_second:,.0f}", f"{one['mix'].p95:.1f}"]
                    for n, one in workers.items()
                ],
            ),
        ]
    )


def _rows(curves: Curves) -> list[list[str]]:
    rows = []
    for size, costs in curves.costs.items():
        shown = [f"{costs[workload].server_ms:.3f} + {costs[workload].postgres_ms:.3f}" for workload in WORKLOADS]
        count = [f"{curves.count_ms[size]:.3f}"] if size in curves.count_ms else []
        rows.append([f"{size:,}", *shown, *count])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=scale")
    parser.add_argument(
        "--quick", action="store_true", help="check that the benchmark works: few tasks, short runs, nothing stored"
    )
    parser.add_argument("--seconds", type=int, help="duration of each measurement (default: 5)")
    parser.add_argument("--redraw", action="store_true", help="measure nothing; draw the last recorded run again")
    given = parser.parse_args()
    if given.redraw:
        draw(*_last_recorded(), PICTURE)
        return
    load.require_wrk()
    seconds = given.seconds or (1 if given.quick else 5)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-bench-")))
        postgres = stack.enter_context(serve_postgres())
        # Before our own load begins, because it records the load average.
        conditions = report.conditions(postgres.version, [])
        scale = Scale(postgres, folder, seconds)
        by_table = scale.by_table([10**power for power in range(3, 5 if given.quick else 8)])
        by_user = scale.by_user([10**power for power in range(1, 4 if given.quick else 6)])
        workers = scale.by_workers([1, 2])
        results = {
            "conditions": conditions,
            "by_table": asdict(by_table),
            "by_user": asdict(by_user),
            "by_workers": {
                number: {name: asdict(one) for name, one in costs.items()} for number, costs in workers.items()
            },
        }
        text = markdown(results, by_table, by_user, workers)
        print(f"\n{text}")
        if not given.quick:
            print(f"stored in {report.store('scale', results, text)}")
        draw(by_table, by_user, folder / PICTURE.name if given.quick else PICTURE)


def _last_recorded() -> tuple[Curves, Curves]:
    recorded = json.loads(max(report.RESULTS.glob("*-scale.json")).read_text(encoding="utf-8"))
    by_table, by_user = (
        Curves(
            {int(size): {name: Cost(**cost) for name, cost in costs.items()} for size, costs in part["costs"].items()},
            {int(size): milliseconds for size, milliseconds in part["count_ms"].items()},
        )
        for part in (recorded["by_table"], recorded["by_user"])
    )
    return by_table, by_user


if __name__ == "__main__":
    main()
