"""The parts of the OpenAPI document that all endpoints share: errors, headers, and what FastAPI leaves out."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, cast

from fastapi import FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from taskwell.errors import Problem
from taskwell.http.error_responses import MAX_VIOLATIONS
from taskwell.http.problem_body import (
    EXAMPLE_REQUEST_ID,
    EXAMPLE_TIMESTAMP,
    PROBLEM_JSON,
    problem_body,
    rfc9457_members,
)
from taskwell.http.problem_types import PROBLEMS_PATH

Responses = dict[int | str, dict[str, object]]
"""The type of a route's `responses`."""

_DESCRIPTION = f"""\
Every request to a path under `/api` must carry `Authorization: Bearer <JWT>`. The `user_id` in the path must be the
user of that token.

All errors have the same body: `detail` is written for people, `error_code` for programs, and `request_id` identifies
the request in the service's log. Send `Accept: {PROBLEM_JSON}` to get the members of RFC 9457 as well. Then `type` is
the path of a page about the error. The service has [a list of these pages]({PROBLEMS_PATH}).

`HEAD` works wherever `GET` does. A slash at the end of a path makes no difference.
"""


def _tree(problem: type[Problem]) -> Iterator[type[Problem]]:
    yield problem
    for kind in problem.__subclasses__():
        yield from _tree(kind)


_PROBLEM: dict[str, object] = {
    "detail": {"type": "string", "minLength": 1, "description": "What went wrong and what to do, for people."},
    "error_code": {
        "type": "string",
        "enum": sorted({problem.code for problem in _tree(Problem) if hasattr(problem, "code")}),
        "description": "The kind of error, for programs.",
    },
    "timestamp": {"type": "string", "format": "date-time", "description": "When the error occurred, in UTC."},
    "request_id": {
        "type": "string",
        "maxLength": 64,
        "description": "The value of the X-Request-ID header. The service's log has it, too.",
    },
    "errors": {
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_VIOLATIONS,
        "description": "The rules that the request broke, with VALIDATION_ERROR; or, with any other code, the operation of a "
        "batch that failed. The values that were sent are never repeated.",
        "items": {"$ref": "#/components/schemas/Violation"},
    },
    # Only with PRECONDITION_FAILED. With `etag` in the response to a batch.
    "current": {
        "anyOf": [{"$ref": "#/components/schemas/TaskResponse"}, {"$ref": "#/components/schemas/VersionedTask"}]
    },
}
_REQUIRED = ["detail", "error_code", "timestamp", "request_id"]

_SCHEMAS: dict[str, dict[str, object]] = {
    "Problem": {
        "title": "Problem",
        "description": "The body of every error.",
        "type": "object",
        "required": _REQUIRED,
        "properties": _PROBLEM,
    },
    # It repeats the members of Problem, because some generators of clients lose members of an `allOf`.
    "ProblemDetails": {
        "title": "ProblemDetails",
        "description": f"A Problem with the members of RFC 9457, for requests with `Accept: {PROBLEM_JSON}`.",
        "type": "object",
        "required": [*_REQUIRED, "type", "title", "status", "instance"],
        "properties": {
            **_PROBLEM,
            "type": {
                "type": "string",
                "format": "uri-reference",
                "description": "The address of the service's page about this kind of error, relative to the request's URL. "
                "Each `error_code` has one.",
            },
            "title": {"type": "string", "description": "The name of the kind of error."},
            "status": {
                "type": "integer",
                "minimum": 400,
                "maximum": 599,
                "description": "The status of the response.",
            },
            "instance": {"type": "string", "format": "uri", "description": "The request_id as a URN."},
        },
    },
    "Violation": {
        "title": "Violation",
        "description": "A rule that the request broke.",
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {
                "type": "array",
                "minItems": 1,
                "maxItems": 16,
                "description": "Where: `body`, `query`, `path` or `header`, followed by the names that lead to the member.",
                "items": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}]},
            },
            "msg": {"type": "string", "description": "The rule, for people."},
            "type": {"type": "string", "description": "The name of the rule, for programs."},
        },
    },
}

