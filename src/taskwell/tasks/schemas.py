"""The schemas of requests and responses. The OpenAPI document is generated from them."""

from datetime import datetime
from typing import Annotated, Self, cast

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

# --- values


def _without_nul(value: str) -> str:
    # PostgreSQL cannot store NUL. SQLite can, but its `length()` stops counting there.
    if "\x00" in value:
        raise PydanticCustomError("string_nul", "must not contain the character NUL")
    return value


# For clients that only read the document, the patterns say what `strip_whitespace` and `_without_nul` do. They list the
# white space because `\s` differs between regex dialects, and none of them has exactly the characters that pydantic
# strips: Unicode's White_Space property.
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
    WithJsonSchema(
        {**_TITLE, "description": "Leading and trailing white space is removed before the length is checked."}
    ),
]
Description = Annotated[
    StrictStr,
    StringConstraints(max_length=MAX_DESCRIPTION),
    AfterValidator(_without_nul),
    WithJsonSchema(_DESCRIPTION),
]


Time = Annotated[datetime | str, WithJsonSchema(_UTC)]
"""A time in a response: a `datetime`, which is written out by orjson, or text that is written out already."""

# --- requests

_READ_ONLY = ("id", "user_id", "created_at", "updated_at")
_WRITABLE = ("title", "description", "complete")


def _describe_input(schema: JsonDict) -> None:
    properties = cast("JsonDict", schema["properties"])
    properties |= {name: {"description": "Read-only: ignored in requests."} for name in _READ_ONLY}


def _describe_patch(schema: JsonDict) -> None:
    _describe_input(schema)
    schema["minProperties"] = 1
    # Wrapped in allOf, and with the member named: with a bare anyOf, generators of client types lose the members above.
    schema["allOf"] = [{"anyOf": [{"title": name, "required": [name], "properties": {name: {}}} for name in _WRITABLE]}]


def _without_default(schema: JsonDict) -> None:
    # Generators of client types treat a member with a default as one that is always present.
    schema.pop("default", None)


class TaskInput(BaseModel):
    """The base of all requests. Unknown members are refused. Read-only ones are ignored, so a client can send a task back."""

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
        default=None, description="Defaults to null.", json_schema_extra=_without_default
    )
    complete: StrictBool = pydantic.Field(
        default=False, description="Defaults to false.", json_schema_extra=_without_default
    )


class TaskUpdate(TaskInput):
    """A replacement for a task. If the description is omitted, it becomes null."""

    title: Title
    description: Description | None = pydantic.Field(
        default=None, description="Defaults to null.", json_schema_extra=_without_default
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


@with_config(extra="forbid")
class TaskResponse(TypedDict):
    """A task. All of these members are always present, and no others."""

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
    """A page of tasks, and the number of matching tasks on all pages."""

    tasks: list[TaskResponse]
    count: Annotated[int, WithJsonSchema({"type": "integer", "minimum": 0})]
