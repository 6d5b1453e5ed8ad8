"""Counts the instructions that a request takes in the Python servers, which does not depend on what else the machine does.

Callgrind counts them (https://valgrind.org/docs/manual/cl-manual.html): those of the server's own process and its
libraries, and not those of the kernel. Ratios of CPU time, measured in the same run, show how far the two agree.

Run: make bench BENCH=instructions
"""

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import load
import report
from agreement import check
from costs import measure, when_idle
from database import Postgres, Size, load_users, seed_sqlite, serve_postgres
from servers import SERVERS, Running, start
from users import Auth, by_secret

WORKLOADS = ("health", "get", "list", "mix", "patch", "post")
PEERS = ("taskwell", "bare", "tutorial", "taskwell-sqlite")
SIZE = Size(users=200, tasks=1000)
# Under Callgrind a server is about 50 times slower. More connections would only make the requests wait.
CONNECTIONS = 8
WARM_UP_SECONDS = 4
SECONDS = 6

Counts = dict[str, dict[str, float]]
Ratios = dict[str, dict[str, list[float]]]


@contextmanager
def counting(peer: str, auth: Auth, url: str) -> Iterator[tuple[Running, Path]]:
    """Yields a server under Callgrind, which does not count yet, and the folder of Callgrind's files."""
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        callgrind = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no"]
        callgrind += [f"--callgrind-out-file={folder}/out"]
        server = SERVERS[peer]
        with start(replace(server, command=[*callgrind, *server.command]), auth, url) as running:
            yield running, Path(folder)


def instructions(running: Running, folder: Path, workload: str, users: Path) -> float:
    """Returns the number of instructions per request."""
    _control(running.pid, "--zero")
    _control(running.pid, "--instr=on")
    sent = load.run(workload, running.url, users, SECONDS, CONNECTIONS).sent
    when_idle(running.pid)
    _control(running.pid, "--instr=off")
    _control(running.pid, "--dump")
    newest = max(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))
    found = re.search(r"^totals: (\d+)$", newest.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return int(found[1]) / sent


def _control(pid: int, option: str) -> None:
    subprocess.run(["callgrind_control", option, str(pid)], check=True, capture_output=True)


def count_all(postgres: Postgres, urls: dict[str, str], auth: Auth, users: Path) -> Counts:
    """Returns the instructions by workload and server."""
    counts: Counts = {workload: {} for workload in WORKLOADS}
    for peer, url in urls.items():
        postgres.tidy()
        with counting(peer, auth, url) as (running, folder):
            check(running, auth, SIZE)
            for workload in WORKLOADS:
                load.run(workload, running.url, users, WARM_UP_SECONDS, CONNECTIONS)
                counts[workload][peer] = instructions(running, folder, workload, users)
                print(f"{peer:15} {workload:6} {counts[workload][peer]:12,.0f} instructions", flush=True)
    return counts


def cpu_ratios(postgres: Postgres, urls: dict[str, str], auth: Auth, users: Path, rounds: int) -> Ratios:
    """Returns the CPU time of each server as a multiple of Taskwell's, by workload, once for each round."""
    ratios: Ratios = {workload: {peer: [] for peer in urls} for workload in WORKLOADS}
    for number in range(rounds):
        used: Counts = {workload: {} for workload in WORKLOADS}
        for peer, url in urls.items():
            postgres.tidy()
            with start(SERVERS[peer], auth, url) as running:
                load.run("mix", running.url, users, 1)
                for workload in WORKLOADS:
                    used[workload][peer] = measure(running, postgres, workload, users, 2, CONNECTIONS).server_ms
        for workload, found in used.items():
            for peer, milliseconds in found.items():
                ratios[workload][peer].append(milliseconds / found["taskwell"])
        print(f"CPU time: round {number + 1} of {rounds}", flush=True)
    return ratios


def markdown(results: report.Results) -> str:
    """Returns the tables: instructions, and how far their ratios agree with those of CPU time."""
    counts, ratios = results["instructions"], results["cpu_ratios"]
    heads = ["workload", *PEERS]
    rows = [[workload, *(f"{counts[workload][peer] / 1000:,.0f}" for peer in PEERS)] for workload in WORKLOADS]
    compared = [peer for peer in PEERS if peer != "taskwell"]
    agreement = [
        [
            workload,
            *(
                f"{counts[workload][peer] / counts[workload]['taskwell']:.2f}"
                f" / {statistics.median(ratios[workload][peer]):.2f}"
                f" ({min(ratios[workload][peer]):.2f} to {max(ratios[workload][peer]):.2f})"
                for peer in compared
            ),
        ]
        for workload in WORKLOADS
    ]
    return "\n".join(
        [
            report.head("Instructions per request", results["conditions"]),
            f"{SIZE.rows:,} tasks of {SIZE.users:,} users; {CONNECTIONS} connections; HS256.",
            "",
            "Thousands of instructions per request, in the server's process, without the kernel:",
            "",
            report.table(heads, rows),
            "",
            "As a multiple of taskwell: by instructions / by CPU time, median of the rounds (lowest to highest):",
            "",
            report.table(["workload", *compared], agreement),
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench BENCH=instructions")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the comparison with CPU time (default: 5)")
    rounds = parser.parse_args().rounds
    load.require_wrk()
    if not shutil.which("callgrind_control"):
        sys.exit("this benchmark needs Valgrind: apt-get install valgrind")
    with tempfile.TemporaryDirectory(prefix="taskwell-bench-") as folder, serve_postgres() as postgres:
        auth = by_secret()
        conditions = report.conditions(postgres.version, PEERS)
        postgres.seed(SIZE)
        sqlite = seed_sqlite(Path(folder) / "taskwell.db", SIZE)
        urls = {peer: sqlite if peer == "taskwell-sqlite" else postgres.url for peer in PEERS}
        users = load.write_users(Path(folder) / "users", auth, load_users(SIZE))
        results = {
            "conditions": conditions,
            "instructions": count_all(postgres, urls, auth, users),
            "cpu_ratios": cpu_ratios(postgres, urls, auth, users, rounds),
        }
    text = markdown(results)
    print(f"\n{text}")
    print(f"stored in {report.store('instructions', results, text)}")


if __name__ == "__main__":
    main()
