"""The log: one complete line for each request, although lines are written in batches; as text or as JSON."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Scope

from support.process import Server, production, serving
from support.service import sign
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.telemetry.access_log import FLUSH_SECONDS, MAX_WRITE_BYTES, AccessLog
from taskwell.telemetry.logs import JSONFormatter
from taskwell.telemetry.requests import name_of
from taskwell.telemetry.trace_context import trace_id_of

ROOT = Path(__file__).parents[1]

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO taskwell.access "
    r"request_id=\S+ client=\S+ [A-Z]+ \S+ \d{3} \d+\.\dms"
)

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def note(
    access_log: AccessLog,
    request_id: str = "an-id",
    user_id: str | None = None,
    raw_path: bytes = b"/",
    seconds: float = 0.001,
) -> None:
    access_log.note(request_id, None, user_id, "192.0.2.1", "GET", None, raw_path, 200, seconds, 0, None)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_is_in_the_log_when_the_service_has_stopped(workers: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/taskwell.db"
    upgrade(parse_database_url(url))
    with serving(tmp_path, "serve", "--workers", str(workers), **production(url)) as server:
        ids = [server.http.get("/health").headers["x-request-id"] for _ in range(20)]
        assert server.end() == 0
        lines = [line for line in server.log.read_text().splitlines() if "taskwell.access" in line]
    assert [
        request_id
        for request_id in ids
        if f"request_id={request_id} client=127.0.0.1 GET /health 200" not in "\n".join(lines)
    ] == []
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_above_the_level_info_there_is_no_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    access_log = AccessLog("text")
    note(access_log)
    caplog.set_level(logging.INFO)
    access_log.flush()
    assert caplog.messages == []


def test_each_write_has_whole_lines_and_fits_into_a_pipe(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def log() -> None:
        access_log = AccessLog("text")
        for number in range(1000):
            note(access_log, f"id-{number}", raw_path=b"/" + b"x" * 50, seconds=0.0015)
        assert caplog.messages == []
        await asyncio.sleep(2 * FLUSH_SECONDS)
        assert len(caplog.messages) < 50
        note(access_log, "the-next")
        await asyncio.sleep(2 * FLUSH_SECONDS)

    asyncio.run(log())
    assert all(len(written) < MAX_WRITE_BYTES for written in caplog.messages)
    *lines, last = "\n".join(caplog.messages).splitlines()
    assert [line.partition("request_id=")[2] for line in lines] == [
        f"id-{number} client=192.0.2.1 GET /{'x' * 50} 200 1.5ms" for number in range(1000)
    ]
    assert "the-next" in last


def test_a_write_of_json_fits_into_a_pipe_whatever_letters_a_user_id_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def log() -> None:
        access_log = AccessLog("json")
        for _ in range(50):
            note(access_log, user_id="\N{ROCKET}" * 255, raw_path=b'"' * 256)
        access_log.flush()

    asyncio.run(log())
    assert all(len(written.encode()) < MAX_WRITE_BYTES for written in caplog.messages)
    lines = "\n".join(caplog.messages).splitlines()
    assert [json.loads(line)["user_id"] for line in lines] == ["\N{ROCKET}" * 255] * 50


# --- JSON


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service whose standard error is a file, with the default format."""
    folder = tmp_path_factory.mktemp("json")
    url = f"sqlite:///{folder}/taskwell.db"
    upgrade(parse_database_url(url))
    with serving(folder, **production(url), TASKWELL_LOG_FORMAT="") as server:
        yield server


