"""The schemas of requests and responses. The OpenAPI document is generated from them."""

from datetime import datetime
from typing import Annotated, Literal, Self, cast

import pydantic
from pydantic import (
    MISSING,
    AfterValidator,
    BaseModel,
    ConfigDict,
    StrictBool,
    StrictStr,
    StringConstraints,
    WithJsonSchema,
    model_validator,
    with_config,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from taskwell.errors import NO_FIELDS
from taskwell.tasks.tables import MAX_DESCRIPTION, MAX_TITLE

MAX_LIMIT = 1000
"""Maximum number of tasks on a page."""

MAX_OPERATIONS = 100
"""Maximum number of operations in a batch."""

MAX_BIGINT = 2**63 - 1

# --- values


def without_nul(value: str) -> str:
    """Returns `value`. Raises a validation error if it contains NUL."""
    # PostgreSQL cannot store NUL. SQLite can, but its `length()` stops counting there.
    if "\x00" in value:
        raise PydanticCustomError("string_nul", "must not contain the character NUL")
    return value


# Many client libraries check `pattern`, each in its own dialect, so the patterns use only what all dialects share: anchors
# at both ends and `\x00`, because PHP's has no `\u0000`. `not` is for JSON Schema validators; generators skip it. (It needs a
# type, or Swagger UI shows "never".) The pattern lists each white-space character. Pydantic strips those with Unicode's
# property White_Space, and `\s` means other characters in every dialect.
_NO_NUL = r"^[^\x00]*$"
_ONLY_WHITE_SPACE = r"^[\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
_TITLE: JsonDict = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_TITLE,
    "pattern": _NO_NUL,
    "not": {"type": "string", "pattern": _ONLY_WHITE_SPACE},
    "description": "Leading and trailing white space is removed before the length is checked.",
}
_DESCRIPTION: JsonDict = {"type": "string", "maxLength": MAX_DESCRIPTION, "pattern": _NO_NUL}

Title = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TITLE),
    AfterValidator(without_nul),
    WithJsonSchema(_TITLE),
]
Description = Annotated[
    StrictStr,
    StringConstraints(max_length=MAX_DESCRIPTION),
    AfterValidator(without_nul),
    WithJsonSchema(_DESCRIPTION),
]

# --- requests

_READ_ONLY = ("id", "user_id", "created_at", "updated_at")


def _describe_input(schema: JsonDict) -> None:
    properties = cast("JsonDict", schema["properties"])
    properties |= {name: {"description": "Read-only: ignored in requests."} for name in _READ_ONLY}


def _describe_patch(schema: JsonDict) -> None:
    _describe_input(schema)
    schema["minProperties"] = 1
    # "At least one writable member". Generators of clients skip `not`. Some of them make every member required when the
    # same rule is written with `anyOf`.
    schema["not"] = {"type": "object", "propertyNames": {"enum": list(_READ_ONLY)}}


def without_default(schema: JsonDict) -> None:
    # Generators of client types treat a member with a default as one that is always present.
    schema.pop("default", None)


