"""What a task is: the two tables, and the schemas of requests and answers."""

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
from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
)
from sqlmodel import Field, SQLModel
from typing_extensions import TypedDict

from taskwell.http.problems import EMPTY_PATCH
from taskwell.http.times import rfc3339

MAX_TITLE = 200
MAX_DESCRIPTION = 1000


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

# --- the tables

# User identifiers and keys are opaque: compared byte by byte, whatever the database's locale.
_OPAQUE = Text(collation="C").with_variant(Text(), "sqlite")


class Task(SQLModel, table=True):
    """One task. Deleted ones stay, marked, until they are erased; erased ones stay as tombstones with their key."""

    __table_args__ = (
        CheckConstraint(f"erased_at IS NOT NULL OR length(title) BETWEEN 1 AND {MAX_TITLE}", name="task_title_length"),
        CheckConstraint(f"length(description) <= {MAX_DESCRIPTION}", name="task_description_length"),
        UniqueConstraint("user_id", "creation_key", name="task_creation_key"),
        # Read backwards for "newest first". All that lists are filtered by is in it, so that they are counted from here
        # alone: to visit 100,000 tasks among a million others PostgreSQL read 15,033 pages where it now reads 579.
        Index("task_newest", "user_id", "deleted_at", "id", "complete"),
        Index("task_revision", "user_id", "revision"),
        # Without it SQLite gives the id of the newest row again once that row is gone.
        {"sqlite_autoincrement": True},
    )

    id: int = Field(
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True)
    )
    user_id: str = Field(sa_type=_OPAQUE)
    # TEXT with a CHECK: VARCHAR(200) silently cuts trailing blanks to fit.
    title: str = Field(sa_type=Text)
    description: str | None = Field(sa_type=Text)
    complete: bool = Field(
        sa_column=Column(Boolean(create_constraint=True, name="task_complete"), nullable=False, server_default=false())
    )
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    erased_at: datetime | None
    revision: int = Field(sa_type=BigInteger)
    creation_key: str = Field(sa_type=_OPAQUE)
    creation_digest: bytes | None = Field(sa_type=LargeBinary)


class Owner(SQLModel, table=True):
    """One user's revision. `epoch` is random, made when the row is, and tells one life of the row from the next."""

    # Half-empty pages let the counter's updates stay within their page (heap-only tuples).
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    user_id: str = Field(sa_type=_OPAQUE, primary_key=True)
    revision: int = Field(sa_type=BigInteger)
    epoch: int


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
            raise PydanticCustomError(EMPTY_PATCH, "at least one field must be provided")
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
