"""Schemathesis looks for differences between the service and its OpenAPI document.

It runs with two users as peers. Without them it silently skips its check for access to another user's objects.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.requests import Request

from support.service import Json, Service, running, sign
from taskwell.auth.owner import Authenticator
from taskwell.errors import AuthForbidden
from taskwell.tasks.openapi import USER

PEER = "user_xyz789"

# A stream of events does not end. The erasure runs alone, because then there is nothing left to read and to restore.
STREAMS = "--exclude-operation-id=stream_events"
WITHOUT_ERASURE = "--exclude-operation-id=erase_user"

# Most requests use the user from the document's examples, so most of them are not refused with 403.
CONFIG = f"""
[dictionaries.users]
values = ["{USER}"]

[parameters]
"path.user_id" = {{ dictionary = "users", probability = 0.9 }}

[auth.wfc]
path = "users.json"
user = "{USER}"
peers = ["{USER}", "{PEER}"]

[cache]
enabled = false

# The document cannot say which cursors exist, and that a cursor excludes an offset.
[[operations]]
include-name = "GET /api/{{user_id}}/tasks"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 422]

[[operations]]
include-name = "GET /api/{{user_id}}/trash"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 422]
# A token belongs to the history of one user.
[[operations]]
include-name = "GET /api/{{user_id}}/changes"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 410, 422]

# A key that was used before for another task is refused.
[[operations]]
include-name = "POST /api/{{user_id}}/tasks"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 410, 422]

# So is one in a batch. Besides, a condition can be false, and an ID can be that of an earlier operation.
[[operations]]
include-name = "POST /api/{{user_id}}/tasks/batch"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 410, 412, 422]

# The document cannot say that both users are the same.
[[operations]]
include-name = "DELETE /api/{{user_id}}"
checks.positive_data_acceptance.expected-statuses = ["2xx", 401, 403, 422]

# A condition can be false. And 400, because it takes `If-None-Match: 0` for valid, whatever the pattern says.
[[operations]]
include-path-regex = "task_id"
checks.positive_data_acceptance.expected-statuses = ["2xx", "3xx", 400, 401, 403, 404, 412]
"""


@pytest.fixture
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    with running("postgres", DATABASE_URL=new_database_url("postgres")) as service:
        yield service


def schemathesis(service: Service, directory: Path, *options: str) -> Json:
    """Runs schemathesis and returns its report. The events are in `events.ndjson`."""
    users = [
        {"name": user, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {sign(user)}"}]}
        for user in (USER, PEER)
    ]
    (directory / "users.json").write_text(json.dumps({"auth": users}))
    (directory / "schemathesis.toml").write_text(CONFIG)
    command = [str(Path(sys.executable).parent / "schemathesis"), "run", f"{service.url}/openapi.json"]
    always = [STREAMS, "--seed=1", "--generation-deterministic", "--output-sanitize=false"]
    reports = ["--report-json-path=report.json", "--report-ndjson-path=events.ndjson"]
    done = subprocess.run(
        [*command, *always, *reports, *options], cwd=directory, capture_output=True, text=True, check=False, timeout=120
    )
    assert (directory / "report.json").exists(), done.stdout + done.stderr
    report: Json = json.loads((directory / "report.json").read_text())
    report["text"] = done.stdout
    return report


def requests_of(user: str, directory: Path) -> Iterator[tuple[str, str, int]]:
    """Yields method, path and status of each request that was sent with the user's token."""
    users = json.loads((directory / "users.json").read_text())["auth"]
    header = next(entry["fixedHeaders"][0]["value"] for entry in users if entry["name"] == user)
    for line in (directory / "events.ndjson").read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for interaction in recorder.get("interactions", {}).values():
            request = interaction["request"]
            if request["headers"].get("Authorization") == [header]:
                yield request["method"], request["uri"], interaction["response"]["status_code"]


def test_the_service_behaves_as_its_document_says(service: Service, tmp_path: Path) -> None:
    report = schemathesis(service, tmp_path, "--max-examples=40", WITHOUT_ERASURE)
    assert report["failures"] == [], report["text"]
    assert report["errors"] == [], report["text"]
    # It warns that valid requests are refused: those with an invented cursor or token, or with `If-None-Match: 0`.
    assert {name for name, found in report["warnings"].items() if found} <= {"validation_mismatch"}
    assert (report["exit_code"], report["complete"], report["operations"]["errored"]) == (0, True, 0)
    # All but the stream and the erasure.
    assert report["operations"]["tested"] == report["operations"]["total"] - 2
    assert {phase: ran["status"] for phase, ran in report["phases"].items()} == dict.fromkeys(
        ["examples", "coverage", "fuzzing", "stateful"], "success"
    )
    # If an operation refused every request, the run proves nothing about it.
    for operation, phases in report["valid_rates"].items():
        assert sum(rate["accepted"] for rate in phases.values()), operation
    assert len(report["valid_rates"]) == report["operations"]["tested"]
    by_the_peer = list(requests_of(PEER, tmp_path))
    assert any(f"/api/{USER}/tasks/" in path for _, path, _ in by_the_peer), (
        "the peer did not try to read the other user's task"
    )
    assert {(method, status) for method, _, status in by_the_peer} == {("GET", 403)}


def test_the_erasure_behaves_as_its_document_says(service: Service, tmp_path: Path) -> None:
    report = schemathesis(service, tmp_path, "--max-examples=40", "--include-operation-id=erase_user")
    assert (report["failures"], report["errors"]) == ([], []), report["text"]
    assert ("DELETE", 204) in {(method, status) for method, _, status in requests_of(USER, tmp_path)}


@pytest.mark.parametrize("open_to_strangers", ["tasks", "tasks and lists"])
def test_schemathesis_catches_a_service_that_trusts_the_path(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_to_strangers: str
) -> None:
    authenticate = Authenticator.__call__

    async def trust_the_path(self: Authenticator, request: Request) -> None:
        try:
            await authenticate(self, request)
        except AuthForbidden:
            if open_to_strangers == "tasks" and "task_id" not in request.path_params:
                raise
        request.state.owner = request.path_params["user_id"]

    monkeypatch.setattr(Authenticator, "__call__", trust_the_path)
    options = ["--phases=coverage", "--checks=object_level_authorization", WITHOUT_ERASURE]
    report = schemathesis(service, tmp_path, *options)
    # Schemathesis takes an object for shared if it is also in the list that the peer sees.
    violations = ["ObjectLevelAuthorizationViolation"] if open_to_strangers == "tasks" else []
    assert [failure["type"] for failure in report["failures"]] == violations, report["text"]
    assert 200 in {status for _, _, status in requests_of(PEER, tmp_path)}
