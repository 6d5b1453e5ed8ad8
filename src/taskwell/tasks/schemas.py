"""The schemas of requests and responses."""

from datetime import datetime
from typing import Annotated, Self, cast

import pydantic
from pydantic import (
    MISSING,
    AfterValidator,
    BaseModel,
    ConfigDict,
    PlainSerializer,
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
from taskwell.times import rfc3339

# --- the values


def _without_nul(value: str) -> str:
    # PostgreSQL cannot store it, and SQLite stores what `length()` then does not count.
    if "\x00" in value:
        raise PydanticCustomError("string_nul", "must not contain the character NUL")
    return value


# The patterns say what `strip` and `_without_nul` do, for clients that read only the document. White space is spelt
# out, because `\s` means another set in each dialect, and none of them is what is removed: Unicode's White_Space.
_WHITE_SPACE = r"\t-\r \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_TITLE: JsonDict = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_TITLE,
    "pattern": rf"^[^\u0000]*[^\u0000{_WHITE_SPACE}][^\u0000]*$",
}
_DESCRIPTION: JsonDict = {"type": "string", "maxLength": MAX_DESCRIPTION, "pattern": r"^[^\u0000]*$"}
_UTC: JsonDict = {"type": "string", "format": "date-time", "pattern": "Z$"}

Title = Annotated[
    StrictStr,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_TITLE),
    AfterValidator(_without_nul),
    WithJsonSchema({**_TITLE, "description": "Surrounding white space is removed before anything is counted."}),
]
Description = Annotated[
    StrictStr,
    StringConstraints(max_length=MAX_DESCRIPTION),
    AfterValidator(_without_nul),
    WithJsonSchema(_DESCRIPTION),
]


Time = Annotated[datetime, PlainSerializer(rfc3339), WithJsonSchema(_UTC)]

# --- the requests

_READ_ONLY = ("id", "user_id", "created_at", "updated_at")
_WRITABLE = ("title", "description", "complete")


def _describe_input(schema: JsonDict) -> None:
    properties = cast("JsonDict", schema["properties"])
    properties |= {name: {"description": "Read-only; ignored."} for name in _READ_ONLY}


def _describe_patch(schema: JsonDict) -> None:
    _describe_input(schema)
    schema["minProperties"] = 1
    # Within allOf, and naming the member: a bare anyOf here makes generators of client types forget the members above.
    schema["allOf"] = [{"anyOf": [{"title": name, "required": [name], "properties": {name: {}}} for name in _WRITABLE]}]


def _without_default(schema: JsonDict) -> None:
    # Generators of client types take a member with a default as one that is always there.
    schema.pop("default", None)


class TaskInput(BaseModel):
    """What all requests share: unknown members are refused, read-only ones ignored, so that an answer can be sent back."""

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
        default=None, description="Left out: null.", json_schema_extra=_without_default
    )
    complete: StrictBool = pydantic.Field(
        default=False, description="Left out: false.", json_schema_extra=_without_default
    )


class TaskUpdate(TaskInput):
    """A whole task: a description left out becomes null."""

    title: Title
    description: Description | None = pydantic.Field(
        default=None, description="Left out: null.", json_schema_extra=_without_default
    )
    complete: StrictBool


class TaskPatch(TaskInput):
    """Some members of a task: one left out stays as it is, `description: null` clears it."""

    model_config = ConfigDict(json_schema_extra=_describe_patch)

    title: Title | MISSING = MISSING
    description: Description | MISSING | None = MISSING
    complete: StrictBool | MISSING = MISSING

    @model_validator(mode="after")
    def _names_a_field(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError(NO_FIELDS, "at least one field must be provided")
        return self


# --- the answers


@with_config(extra="forbid")
class TaskResponse(TypedDict):
    """A task, all members always there, and no others."""

    id: Annotated[int, WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1})]
    user_id: Annotated[str, WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 255})]
    title: Annotated[str, WithJsonSchema(_TITLE)]
    description: Annotated[str, WithJsonSchema(_DESCRIPTION)] | None
    complete: bool
    created_at: Time
    updated_at: Time


MEMBERS = tuple(TaskResponse.__annotations__)


@with_config(extra="forbid")
class TaskListResponse(TypedDict):
    """A page of tasks, newest first, and the number of all that match."""

    tasks: list[TaskResponse]
    count: Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
