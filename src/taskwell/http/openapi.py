"""What the OpenAPI document says of every endpoint: the errors, each with an example, and the headers."""

from collections.abc import Iterable, Iterator
from http import HTTPStatus

from taskwell.errors import Problem
from taskwell.http.error_responses import PROBLEM_JSON

Responses = dict[int | str, dict[str, object]]
"""What a route takes as its `responses`."""

_EXAMPLE_REQUEST_ID = "01JD7Q6ZV8X9W4T2M1N0K5R3PQ"


def _tree(problem: type[Problem]) -> Iterator[type[Problem]]:
    yield problem
    for kind in problem.__subclasses__():
        yield from _tree(kind)


SCHEMAS: dict[str, dict[str, object]] = {
    "Problem": {
        "title": "Problem",
        "description": "The one body of every error.",
        "type": "object",
        "required": ["detail", "error_code", "timestamp", "request_id"],
        "properties": {
            "detail": {"type": "string", "minLength": 1, "description": "What went wrong, for a person to act on."},
            "error_code": {
                "type": "string",
                "enum": sorted({problem.code for problem in _tree(Problem) if hasattr(problem, "code")}),
                "description": "What went wrong, for a program.",
            },
            "timestamp": {"type": "string", "format": "date-time", "description": "When, in UTC."},
            "request_id": {"type": "string", "description": "As in the header X-Request-ID, and in the log."},
            "errors": {
                "type": "array",
                "minItems": 1,
                "description": "With VALIDATION_ERROR: each broken rule, never with the value that was sent.",
                "items": {"$ref": "#/components/schemas/Violation"},
            },
        },
    },
    "ProblemDetails": {
        "title": "ProblemDetails",
        "description": f"A Problem with the members of RFC 9457 besides, for `Accept: {PROBLEM_JSON}`.",
        "allOf": [
            {"$ref": "#/components/schemas/Problem"},
            {
                "type": "object",
                "required": ["type", "title", "status", "instance"],
                "properties": {
                    "type": {"const": "about:blank", "description": "`error_code` says what kind of problem it is."},
                    "title": {"type": "string", "description": "The status in words."},
                    "status": {"type": "integer", "minimum": 400, "maximum": 599},
                    "instance": {"type": "string", "format": "uri", "description": "The request_id as a URN."},
                },
            },
        ],
    },
    "Violation": {
        "title": "Violation",
        "description": "One broken rule.",
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {
                "type": "array",
                "minItems": 1,
                "description": "Where: `body`, `query` or `path`, and then the way to the member.",
                "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
            },
            "msg": {"type": "string", "description": "The rule in words."},
            "type": {"type": "string", "description": "The rule's name."},
        },
    },
}

HEADERS: dict[str, dict[str, object]] = {
    "X-Request-ID": {
        "description": "The X-Request-ID of the request, if it was of this form, else a new one. "
        "The log has it in each line about the request.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "example": _EXAMPLE_REQUEST_ID,
    },
    "WWW-Authenticate": {
        "description": "The challenge of RFC 6750; where a token was sent, with `error` and `error_description`.",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer"},
        "example": "Bearer",
    },
    "Retry-After": {
        "description": "Seconds to wait before trying again.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
        "example": "1",
    },
}


def problem_responses(problems: Iterable[type[Problem] | Problem]) -> Responses:
    """The `responses` of a route that can end in `problems`.

    Each is an example of itself; where its class's default is no good example, give an instance.
    """
    by_status: dict[int, list[Problem]] = {}
    for problem in problems:
        example = problem("") if isinstance(problem, type) else problem
        by_status.setdefault(example.status, []).append(example)
    return {status: _response(examples) for status, examples in by_status.items()}


def _response(problems: list[Problem]) -> dict[str, object]:
    return {
        "description": " or ".join(sorted({problem.code for problem in problems})),
        "headers": {
            name: _header(name, problems) for problem in problems for name in problem.headers if name in HEADERS
        },
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {problem.detail: {"value": _body(problem)} for problem in problems},
            },
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                "examples": {problem.detail: {"value": _body(problem) | _details(problem)} for problem in problems},
            },
        },
    }


def _body(problem: Problem) -> dict[str, object]:
    return {
        "detail": problem.detail,
        "error_code": problem.code,
        "timestamp": "2026-11-21T10:30:00.123456Z",
        "request_id": _EXAMPLE_REQUEST_ID,
        **problem.members,
    }


def _details(problem: Problem) -> dict[str, object]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "instance": f"urn:taskwell:request:{_EXAMPLE_REQUEST_ID}",
    }


def _header(name: str, problems: list[Problem]) -> dict[str, object]:
    always = all(name in problem.headers for problem in problems)
    return reference(name) if always else {**HEADERS[name], "required": False}


def reference(name: str) -> dict[str, object]:
    """The header of that name in the document's components."""
    return {"$ref": f"#/components/headers/{name}"}
