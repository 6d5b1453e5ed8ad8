"""Turns errors into responses: the body that all errors share, and the wording of validation errors."""

import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypedDict, cast

from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from taskwell.errors import (
    MALFORMED,
    InternalError,
    InvalidRequest,
    LoadShed,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    RateLimited,
    UnprocessableRequest,
    Violation,
)
from taskwell.http.accept import weights
from taskwell.http.problem_body import PROBLEM_JSON, problem_body, rfc9457_members
from taskwell.http.segments import public_path
from taskwell.telemetry.requests import name_of
from taskwell.times import rfc3339

logger = logging.getLogger("taskwell.problems")

# A body of 64 KiB can break thousands of rules. A client needs the first ones; all of them would make the response
# large.
MAX_VIOLATIONS = 20

MAX_LOGGED_CAUSE = 2000


# --- the body


def problem_response(scope: Scope, problem: Problem) -> Response:
    """Returns the response for `problem`, in the form of RFC 9457 if the client accepts that."""
    request_id = scope["state"]["request_id"]
    scope["state"]["error_code"] = problem.code
    body = problem_body(problem, timestamp=rfc3339(datetime.now(UTC)), request_id=request_id)
    media_type = "application/json"
    if _prefers_problem_json(Headers(scope=scope).getlist("accept")):
        media_type = PROBLEM_JSON
        body |= rfc9457_members(problem.code, problem.status, root_path=public_path(scope, ""), request_id=request_id)
    return Response(
        # A task in the body has times.
        json.dumps(body, separators=(",", ":"), default=rfc3339),
        problem.status,
        {"Cache-Control": "no-store", **problem.headers},
        media_type,
    )


def _prefers_problem_json(accept: Sequence[str]) -> bool:
    """Returns whether the client names RFC 9457's type, and prefers no other form of the body.

    A wildcard does not name it: most clients send `*/*` by default.
    """
    weight = weights(accept)
    # The most specific range counts (RFC 9110, section 12.5.1).
    json_range = next((name for name in ("application/json", "application/*", "*/*") if name in weight), "")
    return 0 < weight.get(PROBLEM_JSON, 0) >= weight.get(json_range, 0)


# --- errors as responses


def error_response(request: Request, error: Problem | HTTPException) -> Response:
    """Returns the response for `error`, and logs it: at INFO if it is expected, at WARNING if it is an outage."""
    problem = error if isinstance(error, Problem) else _problem_of(request, error)
    request.scope["state"]["error_code"] = problem.code
    # Thousands of requests may be refused in a second. A `Tally` logs one line for all of them.
    if not isinstance(problem, LoadShed | RateLimited):
        level = logging.WARNING if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        logger.log(
            level,
            "%s %s %s: %s",
            name_of(request.scope),
            problem.status,
            problem.code,
            printable(problem.cause or problem.detail, MAX_LOGGED_CAUSE),
        )
    return problem_response(request.scope, problem)


def _problem_of(request: Request, error: HTTPException) -> Problem:
    """Returns the problem for an exception of the framework, such as an unknown route or method."""
    match error.status_code:
        case 404:
            return NotFound("There is no such route.")
        case 405:
            return MethodNotAllowed(_allowed_methods(request))
        case 413:
            return PayloadTooLarge()
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return MalformedRequest("The request is malformed.")
        case _:
            return InternalError(cause=error.detail)


def _allowed_methods(request: Request) -> list[str]:
    """Returns all methods of the path. If several routes share it, Starlette lists only the methods of the first."""
    methods: set[str] = set()
    scope = {**request.scope, "root_path": public_path(request.scope, "")}
    for route in iter_route_contexts(request.app.routes):
        if route.matches(scope)[0] is not Match.NONE:
            # A mount has no methods of its own; ours serve files.
            methods |= route.methods or {"GET"}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


async def handle_error(request: Request, error: Exception) -> Response:
    """Handles `Problem` and `HTTPException` on the routes that FastAPI serves."""
    return error_response(request, cast("Problem | HTTPException", error))


async def handle_validation_error(request: Request, error: Exception) -> Response:
    """Handles invalid input on the routes that FastAPI serves."""
    return error_response(request, invalid_request(cast("RequestValidationError", error).errors()))


# --- invalid input


class PydanticError(TypedDict):
    """The members of pydantic's errors that are used here."""

    type: str
    loc: tuple[str | int, ...]
    msg: str


def invalid_request(errors: Sequence[PydanticError]) -> InvalidRequest:
    """Returns the problem that describes pydantic's `errors`, without the values that were sent."""
    violations = [_violation(error) for error in errors[:MAX_VIOLATIONS]]
    detail = "; ".join(f"{_place(violation['loc'])}: {violation['msg']}" for violation in violations)
    if len(errors) > MAX_VIOLATIONS:
        detail += f"; and {len(errors) - MAX_VIOLATIONS} more"
    if any(error["type"] in MALFORMED for error in errors):
        return MalformedRequest(detail, violations)
    return UnprocessableRequest(detail, violations)


def unknown_parameter(name: str, known: Sequence[str]) -> UnprocessableRequest:
    """Returns the problem for a query parameter that the endpoint does not have."""
    msg = "is not a parameter of this endpoint, which has " + (_enumeration(known) or "none")
    return invalid_parameter(name, msg, "extra_forbidden")


def repeated_parameter(name: str) -> UnprocessableRequest:
    """Returns the problem for a query parameter that is given more than once."""
    return invalid_parameter(name, "must be given once", "repeated")


def invalid_parameter(name: str, msg: str, kind: str) -> UnprocessableRequest:
    """Returns the problem for a query parameter; `kind` is the name of the rule that it breaks."""
    loc: list[str | int] = ["query", _printable(name)]
    return UnprocessableRequest(f"{_place(loc)}: {msg}", [{"loc": loc, "msg": msg, "type": kind}])


def _enumeration(names: Sequence[str]) -> str:
    *first, last = names or [""]
    return f"{', '.join(first)} and {last}" if first else last


_WORDING = {
    "missing": "is required",
    "extra_forbidden": "is not a member of this request",
    "model_attributes_type": "must be a JSON object",
    "model_type": "must be a JSON object",
    "dict_type": "must be a JSON object",
    "string_type": "must be a string",
    "bool_type": "must be true or false",
    "string_unicode": "must not contain a lone surrogate",
}


def _violation(error: PydanticError) -> Violation:
    # Of a list, pydantic says that it "should have at most 100 items after validation, not 101".
    msg = error["msg"].replace(" after validation", "")
    wording = _WORDING.get(error["type"]) or re.sub(r"^(\w+) should ", "must ", msg)
    return {"loc": [_printable(part) for part in error["loc"]], "msg": wording, "type": error["type"]}


def _printable(part: str | int) -> str | int:
    """Shortens and escapes a name that the client chose."""
    return part if isinstance(part, int) else printable(part, 64)


def printable(text: str, length: int) -> str:
    """Returns the first `length` characters, escaped. Text that the client chose could be long, or forge a log line."""
    text = text[:length]
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _place(loc: Sequence[str | int]) -> str:
    """Returns `title` for a member of the body, `body` for the whole body, and otherwise a text such as `query limit`."""
    if loc[0] == "body" and len(loc) > 1:
        loc = loc[1:]
    return " ".join(str(part) for part in loc)
