"""The endpoints that act on many tasks at once: batches, and the erasure of a user."""

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import Field

from taskwell.auth.owner import Owner
from taskwell.auth.tokens import UserId
from taskwell.http.endpoint import Endpoint, add_header
from taskwell.http.error_responses import invalid_parameter
from taskwell.tasks import openapi
from taskwell.tasks.operations import (
    MAX_BATCH_BYTES,
    BatchRequest,
    CreateOperation,
    DeleteOperation,
    Operation,
    require_if_match,
)
from taskwell.tasks.repository import Stored, versioned
from taskwell.tasks.routes import State, Tasks
from taskwell.tasks.schemas import BatchResponse, OperationResult

router = APIRouter(prefix="/api/{user_id:segment}", route_class=Endpoint)

Confirmation = Annotated[
    str,
    Field(min_length=1, max_length=255),
    Query(
        description="The `user_id` of the path once more, so that nobody erases by accident.", examples=["user_abc123"]
    ),
]


@router.post(
    "/tasks/batch",
    tags=["tasks"],
    max_body_size=MAX_BATCH_BYTES,
    responses=openapi.ON_BATCH,
    response_description="The result of each operation, in the same order.",
)
async def apply_batch(
    owner: Owner,
    tasks: Tasks,
    batch: Annotated[BatchRequest, Body(openapi_examples=openapi.BATCH)],
    request: Request,
    response: Response,
) -> BatchResponse:
    """Applies up to 100 operations in their order, all or none.

    If one fails, the response is its error, `errors` names it, and nothing is changed. If every `create` has a `key`, the
    batch can be sent again.
    """
    _check_conditions(batch, request)
    return _response(batch.operations, await tasks.apply_batch(owner, batch.operations), response)


@router.delete(
    "",
    tags=["account"],
    status_code=204,
    response_class=Response,
    responses=openapi.ON_ERASE,
    response_description="Nothing is left.",
)
async def erase_user(owner: Owner, tasks: Tasks, confirm: Confirmation) -> None:
    """Erases all data of the user for good: tasks, the trash, keys and the revision.

    The request can be repeated. Afterwards, the user can create tasks again, from revision 1.
    """
    _check_confirmation(owner, confirm)
    await tasks.erase(owner)


def _check_conditions(batch: BatchRequest, request: Request) -> None:
    state: State = request.scope["state"]
    if state["require_if_match"]:
        require_if_match(batch.operations)


def _response(operations: Sequence[Operation], stored: Sequence[Stored], response: Response) -> BatchResponse:
    add_header(response, b"taskwell-revision", str(max(one.revision for one in stored)))
    return {"results": [_result(*pair) for pair in zip(operations, stored, strict=True)]}


def _result(operation: Operation, stored: Stored) -> OperationResult:
    if isinstance(operation, DeleteOperation):
        return {"status": 204, "task": None}
    return {"status": 201 if isinstance(operation, CreateOperation) else 200, "task": versioned(stored)}


def _check_confirmation(owner: UserId, confirm: str) -> None:
    if confirm != owner:
        raise invalid_parameter("confirm", "must be the user_id of the path", "confirmation")
