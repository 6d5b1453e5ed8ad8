"""The results, as tables for people and as JSON for programs."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import machine

RESULTS = Path(__file__).with_name("results")

Results = dict[str, Any]
Measured = Mapping[str, Any]

# The goals, as ratios of server CPU per request: at least this many times less than the tutorial, and at most this many
# times as much as the others.
TIMES_LESS_THAN_TUTORIAL = {"get": 12, "post": 12, "patch": 12, "list": 8, "mix": 8}
AT_MOST_BARE = {"get": 1.4, "list": 1.2, "post": 1.5, "patch": 1.5, "mix": 1.3}
AT_MOST_FASTIFY = {"HS256": 0.95, "EdDSA": 0.5}
# The goal for SQLite's CPU per request, which is part of the server's, against the server and PostgreSQL together.
AT_MOST_WITH_POSTGRES = {"get": 0.8, "list": 0.8, "mix": 0.8}
# The goal for PostgreSQL's CPU per request.
AT_MOST_PGBENCH = 1.5


@dataclass(frozen=True)
class Comparison:
    """The ratio of two servers' CPU, and the goals for it, by workload. `whole`: with that of PostgreSQL."""

    over: str
    under: str
    whole: bool = False
    at_least: Mapping[str, float] = field(default_factory=dict)
    at_most: Mapping[str, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.over} ÷ " + (f"({self.under} + PostgreSQL)" if self.whole else self.under)

    def cpu(self, measured: Measured) -> float:
        """Returns the CPU to compare."""
        return float(measured["server_ms"] + (measured["postgres_ms"] if self.whole else 0))


def conditions(postgres: str, peers: Sequence[str]) -> dict[str, Any]:
    """Returns when and where the benchmark ran, and the versions."""
    fastify = any(peer.startswith("fastify") for peer in peers)
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.machine(),
        "quietness": machine.quietness(),
        "versions": {"postgresql": postgres, **machine.versions(fastify=fastify)},
    }


