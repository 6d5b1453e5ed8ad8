"""Checks that an error has the shape that the contract promises."""

from datetime import datetime
from typing import Any

import httpx2

from taskwell.http.problem_types import PROBLEM_TYPES


def assert_problem(response: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Asserts that `response` is this error, with the common shape and headers, and returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    _assert_common_shape(response, body, code)
    return body


def assert_problem_details(response: httpx2.Response, status: int, code: str, *, root_path: str = "") -> dict[str, Any]:
    """Asserts that `response` is this error in the form of RFC 9457, and returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    details = {name: body[name] for name in ("type", "title", "status", "instance")}
    assert details == {
        "type": f"{root_path}/problems/{code.lower().replace('_', '-')}",
        "title": PROBLEM_TYPES[code].title,
        "status": status,
        "instance": f"urn:taskwell:request:{body['request_id']}",
    }
    _assert_common_shape(response, {name: body[name] for name in body.keys() - details.keys()}, code)
    return body


def _assert_common_shape(response: httpx2.Response, body: dict[str, Any], code: str) -> None:
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    extra = {"current"} if code == "PRECONDITION_FAILED" else set[str]()
    assert body.keys() - {"errors"} == extra | {"detail", "error_code", "timestamp", "request_id"}
    assert body["error_code"] == code
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert datetime.fromisoformat(body["timestamp"]).tzinfo
    assert body["timestamp"].endswith("Z")
    assert body["request_id"] == response.headers["x-request-id"]
    for violation in body.get("errors", []):
        assert violation.keys() == {"loc", "msg", "type"}
