"""Measure batches, erasures, exports and events.

Run: make bench BENCH=sync
"""

import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import httpx2

from accounting import cpu_seconds, resident_megabytes
from pages import database
from support import events
from support.process import Server, production, serving
from support.service import Client, sign
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade

ENGINES = ("postgres", "sqlite")
BATCH, ROUNDS = 100, 10
TASKS = 100_000
STREAMS, USERS, IDLE_SECONDS = 1000, 100, 40


def main() -> None:
    """Prints one table for each subject."""
    for engine in ENGINES:
        with database(engine) as url, tempfile.TemporaryDirectory() as folder:
            upgrade(parse_database_url(url))
            settings = production(url) | {"TASKWELL_EVENTS_IDLE_SECONDS": str(IDLE_SECONDS)}
            with serving(Path(folder), **settings) as server:
                print(f"\n{engine}")
                _batches(server)
                _export_and_erasure(server)
                _latency(server, url, settings)
                _idle_streams(server)


# --- batches


def _batches(server: Server) -> None:
    client = server.client("batches")
    one, many = _creation(), {"operations": [{"op": "create", "task": _creation()} for _ in range(BATCH)]}

    def requests() -> None:
        for _ in range(BATCH):
            client.request("POST", json=one)

    def batch() -> None:
        assert client.request("POST", "batch", json=many).status_code == httpx2.codes.OK

    for name, send in ((f"{BATCH} requests", requests), ("one batch", batch)) * 2:
        seconds, cpu = zip(*(_cost(server, send) for _ in range(ROUNDS)), strict=True)
        milliseconds = 1000 * statistics.median(seconds), 1000 * statistics.mean(cpu)
        print(f"  {name:24}{milliseconds[0]:8.1f} ms{milliseconds[1]:8.1f} ms CPU of the service")


def _creation() -> dict[str, str]:
    return {"title": "Buy milk", "description": "Two litres, and bread."}


def _cost(server: Server, send: Callable[[], object]) -> tuple[float, float]:
    cpu, started = cpu_seconds(server.process.pid), time.perf_counter()
    send()
    return time.perf_counter() - started, cpu_seconds(server.process.pid) - cpu


# --- export and erasure


def _export_and_erasure(server: Server) -> None:
    client, other = server.client("export"), server.client("other")
    operations = [{"op": "create", "task": {"title": "Task", "description": "x" * 150}}] * BATCH
    for _ in range(TASKS // BATCH):
        assert client.request("POST", "batch", json={"operations": operations}).status_code == httpx2.codes.OK
    task = other.create()["id"]
    before = _milliseconds_of_reads(other, task, lambda: time.sleep(1.5))
    for accept in ("application/x-ndjson", "text/csv"):
        memory = resident_megabytes(server.process.pid)
        sizes: list[int] = []
        started = time.perf_counter()
        during = _milliseconds_of_reads(other, task, partial(_export, client, accept, sizes))
        seconds = time.perf_counter() - started
        growth = resident_megabytes(server.process.pid) - memory
        print(
            f"  export, {accept:22}{seconds:5.1f} s{sum(sizes) / 1e6 / seconds:7.1f} MB/s{growth:6.1f} MB of memory; "
            f"reads of others {_quantiles(before)} before, {_quantiles(during)} during"
        )
    seconds, _ = _cost(server, lambda: client.request("DELETE", "/api/export?confirm=export"))
    print(f"  erasure of {TASKS} tasks {seconds:.2f} s")


def _export(client: Client, accept: str, sizes: list[int]) -> None:
    headers = {"Authorization": f"Bearer {sign(client.user)}", "Accept": accept}
    with client.http.stream("GET", f"/api/{client.user}/export", headers=headers) as response:
        sizes += map(len, response.iter_bytes())


def _milliseconds_of_reads(client: Client, task: int, work: Callable[[], object]) -> list[float]:
    """Reads one task every ten milliseconds while `work` runs in another thread."""
    worker = threading.Thread(target=work)
    worker.start()
    taken: list[float] = []
    while worker.is_alive():
        started = time.perf_counter()
        assert client.request("GET", task).status_code == httpx2.codes.OK
        taken.append(1000 * (time.perf_counter() - started))
        time.sleep(0.01)
    return taken


def _quantiles(milliseconds: list[float]) -> str:
    percentiles = statistics.quantiles(milliseconds, n=100)
    return f"p50 {percentiles[49]:.1f} ms, p99 {percentiles[98]:.1f} ms"


# --- events


def _latency(server: Server, url: str, settings: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder), **settings) as another:
        user = f"latency-{uuid4().hex}"
        with events.stream(server.client(user)) as stream:
            for name, writer, number in (("same", server, 200), ("another", another, 30)):
                taken = []
                for _ in range(number):
                    # Not in step with the looks.
                    time.sleep(random.random() if writer is another else 0)  # noqa: S311 - not a secret
                    started = time.perf_counter()
                    writer.client(user).create()
                    stream.changes(1)
                    taken.append(1000 * (time.perf_counter() - started))
                print(
                    f"  from a write of {name} process to the event: "
                    f"median {statistics.median(taken):.1f} ms, maximum {max(taken):.1f} ms"
                )


def _idle_streams(server: Server) -> None:
    pid = server.process.pid
    before = resident_megabytes(pid)
    with _open_streams(server):
        print(f"  memory of a stream {1000 * (resident_megabytes(pid) - before) / STREAMS:.1f} kB, of {STREAMS}")
        for name in ("looking once a second", "not looking"):
            cpu = cpu_seconds(pid)
            time.sleep(IDLE_SECONDS * 3 / 4)
            print(
                f"  CPU of {STREAMS} silent streams, {name}: {(cpu_seconds(pid) - cpu) * 80 / IDLE_SECONDS:.2f} s a minute"
            )
            time.sleep(IDLE_SECONDS / 4 + 2)


@contextmanager
def _open_streams(server: Server) -> Iterator[None]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(events.connect(server.url)) for _ in range(STREAMS)]
        for number, connection in enumerate(sockets):
            connection.sendall(events.request(server.client(f"user-{number % USERS}")))
            received = b""
            while b"\nid: " not in received:
                received += connection.recv(65536)
        yield


if __name__ == "__main__":
    main()
