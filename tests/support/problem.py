"""The one shape of every error, as a client checks it."""

from datetime import datetime
from typing import Any

import httpx2


def assert_problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Asserts that `answer` is the error, in the one shape and with the headers of section 6; returns its body."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    body: dict[str, Any] = answer.json()
    assert body.keys() - {"errors"} == {"detail", "error_code", "timestamp", "request_id"}
    assert body["error_code"] == code
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert datetime.fromisoformat(body["timestamp"]).tzinfo
    assert body["timestamp"].endswith("Z")
    assert body["request_id"] == answer.headers["x-request-id"]
    for violation in body.get("errors", []):
        assert violation.keys() == {"loc", "msg", "type"}
    return body
