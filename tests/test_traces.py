"""Traces, as a collector receives them from the service."""

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from support.auth_server import AuthServer, Behaviour, key_set
from support.collector import Collector, Span
from support.process import Server, production, serving
from support.rows import execute
from support.service import sign
from support.tokens import Signer, jwk, private_key
from taskwell.telemetry.trace_settings import traces_are_wanted

PARENT_ID = "00f067aa0ba902b7"

SERVER, CLIENT = 2, 3


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def server(
    request: pytest.FixtureRequest,
    collector: Collector,
    new_migrated_url: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    """A service that exports its spans at once."""
    settings = production(new_migrated_url(request.param)) | traced(collector)
    with serving(tmp_path_factory.mktemp("traces"), "serve", **settings, TASKWELL_LOG_FORMAT="json") as server:
        yield server


def traced(collector: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }


@pytest.fixture
def trace_id() -> str:
    """A trace of this test alone, because tests share the collector."""
    return uuid4().hex


def part_of(trace_id: str) -> dict[str, str]:
    return {"traceparent": f"00-{trace_id}-{PARENT_ID}-01"}


def statement_of(span: Span, collector: Collector) -> Span:
    (found,) = [one for one in collector.spans if one.parent_id == span.span_id]
    return found


def test_a_request_and_its_statement_are_spans_of_the_clients_trace(
    server: Server, collector: Collector, trace_id: str
) -> None:
    alice = server.client("alice")
    task = alice.create("the title of a task")
    assert alice.request("GET", task["id"], headers=part_of(trace_id)).status_code == 200
    span = collector.wait_for("GET /api/{user_id}/tasks/{task_id}", trace_id)
    assert (span.kind, span.trace_id, span.parent_id, span.is_error) == (SERVER, trace_id, PARENT_ID, False)
    assert span.attributes | {"user_agent.original": ""} == {
        "http.request.method": "GET",
        "http.route": "/api/{user_id}/tasks/{task_id}",
        "http.response.status_code": 200,
        "url.path": f"/api/alice/tasks/{task['id']}",
        "url.scheme": "http",
        "client.address": "127.0.0.1",
        "server.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "",
    }
    assert span.resource["service.name"] == "taskwell"
    assert span.resource["deployment.environment.name"] == "test"
    statement = statement_of(span, collector)
    assert (statement.name, statement.kind, statement.trace_id) == ("SELECT task", CLIENT, trace_id)
    assert statement.attributes["db.collection.name"] == "task"
    assert statement.attributes["db.operation.name"] == "SELECT"
    assert statement.attributes["db.system.name"] in ("sqlite", "postgresql")


def test_a_write_is_named_after_its_function_and_no_span_has_what_users_write(
    server: Server, collector: Collector
) -> None:
    carol = server.client("carol")
    task = carol.create("the title of a task", description="its description")
    created = collector.wait_for("POST /api/{user_id}/tasks")
    statement = statement_of(created, collector)
    assert statement.name == statement.attributes["db.stored_procedure.name"] == "create_task"
    assert carol.titles(q="title of") == ["the title of a task"]
    assert carol.request("PATCH", task["id"], json={"title": "the title " * 100}).status_code == 422
    collector.wait_for("PATCH /api/{user_id}/tasks/{task_id}")
    sent = b"".join(collector.bodies)
    token = sign("carol").split(".")[0].encode()
    for secret in (b"the title", b"title of", b"description", b"Bearer", b"SELECT task.", token):
        assert secret not in sent


def test_the_log_names_the_trace_also_when_the_service_began_it(server: Server, collector: Collector) -> None:
    request_id = server.http.get("/health/ready").headers["x-request-id"]
    deadline = time.monotonic() + 5
    while request_id not in server.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (record,) = [json.loads(line) for line in server.log.read_text().splitlines() if request_id in line]
    assert collector.wait_for("GET /health/ready", record["trace_id"]).parent_id == ""


def test_only_failures_of_the_service_are_errors(server: Server, collector: Collector) -> None:
    server.http.get("/unknown")
    server.http.request("PROPFIND", "/unknown")
    span = collector.wait_for("GET")
    assert (span.attributes["http.response.status_code"], span.is_error) == (404, False)
    assert collector.wait_for("HTTP").attributes["http.request.method"] == "_OTHER"


def test_a_failure_is_an_error_of_both_spans(
    collector: Collector, tmp_path: Path, new_migrated_url: Callable[[str], str], trace_id: str
) -> None:
    url = new_migrated_url("sqlite")
    with serving(tmp_path, "serve", **production(url), **traced(collector)) as server:
        execute(url, "ALTER TABLE task RENAME TO lost")
        assert server.client("alice").request("GET", 1, headers=part_of(trace_id)).status_code == 500
        span = collector.wait_for("GET /api/{user_id}/tasks/{task_id}", trace_id)
        assert (span.attributes["error.type"], span.is_error) == ("DATABASE_ERROR", True)
        statement = statement_of(span, collector)
        assert (statement.attributes["error.type"], statement.is_error) == ("NotMigrated", True)


def test_the_trace_goes_on_to_the_auth_server(
    collector: Collector, tmp_path: Path, new_migrated_url: Callable[[str], str], trace_id: str
) -> None:
    key = private_key("EdDSA")
    asked: list[str | None] = []

    def remembering(reply: Behaviour) -> Behaviour:
        def behave(handler: object) -> None:
            asked.append(handler.headers["traceparent"])  # type: ignore[attr-defined]
            reply(handler)  # type: ignore[arg-type]

        return behave

    with AuthServer(remembering(key_set(jwk(key, kid="k")))) as auth:
        settings = (
            production(new_migrated_url("sqlite"))
            | {"BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": auth.origin}
            | traced(collector)
        )
        with serving(tmp_path, "serve", **settings) as server:
            # The first fetch, which belongs to no request, is over.
            while server.http.get("/health/ready").status_code != 200:
                time.sleep(0.02)
            signer = Signer("EdDSA", key, {"kid": "another"}, {"iss": auth.origin, "aud": auth.origin})
            token = signer.token("alice")
            headers = {"Authorization": f"Bearer {token}"} | part_of(trace_id)
            assert server.http.get("/api/alice/tasks", headers=headers).status_code == 401
    assert any(sent and sent.startswith(f"00-{trace_id}-") for sent in asked), asked


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "tasks"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://x"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
    ],
)
def test_traces_are_made_only_if_the_environment_asks_for_them(environment: dict[str, str], *, wanted: bool) -> None:
    assert traces_are_wanted(environment) is wanted


def test_the_last_spans_are_sent_when_the_service_stops(tmp_path: Path, new_migrated_url: Callable[[str], str]) -> None:
    with Collector() as collector:
        settings = production(new_migrated_url("sqlite")) | traced(collector) | {"OTEL_BSP_SCHEDULE_DELAY": "60000"}
        with serving(tmp_path, "serve", "--workers", "2", **settings) as server:
            server.http.get("/health")
            assert not collector.spans
            assert server.end() == 0
        assert [span.name for span in collector.spans] == ["GET /health"]
        assert not re.search("Traceback|ERROR", server.log.read_text())
