"""Examples of the task endpoints' requests and responses, for the OpenAPI document."""

from collections.abc import Sequence
from typing import Any, cast

from fastapi.openapi.models import Example
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from orjson import dumps
from pydantic import TypeAdapter

from taskwell.auth.owner import AUTH_PROBLEMS
from taskwell.auth.scopes import READ, WRITE
from taskwell.auth.tokens import UserId
from taskwell.errors import (
    MALFORMED_HEADER,
    DatabaseError,
    Gone,
    InsufficientScope,
    InternalError,
    MalformedRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    PreconditionFailed,
    PreconditionRequired,
    Problem,
    RateLimited,
    RequestTimeout,
    UnprocessableRequest,
    UnsupportedMediaType,
    Violation,
)
from taskwell.etags import NOT_ENTITY_TAGS, ListState
from taskwell.http.error_responses import unknown_parameter
from taskwell.http.openapi import Responses, header, problem_responses
from taskwell.http.streams import too_many_streams
from taskwell.idempotency import NOT_A_KEY
from taskwell.tasks.export_formats import FORMATS
from taskwell.tasks.operations import in_operation
from taskwell.tasks.repository import outdated_token, reused_key
from taskwell.tasks.schemas import ExportedTask
from taskwell.tasks.sync_tokens import token_of

USER = "user_abc123"

TASK = {
    "id": 1,
    "user_id": USER,
    "title": "Buy milk",
    "description": None,
    "complete": False,
    "created_at": "2026-11-21T10:30:00.123456Z",
    "updated_at": "2026-11-21T10:30:00.123456Z",
}
_CHANGED = TASK | {"complete": True, "updated_at": "2026-11-21T18:05:12.000345Z"}
_DELETED = _CHANGED | {"etag": '"59"', "deleted_at": "2026-11-21T19:40:01.700000Z"}
_OPERATIONS = [
    {"op": "create", "task": {"title": "Buy bread"}, "key": "8e03978e-40d5-43e8-bc93-6894a57f9324"},
    {"op": "patch", "id": 1, "task": {"complete": True}, "if_match": '"57"'},
    {"op": "delete", "id": 3},
]
_RESULTS = [
    {"status": 201, "task": TASK | {"id": 4, "title": "Buy bread", "etag": '"60"'}},
    {"status": 200, "task": _CHANGED | {"etag": '"61"'}},
    {"status": 204, "task": None},
]
_CHANGES: dict[str, Any] = {
    "tasks": [_CHANGED | {"etag": '"56"'}],
    "deleted": [{"id": 2, "deleted_at": "2026-11-21T18:07:30.120000Z"}],
    "since": token_of(UserId(USER), ListState(57, 1763720000)),
    "revision": 57,
    "has_more": False,
}

CREATE: dict[str, Example] = {
    "title": {"summary": "Only a title", "value": {"title": "Buy milk"}},
    "whole": {
        "summary": "All members",
        "value": {"title": "Buy milk", "description": "Oat, two litres", "complete": False},
    },
}
REPLACE: dict[str, Example] = {
    "replaced": {
        "summary": "Without a description, which becomes null",
        "value": {"title": "Buy milk", "complete": True},
    },
    "sent back": {"summary": "A task from a response, changed", "value": _CHANGED},
}
PATCH: dict[str, Example] = {
    "complete": {"summary": "Mark as complete", "value": {"complete": True}},
    "description": {"summary": "Clear the description", "value": {"description": None}},
}

BATCH: dict[str, Example] = {
    "mixed": {"summary": "Several operations", "value": {"operations": _OPERATIONS}},
}


def _bad(loc: list[str | int], msg: str, kind: str) -> UnprocessableRequest:
    place = " ".join(str(part) for part in loc if part != "body")
    return UnprocessableRequest(f"{place}: {msg}", [{"loc": loc, "msg": msg, "type": kind}])


_BAD_LIMIT = _bad(["query", "limit"], "must be less than or equal to 1000", "less_than_equal")
_BAD_TOKEN = _bad(["query", "since"], "is not a token of this service", "sync_token")
_BAD_EVENT_ID = _bad(["header", "Last-Event-ID"], "is not a token of this service", "sync_token")
_BAD_ID = _bad(["path", "task_id"], "must be an integer in decimal digits", "int_parsing")
_BAD_TITLE = _bad(["body", "title"], "must have at least 1 character", "string_too_short")
_NOT_JSON = MalformedRequest("The request's body is not JSON: Expecting value at character 0.")
_NO_FIELD = MalformedRequest(
    "body: at least one field must be provided",
    [{"loc": ["body"], "msg": "at least one field must be provided", "type": "no_fields"}],
)
_NO_TASK = NotFound("There is no such task.")


def _malformed(header_name: str, msg: str) -> MalformedRequest:
    violation: Violation = {"loc": ["header", header_name], "msg": msg, "type": MALFORMED_HEADER}
    return MalformedRequest(f"header {header_name}: {msg}", [violation])


_MALFORMED_TAG = _malformed("If-Match", NOT_ENTITY_TAGS)
_MALFORMED_TAG_ON_READ = _malformed("If-None-Match", NOT_ENTITY_TAGS)
_MALFORMED_KEY = _malformed("Idempotency-Key", NOT_A_KEY)
_USED_KEY = reused_key()
_CHANGED_BY_OTHERS = PreconditionFailed(_CHANGED, '"58"')

_NO_TASK_IN_BATCH = in_operation(NotFound(), 2)
_REPEATED = _bad(["body", "operations", 2, "id"], "must not be that of an earlier operation", "repeated_id")
_NOT_CONFIRMED = _bad(["query", "confirm"], "must be the user_id of the path", "confirmation")

