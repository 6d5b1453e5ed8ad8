"""The order of decisions: authenticate, then check the body, then look for the task.

A refused request costs neither a body nor a database connection.
"""

import anyio
import pytest
from sqlalchemy import text
from starlette.types import Message, Scope

from support.problem import assert_problem
from support.service import SECRET, Client, sign
from taskwell.app import create_app, database_from
from taskwell.errors import DatabaseError
from taskwell.settings import Settings

BODIES: list[dict[str, object]] = [
    {"content": b"not json", "headers": {"Content-Type": "application/json"}},
    {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
    {"content": b"x" * (64 * 1024 + 1), "headers": {"Content-Type": "application/json"}},
    {"json": {"title": ""}},
    {},
]


@pytest.mark.parametrize("options", BODIES)
@pytest.mark.parametrize("task_id", ["1", "0", "abc"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_requests_are_authenticated_before_anything_else(
    alice: Client, mallory: Client, method: str, task_id: str, options: dict[str, object]
) -> None:
    path = f"{alice.home}/{task_id}"
    assert_problem(alice.http.request(method, path, **options), 401, "AUTH_MISSING")  # type: ignore[arg-type]
    assert_problem(mallory.request(method, path, **options), 403, "AUTH_FORBIDDEN")


async def _statuses_without_body_or_database(settings: Settings) -> tuple[list[int], int]:
    """Sends refused requests straight to the application. Returns their statuses and the number of reads of a body."""
    app = create_app(settings)
    statuses: list[int] = []
    reads = 0

    async def receive() -> Message:
        nonlocal reads
        reads += 1
        return {"type": "http.request", "body": b'{"title": "a"}', "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    tokens = [None, b"Bearer junk", f"Bearer {sign('mallory')}".encode()]
    async with app.router.lifespan_context(app) as state:
        for method, path in [
            ("POST", b"/api/alice/tasks"),
            ("PUT", b"/api/alice/tasks/1"),
            ("PATCH", b"/api/alice/tasks/1"),
            ("DELETE", b"/api/alice/tasks/1"),
            ("GET", b"/api/alice/tasks"),
        ]:
            for token in tokens:
                await app(_scope(method, path, token, dict(state or {})), receive, send)
    return statuses, reads


def _scope(method: str, path: bytes, authorization: bytes | None, state: dict[str, object]) -> Scope:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"14")]
    if authorization:
        headers.append((b"authorization", authorization))
    return {
        "type": "http",
        "method": method,
        "path": path.decode(),
        "raw_path": path,
        "query_string": b"",
        "headers": headers,
        "root_path": "",
        "state": state,
    }


def _closed_port_settings() -> Settings:
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    return Settings.read({"DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET, "TASKWELL_POOL_MIN": "0"})


def test_a_refused_request_reads_no_body_and_takes_no_connection() -> None:
    # No database is running, so a request that takes a connection would get 500.
    settings = _closed_port_settings()
    statuses, reads = anyio.run(_statuses_without_body_or_database, settings)
    assert statuses == [401, 401, 403] * 5
    assert reads == 0


def test_the_database_of_the_test_above_cannot_be_reached() -> None:
    async def connect() -> None:
        async with database_from(_closed_port_settings()) as database:
            await database.prepare(text("SELECT 1"))()

    with pytest.raises(DatabaseError):
        anyio.run(connect)
