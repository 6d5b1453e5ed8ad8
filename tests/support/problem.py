"""Checks that an error has the shape that the contract promises."""

from datetime import datetime
from typing import Any

import httpx2


def assert_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Asserts that `response` is this error, with the common shape and headers, and returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    body: dict[str, Any] = response.json()
    assert body.keys() - {"errors"} == {"detail", "error_code", "timestamp", "request_id"}
    assert body["error_code"] == code
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert datetime.fromisoformat(body["timestamp"]).tzinfo
    assert body["timestamp"].endswith("Z")
    assert body["request_id"] == response.headers["x-request-id"]
    for violation in body.get("errors", []):
        assert violation.keys() == {"loc", "msg", "type"}
    return body
