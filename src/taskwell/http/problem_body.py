"""The JSON body of every error. Responses and the examples in the OpenAPI document are both made here."""

from http import HTTPStatus

from taskwell.errors import Problem
from taskwell.http.problem_types import PROBLEM_TYPES, type_path

PROBLEM_JSON = "application/problem+json"
"""The media type of RFC 9457."""

EXAMPLE_TIMESTAMP = "2026-11-21T10:30:00.123456Z"
EXAMPLE_REQUEST_ID = "01JD7Q6ZV8X9W4T2M1N0K5R3PQ"

# `HTTPStatus` has the names of older RFCs before Python 3.13.
_RENAMED_BY_RFC_9110 = {413: "Content Too Large", 422: "Unprocessable Content"}


def problem_body(problem: Problem, *, timestamp: str, request_id: str) -> dict[str, object]:
    """Returns the members that every error has."""
    return {
        "detail": problem.detail,
        "error_code": problem.code,
        "timestamp": timestamp,
        "request_id": request_id,
        **problem.members,
    }


def rfc9457_members(code: str, status: int, *, root_path: str = "", request_id: str) -> dict[str, object]:
    """Returns the members that an error has in addition when the client accepts `application/problem+json`.

    `type` is the path of the page about `code`, under the `root_path` of the proxy (RFC 9457, section 3.1.1).
    """
    return {
        "type": root_path + type_path(code),
        "title": PROBLEM_TYPES[code].title,
        "status": status,
        "instance": f"urn:taskwell:request:{request_id}",
    }


def reason_phrase(status: int) -> str:
    """Returns the name of a status in RFC 9110, section 15. It is the same on every Python version."""
    return _RENAMED_BY_RFC_9110.get(status) or HTTPStatus(status).phrase