class TaskInput(BaseModel):
    """The base of all requests.

    Unknown members are refused. Read-only ones are ignored, so a client can send a task back.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_describe_input)

    @model_validator(mode="before")
    @classmethod
    def _ignore_read_only(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        members = cast("dict[str, object]", data)
        if members.keys().isdisjoint(_READ_ONLY):
            return members
        return {name: value for name, value in members.items() if name not in _READ_ONLY}


class TaskCreate(TaskInput):
    """A new task."""

    title: Title
    description: Description | None = pydantic.Field(
        default=None, description="Defaults to null.", json_schema_extra=without_default
    )
    complete: StrictBool = pydantic.Field(
        default=False, description="Defaults to false.", json_schema_extra=without_default
    )


class TaskUpdate(TaskInput):
    """A replacement for a task. If the description is omitted, it becomes null."""

    title: Title
    description: Description | None = pydantic.Field(
        default=None, description="Defaults to null.", json_schema_extra=without_default
    )
    complete: StrictBool


class TaskPatch(TaskInput):
    """Changes to a task. Omitted members keep their value; `"description": null` clears the description."""

    model_config = ConfigDict(json_schema_extra=_describe_patch)

    title: Title | MISSING = MISSING
    description: Description | MISSING | None = MISSING
    complete: StrictBool | MISSING = MISSING

    @model_validator(mode="after")
    def _names_a_field(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError(NO_FIELDS, "at least one field must be provided")
        return self


# --- responses

Time = datetime | str
"""A time in a response: a `datetime`, which orjson writes, or the text of one that is already written."""

# Responses state the lengths of text in words. Some generated clients check `maxLength`, but count UTF-16 code units,
# and would reject a title of 150 emoji. They state UTC in words, too: a `pattern` is matched against a parsed date.


def _time(description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "string", "format": "date-time", "description": f"{description} In UTC, ending in Z."}
    )


def _time_or_null(description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {
            "anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}],
            "description": f"{description} In UTC, ending in Z.",
        }
    )


def _integer(minimum: int, maximum: int, description: str) -> WithJsonSchema:
    return WithJsonSchema(
        {"type": "integer", "format": "int64", "minimum": minimum, "maximum": maximum, "description": description}
    )


@with_config(extra="forbid")
class TaskResponse(TypedDict):
    """A task. All of these members are always present, and no others."""

    id: Annotated[int, _integer(1, MAX_BIGINT, "Assigned by the database and never used again.")]
    user_id: Annotated[str, pydantic.Field(description="The user who owns the task.")]
    title: Annotated[str, pydantic.Field(description=f"1 to {MAX_TITLE} characters.")]
    description: Annotated[str | None, pydantic.Field(description=f"At most {MAX_DESCRIPTION} characters, or null.")]
    complete: Annotated[bool, pydantic.Field(description="Whether the task is done.")]
    created_at: Annotated[Time, _time("When the task was created.")]
    updated_at: Annotated[Time, _time("When the task last changed.")]


MEMBERS = tuple(TaskResponse.__annotations__)


@with_config(extra="forbid")
class VersionedTask(TaskResponse):
    """A task and its `etag`. All of these members are always present, and no others."""

    etag: Annotated[str, pydantic.Field(description="The `ETag` of the task, with its quotes. Send it in `If-Match`.")]


@with_config(extra="forbid")
class TaskListResponse(TypedDict):
    """A page of tasks, and the number of matching tasks on all pages."""

    tasks: Annotated[list[TaskResponse], pydantic.Field(json_schema_extra={"maxItems": MAX_LIMIT})]
    count: Annotated[int, _integer(0, MAX_BIGINT, "Number of matching tasks on all pages.")]


@with_config(extra="forbid")
class DeletedTask(TypedDict):
    """A task that was deleted."""

    id: Annotated[int, _integer(1, MAX_BIGINT, "The ID of the task.")]
    deleted_at: Annotated[Time, _time("When the task was deleted.")]


@with_config(extra="forbid")
class ChangesResponse(TypedDict):
    """Changes of a user's tasks: each task as it is now, or the ID of a deleted one. No ID is in both lists."""

    tasks: Annotated[
        list[VersionedTask],
        pydantic.Field(description="Tasks that are new or changed.", json_schema_extra={"maxItems": MAX_LIMIT}),
    ]
    deleted: Annotated[
        list[DeletedTask],
        pydantic.Field(
            description="Tasks that were deleted, also some that you have never seen.",
            json_schema_extra={"maxItems": MAX_LIMIT},
        ),
    ]
    since: Annotated[str, pydantic.Field(description="The token for the next request: its `since`.")]
    revision: Annotated[
        int,
        _integer(
            0,
            MAX_BIGINT,
            "With this page, your copy contains every write whose `Taskwell-Revision` is not higher than this.",
        ),
    ]
    has_more: Annotated[bool, pydantic.Field(description="Whether more changes follow. Request them at once.")]


@with_config(extra="forbid")
class OperationResult(TypedDict):
    """The outcome of one operation of a batch."""

    status: Annotated[
        Literal[200, 201, 204],
        WithJsonSchema(
            {
                "type": "integer",
                "enum": [200, 201, 204],
                "minimum": 200,
                "maximum": 204,
                "description": "The status that the operation would have as a request of its own.",
            }
        ),
    ]
    task: Annotated[VersionedTask | None, pydantic.Field(description="The task as it is now; null if it is deleted.")]


@with_config(extra="forbid")
class BatchResponse(TypedDict):
    """The results of a batch."""

    results: Annotated[
        list[OperationResult],
        pydantic.Field(
            description="One for each operation, in the same order.", json_schema_extra={"maxItems": MAX_OPERATIONS}
        ),
    ]


@with_config(extra="forbid")
class TrashedTask(VersionedTask):
    """A task that was deleted and can be restored."""

    deleted_at: Annotated[Time, _time("When the task was deleted.")]


@with_config(extra="forbid")
class TrashResponse(TypedDict):
    """A page of the trash, and the number of tasks on all pages."""

    tasks: Annotated[list[TrashedTask], pydantic.Field(json_schema_extra={"maxItems": MAX_LIMIT})]
    count: Annotated[int, _integer(0, MAX_BIGINT, "Number of tasks on all pages.")]


@with_config(extra="forbid")
class ExportedTask(VersionedTask):
    """A task in an export, which may be in the trash."""

    deleted_at: Annotated[Time | None, _time_or_null("When the task was deleted, or null if it was not.")]
