"""The operations of a batch: their schemas, the writes that they are, and their failures."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, NamedTuple, Self, cast

import pydantic
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from taskwell.errors import Gone, NotFound, PreconditionFailed, PreconditionRequired, Problem, UnprocessableRequest
from taskwell.etags import ENTITY_TAGS_PATTERN, NOT_ENTITY_TAGS, EntityTags, MalformedEntityTagsError, Precondition
from taskwell.idempotency import KEY_PATTERN, NOT_A_KEY, MalformedKeyError, parse_key
from taskwell.tasks.schemas import MAX_BIGINT, MAX_OPERATIONS, TaskCreate, TaskPatch, TaskUpdate, without_default
from taskwell.tasks.writes import change_values, creation_values, deletion_values

MAX_BATCH_BYTES = 1024 * 1024

# A batch has many lists of tags, and parsing one takes time.
_MAX_IF_MATCH = 1000

_MAX_MEMBERS = 20

# --- values


def _few_members(value: object) -> object:
    """Returns `value`. A large object is one error: 1 MiB of unknown members would be 100,000, which take a second."""
    if not isinstance(value, dict):
        return value
    members = cast("dict[str, object]", value)
    if len(members) > _MAX_MEMBERS:
        raise PydanticCustomError("too_many_members", "has too many members")
    return members


def _task_id(value: object) -> int:
    # The parser makes floats of integers that do not fit into 64 bits. No task has one; they are "not found", not "wrong".
    if isinstance(value, float) and value.is_integer() and abs(value) > MAX_BIGINT:
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise PydanticCustomError("int_type", "must be an integer")


def _entity_tags(value: object) -> EntityTags:
    try:
        if isinstance(value, str) and len(value) <= _MAX_IF_MATCH:
            return EntityTags(value)
    except MalformedEntityTagsError:
        pass
    raise PydanticCustomError("entity_tags", NOT_ENTITY_TAGS)


def _key(value: object) -> str:
    try:
        if isinstance(value, str):
            return parse_key(value)
    except MalformedKeyError:
        pass
    raise PydanticCustomError("idempotency_key", NOT_A_KEY)


# Null is refused: a client whose variable is null by mistake would lose its protection without noticing.
_IfMatch = Annotated[
    EntityTags | None,
    PlainValidator(_entity_tags),
    WithJsonSchema({"type": "string", "maxLength": _MAX_IF_MATCH, "pattern": ENTITY_TAGS_PATTERN}),
    pydantic.Field(
        description="Do this only if the `etag` of the task is one of these; `*` means any. Otherwise the batch fails.",
        json_schema_extra=without_default,
    ),
]
_Key = Annotated[
    str | None,
    PlainValidator(_key),
    WithJsonSchema({"type": "string", "maxLength": 255, "pattern": KEY_PATTERN}),
    pydantic.Field(
        description="An `Idempotency-Key` for this task: one key creates at most one task of the user.",
        json_schema_extra=without_default,
    ),
]

# --- operations


class _Operation(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CreateOperation(_Operation):
    """Creates a task."""

    op: Literal["create"]
    task: Annotated[TaskCreate, BeforeValidator(_few_members)]
    key: _Key = None

    def parameters(self) -> dict[str, object]:
        """Returns the operation as `taskwell.tasks.writes.apply_batch` takes it."""
        return {"op": "create", **creation_values(self.task, self.key)}


class _OperationOnTask(_Operation):
    id: Annotated[
        int,
        PlainValidator(_task_id),
        WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_BIGINT}),
        pydantic.Field(description="The ID of the task. No other operation of the batch has the same."),
    ]
    if_match: _IfMatch = None

    @property
    def possible_id(self) -> int:
        """The ID, or 0 if no task can have it; no task has 0 either."""
        return self.id if 1 <= self.id <= MAX_BIGINT else 0

    @property
    def precondition(self) -> Precondition:
        """The condition that the task must meet."""
        return Precondition(None if self.if_match is None or self.if_match.is_any else self.if_match.revisions())


class ReplaceOperation(_OperationOnTask):
    """Replaces all writable members of a task."""

    op: Literal["replace"]
    task: Annotated[TaskUpdate, BeforeValidator(_few_members)]

    def parameters(self) -> dict[str, object]:
        """Returns the operation as `taskwell.tasks.writes.apply_batch` takes it."""
        return {"op": "change", **change_values(self.possible_id, self.task, self.precondition)}


class PatchOperation(_OperationOnTask):
    """Changes only the members that are sent."""

    op: Literal["patch"]
    task: Annotated[TaskPatch, BeforeValidator(_few_members)]

    def parameters(self) -> dict[str, object]:
        """Returns the operation as `taskwell.tasks.writes.apply_batch` takes it."""
        return {"op": "change", **change_values(self.possible_id, self.task, self.precondition)}


class DeleteOperation(_OperationOnTask):
    """Deletes a task. A task that is deleted already stays as it is, whatever `if_match` says."""

    op: Literal["delete"]

    def parameters(self) -> dict[str, object]:
        """Returns the operation as `taskwell.tasks.writes.apply_batch` takes it."""
        return {"op": "delete", **deletion_values(self.possible_id, self.precondition)}


Operation = CreateOperation | ReplaceOperation | PatchOperation | DeleteOperation


class BatchRequest(BaseModel):
    """Operations that are applied in this order, all or none. Each is on another task."""

    model_config = ConfigDict(extra="forbid")

    operations: Annotated[
        list[Annotated[Operation, Discriminator("op"), BeforeValidator(_few_members)]],
        pydantic.Field(min_length=1, max_length=MAX_OPERATIONS),
    ]

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, data: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            batch = handler(_few_members(data))
        except ValidationError as error:
            raise ValidationError.from_exception_data(cls.__name__, _located_as_sent(error)) from None
        if repeated := _repeated_ids(batch.operations):
            raise ValidationError.from_exception_data(cls.__name__, repeated)
        return batch


def _repeated_ids(operations: Sequence[Operation]) -> list[InitErrorDetails]:
    """Returns an error for each operation on a task that an earlier one is on."""
    ids = [None if isinstance(operation, CreateOperation) else operation.id for operation in operations]
    repeated = PydanticCustomError("repeated_id", "must not be that of an earlier operation")
    return [
        {"type": repeated, "loc": ("operations", index, "id"), "input": None}
        for index, task_id in enumerate(ids)
        if task_id is not None and task_id in ids[:index]
    ]


def _located_as_sent(error: ValidationError) -> list[InitErrorDetails]:
    """Returns the errors of a batch with their places in the JSON."""
    return [_as_sent(one) for one in error.errors(include_url=False, include_context=False, include_input=False)]


def _as_sent(error: ErrorDetails) -> InitErrorDetails:
    # Behind the index, pydantic adds the value of `op` to the place. If it knows no such value, it repeats it instead.
    index, rest, msg = error["loc"][:2], error["loc"][3:], error["msg"]
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        rest, msg = ("op",), 'must be "create", "replace", "patch" or "delete"'
    kind = PydanticCustomError(error["type"], msg)  # pyright: ignore[reportArgumentType]
    return {"type": kind, "loc": (*index, *rest), "input": None}


# --- failures


class _Failure(NamedTuple):
    member: str
    kind: str
    msg: str


_FAILURES: Mapping[type[Problem], _Failure] = {
    NotFound: _Failure("id", "not_found", "there is no such task"),
    Gone: _Failure("key", "gone", "the task that this key created was deleted; send a new key to create another one"),
    UnprocessableRequest: _Failure(
        "key", "idempotency_key_reused", "was used before, to create a task with other values; send a new key"
    ),
    PreconditionFailed: _Failure(
        "if_match",
        "precondition_failed",
        "the task has another ETag; the member current and the header ETag show it as it is",
    ),
    PreconditionRequired: _Failure(
        "if_match",
        "precondition_required",
        "is required; send the ETag of the task that you read, or * for any version",
    ),
}


def in_operation(problem: Problem, index: int) -> Problem:
    """Returns `problem` as the failure of the operation at `index`, with its place in the request."""
    member, kind, msg = _FAILURES[type(problem)]
    problem.detail = f"operations {index} {member}: {msg}"
    problem.violations = [{"loc": ["body", "operations", index, member], "msg": msg, "type": kind}]
    if isinstance(problem, PreconditionFailed):
        problem.current = {**problem.current, "etag": problem.etag}
    return problem


def require_if_match(operations: Sequence[Operation]) -> None:
    """Refuses operations without a condition.

    Raises:
        PreconditionRequired: an operation replaces, patches or deletes a task without `if_match`.
    """
    for index, operation in enumerate(operations):
        if not isinstance(operation, CreateOperation) and operation.if_match is None:
            raise in_operation(PreconditionRequired(), index)