_HEADERS: dict[str, dict[str, object]] = {
    "X-Request-ID": {
        "description": "Identifies the request in the service's log. "
        "It is the X-Request-ID of the request if that matches the pattern, and a new one otherwise.",
        "required": True,
        "schema": {"type": "string", "maxLength": 64, "pattern": "^[A-Za-z0-9._-]{1,64}$"},
        "example": EXAMPLE_REQUEST_ID,
    },
    "WWW-Authenticate": {
        "description": "The challenge of RFC 6750. If a token was sent, it has `error` and `error_description`.",
        "required": True,
        "schema": {"type": "string", "maxLength": 500, "pattern": "^Bearer.*$"},
        "example": "Bearer",
    },
    "Retry-After": {
        "description": "Number of seconds to wait before the next attempt.",
        "required": True,
        "schema": {"type": "string", "maxLength": 9, "pattern": "^[0-9]{1,9}$"},
        "example": "1",
    },
    "ETag": {
        "description": "The version of what the response shows (RFC 9110, section 8.8.3). Send it in `If-None-Match` to "
        "learn whether it has changed, and in `If-Match` to write only if it has not.",
        "required": True,
        "schema": {"type": "string", "maxLength": 60, "pattern": '^(W/)?"[!#-~]{1,50}"$'},
        "example": '"57"',
    },
    "Taskwell-Revision": {
        "description": "The revision of the task that the response shows, or of the deletion. Each write that changes one "
        "of the user's tasks has a higher revision than the write before.",
        "required": True,
        "schema": {"type": "string", "maxLength": 19, "pattern": "^[0-9]{1,19}$"},
        "example": "57",
    },
    "Link": {
        "description": 'The pages of this list (RFC 8288): `rel="next"` if another page follows, and `rel="first"`. '
        "Absent if the list has only one page.",
        "required": False,
        "schema": {"type": "string", "maxLength": 16_000, "pattern": '^<.*"$'},
        "example": '</api/user_abc123/tasks?limit=50&cursor=WzBd>; rel="next", </api/user_abc123/tasks?limit=50>; rel="first"',
    },
    "Content-Disposition": {
        "description": "Suggests a name for the file (RFC 6266).",
        "required": True,
        "schema": {"type": "string", "maxLength": 100, "pattern": '^attachment; filename="[a-z.]+"$'},
        "example": 'attachment; filename="tasks.ndjson"',
    },
    "Location": {
        "description": "The path of the new task.",
        "required": True,
        "schema": {"type": "string", "maxLength": 4000, "format": "uri-reference"},
        "example": "/api/user_abc123/tasks/1",
    },
    "Idempotency-Replayed": {
        "description": "Present if an earlier request with the same `Idempotency-Key` created the task.",
        "required": False,
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "RateLimit-Policy": {
        "description": "The limit: at most `q` requests in `w` seconds.",
        "required": True,
        "schema": {"type": "string", "maxLength": 64, "pattern": '^"[a-z-]+";q=[0-9]+;w=[0-9]+$'},
        "example": '"user";q=200;w=1',
    },
    "RateLimit": {
        "description": "How many requests are left (`r`), and after how many seconds there are more (`t`). "
        "With a rate limit, responses to users within the limit have this header and RateLimit-Policy, too.",
        "required": True,
        "schema": {"type": "string", "maxLength": 64, "pattern": '^"[a-z-]+";r=[0-9]+;t=[0-9]+$'},
        "example": '"user";r=0;t=1',
    },
}


_TAGS = [
    {"name": "tasks", "description": "Create, read, change and delete the tasks of a user."},
    {"name": "trash", "description": "Find and restore deleted tasks."},
    {"name": "account", "description": "All data of a user."},
    {"name": "sync", "description": "Keep a copy of a user's tasks up to date."},
    {"name": "export", "description": "Download all tasks of a user."},
    {"name": "health", "description": "Checks for load balancers and monitoring. They need no token."},
]

# --- the errors of a route


def problem_responses(problems: Iterable[type[Problem] | Problem]) -> Responses:
    """Returns the `responses` of a route that can fail with `problems`, each with an example.

    A class stands for an instance with its default detail. Give an instance where another example is better.
    """
    by_status: dict[int, list[Problem]] = {}
    for problem in problems:
        example = problem("") if isinstance(problem, type) else problem
        by_status.setdefault(example.status, []).append(example)
    return {status: _response(examples) for status, examples in by_status.items()}


def _response(problems: list[Problem]) -> dict[str, object]:
    bodies = {
        problem.detail: problem_body(problem, timestamp=EXAMPLE_TIMESTAMP, request_id=EXAMPLE_REQUEST_ID)
        for problem in problems
    }
    details = {
        problem.detail: rfc9457_members(problem.code, problem.status, request_id=EXAMPLE_REQUEST_ID)
        for problem in problems
    }
    return {
        "description": " or ".join(sorted({problem.code for problem in problems})),
        "headers": {
            name: _header_of(name, problems) for problem in problems for name in problem.headers if name in _HEADERS
        },
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {name: {"value": body} for name, body in bodies.items()},
            },
            PROBLEM_JSON: {
                "schema": {"$ref": "#/components/schemas/ProblemDetails"},
                "examples": {name: {"value": body | details[name]} for name, body in bodies.items()},
            },
        },
    }