def records(server: Server, request_id: str, count: int) -> list[dict[str, Any]]:
    """Returns the records about a request, once there are `count`. Every line of the log must be a JSON object."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        lines = server.log.read_text().rpartition("\n")[0].splitlines()
        found = [record for record in map(json.loads, lines) if record.get("request_id") == request_id]
        if len(found) >= count:
            return found
        time.sleep(0.02)
    raise AssertionError(server.log.read_text())


def test_a_log_that_goes_to_a_file_is_json_with_all_that_is_known_about_a_request(server: Server) -> None:
    alice = server.client("alice")
    headers = {"X-Request-ID": "an-id", "traceparent": TRACEPARENT}
    response = alice.request("POST", json={"title": "Buy milk"}, headers=headers)
    (record,) = records(server, "an-id", 1)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("time"))
    assert 0 < record.pop("duration_ms") < 5000
    assert record == {
        "level": "INFO",
        "logger": "taskwell.access",
        "request_id": "an-id",
        "trace_id": TRACE_ID,
        "user_id": "alice",
        "client": "127.0.0.1",
        "method": "POST",
        "route": "/api/{user_id}/tasks",
        "path": "/api/alice/tasks",
        "status": 201,
        "bytes": len(response.content),
        "error_code": None,
    }


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "code"),
    [
        ("GET", "/health", "/health", 200, None),
        ("HEAD", "/health", "/health", 200, None),
        ("GET", "/problems/not-found", "/problems/{slug}", 200, None),
        ("GET", "/docs/assets/redoc.standalone.js", "/docs/assets/{path}", 200, None),
        ("POST", "/health", "/health", 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/nothing", None, 404, "NOT_FOUND"),
        ("GET", "/api/bob/tasks/7", "/api/{user_id}/tasks/{task_id}", 403, "AUTH_FORBIDDEN"),
    ],
)
def test_the_route_and_the_error_code_are_in_the_access_log(
    server: Server, method: str, path: str, route: str | None, status: int, code: str | None
) -> None:
    response = server.client("alice").request(method, path)
    *_, record = records(server, response.headers["x-request-id"], 2 if code else 1)
    assert (record["route"], record["status"], record["error_code"]) == (route, status, code)
    assert (record["method"], record["bytes"]) == (method, len(response.content))


def test_a_refusal_is_a_record_with_its_cause_and_never_the_token(server: Server) -> None:
    expired = sign("alice", exp=int(time.time()) - 100)
    headers = {"Authorization": f"Bearer {expired}", "traceparent": TRACEPARENT}
    request_id = server.http.get("/api/alice/tasks", headers=headers).headers["x-request-id"]
    record, access = records(server, request_id, 2)
    assert record["message"] == "401 AUTH_INVALID: expired: Signature has expired"
    for name in ("request_id", "trace_id", "client", "method", "route", "path", "error_code"):
        assert record[name] == access[name]
    for part in expired.split("."):
        assert part[:-3] not in server.log.read_text()


def test_nothing_that_a_user_writes_is_in_the_log(server: Server) -> None:
    alice = server.client("alice")
    task = alice.create("the title of a task", description="its description")
    alice.request("PATCH", task["id"], json={"title": "the title " * 100})
    alice.request("GET", params={"q": "title of", "complete": "the title"})
    records(server, alice.request("GET", "/health").headers["x-request-id"], 1)
    assert not re.search("the title|title of|description|%20of", server.log.read_text())


def test_a_bug_is_one_record_with_the_whole_traceback() -> None:
    scope: Scope = {
        "state": {"request_id": "an-id", "owner": "al\nice"},
        "method": "GET",
        "raw_path": b"/\n",
        "client": None,
    }
    try:
        raise ZeroDivisionError
    except ZeroDivisionError as error:
        info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("a.logger", logging.ERROR, "", 0, "%s %s", (name_of(scope), "Oh: no"), info)
    line = JSONFormatter().format(record)
    assert "\n" not in line
    members = json.loads(line)
    assert (members["message"], members["user_id"], members["path"]) == ("Oh: no", "al\nice", "/%0A")
    assert members["traceback"].startswith("Traceback (most recent call last):\n")
    assert members["traceback"].endswith("ZeroDivisionError")


def test_taskwell_dev_logs_text(tmp_path: Path) -> None:
    with serving(tmp_path, "dev", TASKWELL_LOG_FORMAT="") as server:
        server.http.get("/health")
        assert server.end() == 0
    (line,) = [line for line in server.log.read_text().splitlines() if "/health" in line]
    assert LINE.fullmatch(line)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        TRACEPARENT.upper(),
        TRACEPARENT + "-00",
        TRACEPARENT[:-1],
        "ff" + TRACEPARENT[2:],
        TRACEPARENT.replace(TRACE_ID, "0" * 32),
        TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16),
        TRACEPARENT + "\n",
    ],
)
def test_an_invalid_traceparent_is_ignored(traceparent: str) -> None:
    assert trace_id_of(traceparent.encode()) is None
    assert trace_id_of(TRACEPARENT.encode()) == TRACE_ID
    assert trace_id_of(b"01" + TRACEPARENT[2:].encode() + b"-more") == TRACE_ID


def test_every_field_is_documented(caplog: pytest.LogCaptureFixture) -> None:
    text = (ROOT / "docs/telemetry.md").read_text()
    table = text[text.index("| field |") : text.index("## Metrics") if "## Metrics" in text else None]
    documented = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))

    caplog.set_level(logging.INFO)

    async def log() -> None:
        access_log = AccessLog("json")
        note(access_log)
        access_log.flush()

    asyncio.run(log())
    scope: Scope = {"state": {}, "method": "GET", "raw_path": b"/", "client": None}
    record = logging.LogRecord("a", logging.ERROR, "", 0, "%s: x", (name_of(scope),), (None, None, None))
    assert json.loads(caplog.messages[0]).keys() | json.loads(JSONFormatter().format(record)).keys() == documented
