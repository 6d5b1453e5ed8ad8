"""How a `Problem` becomes an answer: the one body, and the handlers."""

import json
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TypedDict

from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from taskwell.errors import (
    NO_FIELDS,
    InternalError,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    Problem,
    TurnedAway,
    UnprocessableRequest,
    Violation,
)
from taskwell.http.problem_body import PROBLEM_JSON, problem_body, rfc9457_members
from taskwell.times import rfc3339

logger = logging.getLogger("taskwell.problems")

# "Not acceptable": RFC 9110, section 12.4.2.
_WEIGHT_ZERO = re.compile(r";\s*q=0(\.0*)?$")

# A body of 64 KiB can break thousands of rules; the first of them help, all of them only amplify.
MAX_VIOLATIONS = 20


# --- the body


def problem_response(scope: Scope, problem: Problem) -> Response:
    """The answer for `problem`, in RFC 9457's form where the client asks for it."""
    request_id = scope["state"]["request_id"]
    body = problem_body(problem, timestamp=rfc3339(datetime.now(UTC)), request_id=request_id)
    media_type = "application/json"
    if _prefers_problem_json(Headers(scope=scope).getlist("accept")):
        media_type = PROBLEM_JSON
        body |= rfc9457_members(problem, request_id=request_id)
    return Response(
        json.dumps(body, separators=(",", ":")),
        problem.status,
        {"Cache-Control": "no-store", **problem.headers},
        media_type,
    )


def _prefers_problem_json(accept: Sequence[str]) -> bool:
    ranges = [part.strip().lower() for value in accept for part in value.split(",")]
    return any(part.split(";")[0].rstrip() == PROBLEM_JSON and not _WEIGHT_ZERO.search(part) for part in ranges)


# --- the handlers


async def handle_problem(request: Request, problem: Problem) -> Response:
    """Answers a problem of ours. Expected ones are told to the log at INFO, outages at WARNING."""
    if isinstance(problem, TurnedAway):
        request.state.turned_away = True
    else:
        level = logging.WARNING if problem.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logging.INFO
        logger.log(
            level,
            "request_id=%s %s %s: %s",
            request.state.request_id,
            problem.status,
            problem.code,
            problem.cause or problem.detail,
        )
    return problem_response(request.scope, problem)


async def handle_http_exception(request: Request, error: HTTPException) -> Response:
    """Answers what the framework raises by itself: unknown routes and methods."""
    match error.status_code:
        case 404:
            problem: Problem = NotFound("There is no such route.")
        case 405:
            problem = MethodNotAllowed(_allowed_methods(request))
        case 413:
            problem = PayloadTooLarge()
        case status if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            problem = MalformedRequest("The request is malformed.")
        case _:
            problem = InternalError(cause=error.detail)
    return await handle_problem(request, problem)


def _allowed_methods(request: Request) -> list[str]:
    """All methods of the path. Several routes share one; Starlette names those of the first."""
    methods: set[str] = set()
    # A mount has moved its own prefix from the path into `root_path`.
    scope = {**request.scope, "root_path": request.scope.get("app_root_path", "")}
    for route in iter_route_contexts(request.app.routes):
        if route.matches(scope)[0] is not Match.NONE:
            # A mount has no methods of its own; ours serve files.
            methods |= route.methods or {"GET"}
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


async def handle_validation_error(request: Request, error: RequestValidationError) -> Response:
    """Answers input of the wrong shape."""
    return await handle_problem(request, invalid_request(error.errors()))


class _PydanticError(TypedDict):
    loc: tuple[str | int, ...]
    msg: str
    type: str


def invalid_request(errors: Sequence[_PydanticError]) -> InvalidRequest:
    """The problem that tells of pydantic's `errors` without the values that were sent."""
    violations = [_violation(error) for error in errors[:MAX_VIOLATIONS]]
    detail = "; ".join(f"{_place(violation['loc'])}: {violation['msg']}" for violation in violations)
    if len(errors) > MAX_VIOLATIONS:
        detail += f"; and {len(errors) - MAX_VIOLATIONS} more"
    if any(error["type"] == NO_FIELDS for error in errors):
        return MalformedRequest(detail, violations)
    return UnprocessableRequest(detail, violations)


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


def _violation(error: _PydanticError) -> Violation:
    wording = _WORDING.get(error["type"]) or re.sub(r"^(\w+) should ", "must ", error["msg"])
    return {"loc": [_printable(part) for part in error["loc"]], "msg": wording, "type": error["type"]}


def _printable(part: str | int) -> str | int:
    """A member's name as it may be shown: the client chose it, so it can be long, or forge a line of the log."""
    if isinstance(part, int):
        return part
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in part[:64])


def _place(loc: Sequence[str | int]) -> str:
    """`title` for a member of the body, `body` for the body as a whole, `query limit` for the rest."""
    if loc[0] == "body" and len(loc) > 1:
        loc = loc[1:]
    return " ".join(str(part) for part in loc)
