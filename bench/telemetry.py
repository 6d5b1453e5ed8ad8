"""Measures what a request costs in the service itself, with and without metrics, traces and the formats of the log.

The database replays its first reply, and there is no socket: the figures are the CPU time of all code between the
server and the driver, and of what telemetry does beside it. Each variant runs in a process of its own, and the variants
take turns.

Run: .venv/bin/python bench/telemetry.py [--rounds N]
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from unittest.mock import patch

import jwt
from fastapi import FastAPI
from sqlalchemy.sql.base import Executable
from starlette.types import Message, Scope

from taskwell import app as composition
from taskwell.database.interface import Query, Row, Write
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.migrations.runner import upgrade
from taskwell.settings import Settings
from taskwell.telemetry.logs import start_logging
from taskwell.telemetry.reports import Reports
from taskwell.telemetry.trace_settings import traces_are_wanted
from taskwell.telemetry.tracing import Tracing

REQUESTS = 20_000
REQUESTS_BETWEEN_WRITES = 50
SECRET = "a-secret-of-the-benchmark-and-of-nothing-else"

VARIANTS = {
    "text log": {"TASKWELL_LOG_FORMAT": "text"},
    "JSON log": {"TASKWELL_LOG_FORMAT": "json"},
    "metrics": {"TASKWELL_LOG_FORMAT": "json", "TASKWELL_METRICS_PORT": "1"},
    "traces": {"TASKWELL_LOG_FORMAT": "json", "OTEL_TRACES_EXPORTER": "otlp"},
    "1 % of the traces": {
        "TASKWELL_LOG_FORMAT": "json",
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.01",
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--variant", choices=VARIANTS)
    options = parser.parse_args()
    if options.variant:
        asyncio.run(measure())
        return
    figures: dict[tuple[str, str], list[float]] = {}
    for _ in range(options.rounds):
        for variant in VARIANTS:
            for method, microseconds in run(variant).items():
                figures.setdefault((method, variant), []).append(microseconds)
    print(f"CPU in microseconds per request, median of {options.rounds} rounds (lowest)")
    for (method, variant), found in sorted(figures.items()):
        print(f"  {method:4}  {variant:20} {statistics.median(found):6.1f} ({min(found):.1f})")


def run(variant: str) -> dict[str, float]:
    """Measures a variant in a process of its own, whose log goes to a file."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        environment = os.environ | VARIANTS[variant] | {"DATABASE_URL": f"sqlite:///{folder}/taskwell.db"}
        command = [sys.executable, __file__, "--variant", variant]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
    return {name: float(value) for name, value in (line.split() for line in done.stdout.splitlines())}


class Replaying(SQLiteDatabase):
    """Runs each query once, and then returns the same rows again."""

    def prepare(self, statement: Executable) -> Query:
        return replayed(super().prepare(statement))

    def prepare_write(self, write: Write) -> Query:
        return replayed(super().prepare_write(write))


def replayed(query: Query) -> Query:
    rows: list[Sequence[Row]] = []

    async def run(**parameters: object) -> Sequence[Row]:
        if not rows:
            rows.append(await query(**parameters))
        return rows[0]

    return run


async def measure() -> None:
    names = [name for name in os.environ if name.startswith("TASKWELL_")]
    settings = Settings.read(
        {name: os.environ[name] for name in (*names, "DATABASE_URL")} | {"BETTER_AUTH_SECRET": SECRET}
    )
    await asyncio.to_thread(upgrade, settings.DATABASE_URL)
    start_logging(settings.TASKWELL_LOG_LEVEL, settings.TASKWELL_LOG_FORMAT)
    with patch.object(composition, "SQLiteDatabase", Replaying):
        metrics_to = Reports().connect(0) if settings.TASKWELL_METRICS_PORT else None
        tracing = Tracing() if traces_are_wanted(os.environ) else None
        app = composition.create_app(settings, metrics_to, tracing)
    token = jwt.encode({"sub": "alice", "exp": int(time.time()) + 900}, SECRET, "HS256")
    async with app.router.lifespan_context(app) as state:
        await send(app, state, token, "POST", 1)
        for method in ("GET", "POST") * 2:
            await send(app, state, token, method, REQUESTS)
        for method in ("GET", "POST"):
            print(method, await send(app, state, token, method, REQUESTS), flush=True)


async def send(app: FastAPI, state: Mapping[str, object], token: str, method: str, count: int) -> float:
    """Sends the same request `count` times, and returns the CPU time of each in microseconds."""
    body = b'{"title":"Buy milk","description":"two litres"}' if method == "POST" else b""
    path = "/api/alice/tasks" + ("" if body else "/1")
    headers = [
        (b"host", b"tasks.example"),
        (b"authorization", b"Bearer " + token.encode()),
        (b"user-agent", b"benchmark"),
        (b"accept", b"*/*"),
        (b"accept-encoding", b"gzip, deflate"),
        *([(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))] if body else []),
    ]
    statuses: set[int] = set()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    started = time.process_time_ns()
    for number in range(count):
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers.copy(),
            "client": ("192.0.2.1", 50_000),
            "server": ("192.0.2.2", 8000),
            "state": dict(state),
        }
        await app(scope, receive, sent)
        if number % REQUESTS_BETWEEN_WRITES == 0:
            # Lets the access log write.
            await asyncio.sleep(0)
    await asyncio.sleep(0.15)
    used = time.process_time_ns() - started
    assert statuses == {201 if body else 200}, statuses
    return used / 1000 / count


if __name__ == "__main__":
    main()
