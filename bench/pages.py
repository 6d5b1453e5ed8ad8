"""Measure what a page costs near the beginning of a long list and far from it, and what polling costs.

Run: make bench BENCH=pages
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from support.postgres import PostgresServer, find_binaries
from support.rows import execute
from support.service import Client, running

TASKS, DEPTH, PAGE, ROUNDS = 150_000, 100_000, 50, 30

# One user's tasks, as if they had been created one a second. Without triggers, because SQLite's store the revision.
FILL = """
INSERT INTO task (user_id, title, complete, created_at, updated_at, revision, creation_key)
WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {tasks})
SELECT 'user', 'Task ' || (n * 2654435761 % 1000003), n % 3 = 0, {moment}, {moment}, n, 'key ' || n FROM numbers
"""
MOMENTS = {
    "sqlite": "datetime('now', -({tasks} - n) || ' seconds') || '.000000'",
    "postgres": "now() - ({tasks} - n) * interval '1 second'",
}


def main() -> None:
    """Prints milliseconds per request, measured by the client: medians of 30 requests each."""
    print(f"{'':28}{'page 1':>9}{'cursor':>9}{'offset':>9}{'304':>9}   (milliseconds; {TASKS:,} tasks of one user)")
    for engine in MOMENTS:
        with database(engine) as url, running(engine, DATABASE_URL=url) as service:
            client = service.client("user")
            _fill(engine, url)
            for sort in ("", "title", "-created_at"):
                print(
                    f"{engine:12}{sort or 'newest first':16}" + "".join(f"{one:9.1f}" for one in _costs(client, sort))
                )


def _costs(client: Client, sort: str) -> Iterator[float]:
    query = {"limit": str(PAGE)} | ({"sort": sort} if sort else {})
    first = client.request("GET", params=query)
    before = client.request("GET", params=query | {"offset": str(DEPTH - PAGE)})
    deep = before.links["next"]["url"]
    known = {"If-None-Match": first.headers["etag"]}
    yield _milliseconds(lambda: client.request("GET", params=query), 200)
    yield _milliseconds(lambda: client.request("GET", deep), 200)
    yield _milliseconds(lambda: client.request("GET", params=query | {"offset": str(DEPTH)}), 200)
    yield _milliseconds(lambda: client.request("GET", params=query, headers=known), 304)


def _milliseconds(send: Callable[[], httpx2.Response], status: int) -> float:
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        response = send()
        taken.append(time.perf_counter() - started)
        assert response.status_code == status, response.text
    return statistics.median(taken) * 1000


def _fill(engine: str, url: str) -> None:
    if engine == "sqlite":
        for (name,) in execute(url, "SELECT name FROM sqlite_schema WHERE type = 'trigger'"):
            execute(url, f"DROP TRIGGER {name}")
    execute(url, FILL.format(tasks=TASKS, moment=MOMENTS[engine].format(tasks=TASKS)))
    execute(url, f"INSERT INTO owner VALUES ('user', {TASKS}, 1)")
    execute(url, "VACUUM ANALYZE" if engine == "postgres" else "ANALYZE")


@contextmanager
def database(engine: str) -> Iterator[str]:
    """Yields the URL of an empty database."""
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'taskwell.db'}"
        return
    binaries = find_binaries()
    assert binaries, "no PostgreSQL"
    server = PostgresServer(binaries)
    try:
        server.wait_until_ready()
        yield server.url
    finally:
        server.stop()


if __name__ == "__main__":
    main()