_ALWAYS: list[type[Problem]] = [*AUTH_PROBLEMS, RateLimited, DatabaseError, InternalError, Overloaded]
_ON_READ: list[type[Problem] | Problem] = [*_ALWAYS, InsufficientScope(READ)]
_ON_WRITE: list[type[Problem] | Problem] = [*_ALWAYS, InsufficientScope(WRITE)]
_WITH_BODY: list[type[Problem]] = [RequestTimeout, PayloadTooLarge, UnsupportedMediaType]


def _success(example: object, *headers: str) -> dict[str, object]:
    return {"content": {"application/json": {"example": example}}, "headers": {name: header(name) for name in headers}}


_NOT_MODIFIED: dict[str, object] = {
    "description": "Nothing has changed since the response with this ETag.",
    "headers": {"ETag": header("ETag")},
}
_WRITTEN = ("ETag", "Taskwell-Revision")
_ON_CONDITION: list[type[Problem] | Problem] = [_MALFORMED_TAG, _NO_TASK, _CHANGED_BY_OTHERS, PreconditionRequired]

ON_LIST: Responses = {
    200: _success({"tasks": [TASK], "count": 1}, "ETag", "Link"),
    304: _NOT_MODIFIED,
    **problem_responses([_MALFORMED_TAG_ON_READ, _BAD_LIMIT, *_ON_READ]),
}
ON_CREATE: Responses = {
    201: _success(TASK, "Location", *_WRITTEN, "Idempotency-Replayed"),
    **problem_responses([_NOT_JSON, _MALFORMED_KEY, _BAD_TITLE, _USED_KEY, Gone, *_ON_WRITE, *_WITH_BODY]),
}
ON_GET: Responses = {
    200: _success(TASK, "ETag"),
    304: _NOT_MODIFIED,
    **problem_responses([_MALFORMED_TAG_ON_READ, _BAD_ID, _NO_TASK, *_ON_READ]),
}
ON_REPLACE: Responses = {
    200: _success(_CHANGED, *_WRITTEN),
    **problem_responses([_NOT_JSON, _BAD_TITLE, *_ON_CONDITION, *_ON_WRITE, *_WITH_BODY]),
}
ON_PATCH: Responses = {
    200: _success(_CHANGED, *_WRITTEN),
    **problem_responses([_NOT_JSON, _NO_FIELD, _BAD_TITLE, *_ON_CONDITION, *_ON_WRITE, *_WITH_BODY]),
}
ON_BATCH: Responses = {
    200: _success({"results": _RESULTS}, "Taskwell-Revision"),
    **problem_responses(
        [
            *(
                _NOT_JSON,
                _NO_FIELD,
                _REPEATED,
                _NO_TASK_IN_BATCH,
                in_operation(reused_key(), 0),
                in_operation(Gone(), 0),
            ),
            *(in_operation(PreconditionFailed(_CHANGED, '"58"'), 1), in_operation(PreconditionRequired(), 1)),
            *(*_ON_WRITE, *_WITH_BODY),
        ]
    ),
}
ON_ERASE: Responses = {204: {}, **problem_responses([_NOT_CONFIRMED, *_ON_WRITE])}
ON_TRASH: Responses = {
    200: _success({"tasks": [_DELETED], "count": 1}, "Link"),
    **problem_responses([_BAD_LIMIT, *_ON_READ]),
}
ON_RESTORE: Responses = {
    200: _success(TASK | {"updated_at": "2026-11-22T09:12:00.250000Z"}, *_WRITTEN),
    **problem_responses([_BAD_ID, _NO_TASK, *_ON_WRITE]),
}
ON_DELETE: Responses = {
    204: {"headers": {"Taskwell-Revision": header("Taskwell-Revision")}},
    **problem_responses([_BAD_ID, *_ON_CONDITION, *_ON_WRITE]),
}


def _token(revision: int) -> str:
    return token_of(UserId(USER), ListState(revision, 1763720000))


_EVENTS = (
    format_sse_event(id=_token(57)),
    format_sse_event(event="task", data_str=dumps(_CHANGED | {"etag": '"58"'}).decode(), id=_token(58)),
    KEEPALIVE_COMMENT,
    format_sse_event(event="deleted", data_str=dumps(_CHANGES["deleted"][0]).decode(), id=_token(59)),
)
ON_EVENTS: Responses = {
    200: {"content": {"text/event-stream": {"example": b"".join(_EVENTS).decode()}}},
    **problem_responses([_BAD_EVENT_ID, outdated_token(), too_many_streams(20), *_ON_READ]),
}
ON_CHANGES: Responses = {
    200: _success(_CHANGES),
    **problem_responses([_BAD_TOKEN, outdated_token(), *_ON_READ]),
}

_EXPORTED = cast("Sequence[ExportedTask]", [_DELETED | {"id": 2}, TASK | {"etag": '"56"', "deleted_at": None}])


def _exported(media_type: str, description: str, **schema: object) -> dict[str, object]:
    form = FORMATS[media_type]
    example = (form.header + form.tasks(_EXPORTED)).decode()
    return {"schema": {"type": "string", "description": description, **schema}, "example": example}


ON_EXPORT: Responses = {
    200: {
        "content": {
            "application/x-ndjson": _exported(
                "application/x-ndjson",
                "On each line a task in JSON. Each line ends with \\n, also the last one.",
                contentMediaType="application/x-ndjson",
                contentSchema=TypeAdapter(ExportedTask).json_schema(),
            ),
            "text/csv": _exported(
                "text/csv",
                "A table (RFC 4180). The columns are the members of a task in the other format.",
            ),
        },
        "headers": {"Content-Disposition": header("Content-Disposition")},
    },
    **problem_responses([unknown_parameter("limit", []), too_many_streams(20), *_ON_READ]),
}
