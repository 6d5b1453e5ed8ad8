"""Compare Taskwell with its peers, in rounds in which the servers take turns.

Run: make bench
"""

import argparse
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import load
import pgbench
import report
from accounting import resident_megabytes
from agreement import check
from costs import measure
from database import Postgres, Size, load_users, seed_sqlite, serve_postgres
from servers import SERVERS, Running, install_fastify, start
from support.relay import Relay
from users import Auth, by_key_set, by_secret

WORKLOADS = ("health", "get", "list", "mix", "patch", "post")
ALGORITHMS = ("HS256", "EdDSA")
PEERS = ("taskwell", "bare", "fastify", "tutorial", "taskwell-sqlite")


@dataclass(frozen=True)
class Start:
    """The time that a server took to start, and its memory before and after the workloads."""

    peer: str
    ready_seconds: float
    megabytes_at_start: float
    megabytes_at_end: float


@dataclass(frozen=True)
class Options:
    """The servers to measure, and the time for each."""

    peers: Sequence[str]
    workloads: Sequence[str]
    algorithms: Sequence[str]
    rounds: int
    seconds: float
    size: Size


class Bench:
    """The seeded databases, and the measurements so far."""

    def __init__(self, options: Options, postgres: Postgres, folder: Path) -> None:
        self.options = options
        self.measurements: list[dict[str, object]] = []
        self.starts: list[Start] = []
        self.round_trips: dict[str, dict[str, float]] = {}
        self.pgbench: dict[str, list[float]] = {}
        self._postgres = postgres
        self._folder = folder
        say(f"seeding {options.size.rows:,} tasks of {options.size.users:,} users")
        postgres.seed(options.size)
        if "taskwell-sqlite" in options.peers:
            self._sqlite_url = seed_sqlite(folder / "taskwell.db", options.size)

    def run_round(self, number: int, auth: Auth) -> None:
        """Measures each peer once. Each round begins with a different peer."""
        peers = self.options.peers
        for peer in [*peers[number % len(peers) :], *peers[: number % len(peers)]]:
            # The algorithm makes no difference to SQLite, so measure it once.
            if peer == "taskwell-sqlite" and auth.algorithm != self.options.algorithms[0]:
                continue
            self._postgres.tidy()
            with start(SERVERS[peer], auth, self._url(peer)) as running:
                self._run_workloads(number, peer, auth, running)

    def run_pgbench(self) -> None:
        """Measures Taskwell's statements when pgbench sends them."""
        self._postgres.tidy()
        for workload, script in pgbench.scripts(self.options.size).items():
            if workload in self.options.workloads:
                used = pgbench.cpu_milliseconds(self._postgres, script, self.options.seconds)
                self.pgbench.setdefault(workload, []).append(used)

    def count_round_trips(self, auth: Auth) -> None:
        """Counts the round trips to PostgreSQL per request, in runs of their own with one connection."""
        users = self._write_users(auth)
        for peer in self.options.peers:
            if peer == "taskwell-sqlite":
                continue
            with Relay(self._postgres.url) as relay, start(SERVERS[peer], auth, relay.url) as running:
                for workload in self.options.workloads:
                    load.run(workload, running.url, users, 1, connections=1)
                    before = relay.round_trips
                    result = load.run(workload, running.url, users, 1, connections=1)
                    trips = (relay.round_trips - before) / result.sent
                    self.round_trips.setdefault(peer, {})[workload] = round(trips, 1)

    def _run_workloads(self, number: int, peer: str, auth: Auth, running: Running) -> None:
        at_start = resident_megabytes(running.pid)
        check(running, auth, self.options.size)
        users = self._write_users(auth)
        load.run("mix", running.url, users, 1)
        for workload in self.options.workloads:
            if workload == "health" and auth.algorithm != self.options.algorithms[0]:
                continue
            cost = measure(running, self._postgres, workload, users, self.options.seconds)
            labels = {"round": number, "peer": peer, "algorithm": auth.algorithm, "workload": workload}
            self.measurements.append(labels | asdict(cost))
            say(
                f"{number + 1}/{self.options.rounds} {auth.algorithm} {peer:15} {workload:6} "
                f"{cost.per_second:7,.0f}/s  p95 {cost.p95:6.1f} ms  CPU {cost.server_ms:.3f} ms, "
                f"PostgreSQL {cost.postgres_ms:.3f} ms"
            )
        self.starts.append(Start(peer, running.ready_seconds, at_start, resident_megabytes(running.pid)))

    def _write_users(self, auth: Auth) -> Path:
        return load.write_users(self._folder / "users", auth, load_users(self.options.size))

    def _url(self, peer: str) -> str:
        return self._sqlite_url if peer == "taskwell-sqlite" else self._postgres.url


def say(line: str) -> None:
    print(line, flush=True)


def main() -> None:
    options, store = _options()
    load.require_wrk()
    if any(peer.startswith("fastify") for peer in options.peers):
        install_fastify()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-bench-")))
        postgres = stack.enter_context(serve_postgres())
        known = {"HS256": by_secret(), "EdDSA": stack.enter_context(by_key_set())}
        auths = [known[algorithm] for algorithm in options.algorithms]
        # Before our own load begins, because it records the load average.
        conditions = report.conditions(postgres.version, options.peers)
        bench = Bench(options, postgres, folder)
        for number in range(options.rounds):
            for auth in auths:
                bench.run_round(number, auth)
            if pgbench.program():
                bench.run_pgbench()
        say("counting round trips")
        bench.count_round_trips(auths[0])
        results = {
            "conditions": conditions,
            "parameters": asdict(options),
            "measurements": bench.measurements,
            "starts": [asdict(one) for one in bench.starts],
            "round_trips": bench.round_trips,
            "pgbench_ms": bench.pgbench,
        }
    text = report.markdown(results)
    print(f"\n{text}")
    if store:
        say(f"stored in {report.store('table', results, text)}")


def _options() -> tuple[Options, bool]:
    parser = argparse.ArgumentParser(prog="make bench", description="Measure Taskwell and its peers side by side.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="check that the benchmark works: one short round, few tasks, nothing stored",
    )
    parser.add_argument("--rounds", type=int, help="number of rounds (default: 5)")
    parser.add_argument("--seconds", type=int, help="duration of each measurement (default: 3)")
    parser.add_argument(
        "--only", type=_among(WORKLOADS), default=WORKLOADS, metavar="WORKLOADS", help=", ".join(WORKLOADS)
    )
    parser.add_argument("--peers", type=_among(SERVERS), default=PEERS, metavar="PEERS", help=", ".join(SERVERS))
    parser.add_argument(
        "--algorithms", type=_among(ALGORITHMS), default=ALGORITHMS, metavar="ALGORITHMS", help=", ".join(ALGORITHMS)
    )
    given = parser.parse_args()
    rounds, seconds, size = (1, 1, Size(200, 100)) if given.quick else (5, 3, Size())
    options = Options(given.peers, given.only, given.algorithms, given.rounds or rounds, given.seconds or seconds, size)
    whole = given.peers is PEERS and given.only is WORKLOADS and given.algorithms is ALGORITHMS
    return options, whole and not given.quick


def _among(known: Iterable[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = text.split(",")
        if unknown := set(names) - set(known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; choose from {', '.join(known)}")
        return names

    return read


if __name__ == "__main__":
    main()