def store(name: str, results: Results, text: str) -> Path:
    """Writes both forms and returns the path of the tables."""
    RESULTS.mkdir(exist_ok=True)
    stem = f"{datetime.now(UTC).date().isoformat()}-{machine.short_commit()}-{name}"
    (RESULTS / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    path = RESULTS / f"{stem}.md"
    path.write_text(text, encoding="utf-8")
    return path


def head(title: str, found: dict[str, Any]) -> str:
    """Returns the title and the conditions."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"# {title}\n\n{found['date']}, commit {found['commit']}; {found['machine']}; {found['quietness']}.\n\n"
        f"{versions}.\n"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table in Markdown. All columns but the first are aligned right."""
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown(results: Results) -> str:
    """Returns the whole report of `make bench`."""
    options = results["parameters"]
    size = options["size"]
    parts = [
        head("Taskwell and its peers", results["conditions"]),
        (
            f"{size['users'] * size['tasks']:,} tasks of {size['users']:,} users; {options['rounds']} rounds in which "
            f"the servers take turns; {options['seconds']} s per figure; 32 connections. Medians over the rounds.\n"
        ),
    ]
    for algorithm in options["algorithms"]:
        parts += [f"## {algorithm}\n", _figures(results, algorithm), _ratios(results, algorithm)]
    parts += ["## PostgreSQL\n", _against_pgbench(results), "## Processes\n", _processes(results)]
    return "\n".join(parts)


def _figures(results: Results, algorithm: str) -> str:
    rows = []
    for workload in results["parameters"]["workloads"]:
        for peer in results["parameters"]["peers"]:
            found = [one for one in _of(results, algorithm, workload) if one["peer"] == peer]
            if found:
                trips = results["round_trips"].get(peer, {}).get(workload)
                rows.append(
                    [
                        workload,
                        peer,
                        f"{_median(found, 'per_second'):,.0f}",
                        *[f"{_median(found, name):.1f}" for name in ("p50", "p95", "p99")],
                        *[f"{_median(found, name):.3f}" for name in ("server_ms", "postgres_ms")],
                        "" if trips is None else f"{trips:g}",
                    ]
                )
    heads = ["workload", "server", "requests/s", "p50 ms", "p95 ms", "p99 ms", "server CPU ms", "PostgreSQL CPU ms"]
    return table([*heads, "round trips"], rows)


def _ratios(results: Results, algorithm: str) -> str:
    """Returns the ratios. Each is taken within a round; the table shows the median, the least and the greatest."""
    comparisons = _comparisons(results["parameters"], algorithm)
    rows = []
    for workload in results["parameters"]["workloads"]:
        row = [_compared(one, workload, _of(results, algorithm, workload)) for one in comparisons]
        if any(row):
            rows.append([workload, *row])
    return table(["server CPU", *[one.title for one in comparisons]], rows)


def _comparisons(parameters: Mapping[str, Any], algorithm: str) -> list[Comparison]:
    fastify = dict.fromkeys(parameters["workloads"], AT_MOST_FASTIFY[algorithm])
    comparisons = [
        Comparison("tutorial", "taskwell", at_least=TIMES_LESS_THAN_TUTORIAL),
        Comparison("taskwell", "bare", at_most=AT_MOST_BARE),
        Comparison("taskwell", "fastify", at_most=fastify),
        Comparison("taskwell", "fastify-cache"),
        Comparison("taskwell-sqlite", "taskwell", whole=True, at_most=AT_MOST_WITH_POSTGRES),
    ]
    return [one for one in comparisons if {one.over, one.under} <= set(parameters["peers"])]


def _compared(comparison: Comparison, workload: str, measured: Sequence[Measured]) -> str:
    by_round = {(one["round"], one["peer"]): comparison.cpu(one) for one in measured}
    ratios = [
        value / by_round[number, comparison.under]
        for (number, peer), value in by_round.items()
        if peer == comparison.over and (number, comparison.under) in by_round
    ]
    return spread(ratios, comparison.at_least.get(workload), comparison.at_most.get(workload))


def spread(ratios: Sequence[float], at_least: float | None = None, at_most: float | None = None) -> str:
    """Returns the median, the range, and if the goal is met."""
    if not ratios:
        return ""
    median = statistics.median(ratios)
    text = f"{median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    if at_least:
        text += f", at least {at_least:g}: {'met' if median >= at_least else 'MISSED'}"
    if at_most:
        text += f", at most {at_most:g}: {'met' if median <= at_most else 'MISSED'}"
    return text


def _against_pgbench(results: Results) -> str:
    rows = []
    for workload, by_pgbench in results["pgbench_ms"].items():
        measured = _of(results, results["parameters"]["algorithms"][0], workload)
        ours = {one["round"]: one["postgres_ms"] for one in measured if one["peer"] == "taskwell"}
        ratios = [ours[number] / used for number, used in enumerate(by_pgbench) if number in ours]
        median = statistics.median(by_pgbench)
        rows.append([workload, f"{median:.3f}", spread(ratios, at_most=AT_MOST_PGBENCH)])
    if not rows:
        return "pgbench is not installed on this machine.\n"
    return table(["CPU of PostgreSQL", "from pgbench, ms", "from Taskwell ÷ from pgbench"], rows)


def _processes(results: Results) -> str:
    rows = []
    for peer in results["parameters"]["peers"]:
        starts = [one for one in results["starts"] if one["peer"] == peer]
        names = ("ready_seconds", "megabytes_at_start", "megabytes_at_end")
        rows.append([peer, *[f"{_median(starts, name):.{2 if name == 'ready_seconds' else 0}f}" for name in names]])
    return table(["server", "ready after, s", "memory at start, MB", "after the workloads, MB"], rows)


def _of(results: Results, algorithm: str, workload: str) -> list[Measured]:
    measured: list[Measured] = results["measurements"]
    return [one for one in measured if (one["algorithm"], one["workload"]) == (algorithm, workload)]


def _median(found: Iterable[Measured], name: str) -> float:
    return float(statistics.median(one[name] for one in found))