def _header_of(name: str, problems: list[Problem]) -> dict[str, object]:
    always = all(name in problem.headers for problem in problems)
    return header(name) if always else _optional(name)


def header(name: str) -> dict[str, object]:
    """Returns the description of a response header, by reference."""
    return {"$ref": f"#/components/headers/{name}"}


def _optional(name: str) -> dict[str, object]:
    return {**_HEADERS[name], "required": False}


# --- the document


def complete(app: FastAPI) -> None:
    """Makes `app.openapi()` return FastAPI's document with everything that this module adds.

    Call it when all routes are in place.
    """
    generate = app.openapi

    @cache
    def document() -> dict[str, Any]:
        return _completed(generate(), app.routes)

    app.openapi = document  # type: ignore[method-assign]


def _completed(document: dict[str, Any], routes: Sequence[BaseRoute]) -> dict[str, Any]:
    document["info"] |= {"description": _DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}}
    # The service that served the document.
    document["servers"] = [{"url": "/"}]
    document["tags"] = _TAGS
    components = document["components"]
    # FastAPI documents its own body for 422, which this service never sends.
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    components["schemas"] |= _SCHEMAS
    components["headers"] = _HEADERS
    for route in iter_route_contexts(routes):
        if isinstance(route.original_route, APIRoute):
            for method in route.methods or ():
                _complete_operation(document["paths"][route.path_format][method.lower()], route)
    _repair_integers(document)
    return document


def _complete_operation(operation: dict[str, Any], route: RouteContext) -> None:
    operation.setdefault("security", [])
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    parameters.sort(key=lambda parameter: _position(parameter, str(route.path_format)))
    responses = operation["responses"] = dict(sorted(operation["responses"].items()))
    for status, response in responses.items():
        response["headers"] = response.get("headers", {}) | {"X-Request-ID": header("X-Request-ID")}
        if "429" in responses and status < "400":
            response["headers"] |= {name: _optional(name) for name in ("RateLimit", "RateLimit-Policy")}
    # FastAPI removes nulls from its document, and so removes members of the examples.
    for status, declared in route.responses.items():
        for media_type, content in declared.get("content", {}).items():
            responses[str(status)]["content"][media_type] |= content
    if route.body_field:
        for content in operation["requestBody"]["content"].values():
            content["examples"] = route.body_field.field_info.openapi_examples


def _repair_integers(part: object) -> None:
    """Makes the bounds of integers integers, and adds the format. FastAPI makes floats of them, and 2^63 of 2^63-1."""
    if isinstance(part, list):
        for value in cast("list[object]", part):
            _repair_integers(value)
    if isinstance(part, dict):
        schema = cast("dict[str, Any]", part)
        for value in schema.values():
            _repair_integers(value)
        if schema.get("type") == "integer":
            for bound in schema.keys() & {"minimum", "maximum"}:
                schema[bound] = int(min(schema[bound], 2**63 - 1))
            schema["format"] = "int32" if schema.get("maximum", 2**31) < 2**31 else "int64"


def _position(parameter: dict[str, Any], path: str) -> int:
    """The sort key of a parameter: path parameters in the order of the path, then the others as declared."""
    return path.index(f"{{{parameter['name']}}}") if parameter["in"] == "path" else len(path)
