"""The task endpoints."""

from typing import Annotated, TypedDict

from fastapi import APIRouter, Body, Depends, Path, Request, Response

from taskwell.auth.owner import Owner
from taskwell.etags import Precondition, task_etag
from taskwell.http.conditions import (
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    IfNoneMatchOnWrite,
    NotModified,
    precondition,
    unless_known,
)
from taskwell.http.endpoint import Endpoint, add_header
from taskwell.http.parameters import RowId
from taskwell.http.segments import path_segment, public_path
from taskwell.state import FromState
from taskwell.tasks import openapi
from taskwell.tasks.listing import Listed
from taskwell.tasks.repository import Created, Stored, TaskRepository
from taskwell.tasks.schemas import TaskCreate, TaskListResponse, TaskPatch, TaskResponse, TaskUpdate


class State(TypedDict):
    """The part of the lifespan's state that these functions need."""

    tasks: TaskRepository
    require_if_match: bool


router = APIRouter(prefix="/api/{user_id:segment}/tasks", tags=["tasks"], route_class=Endpoint)


async def _precondition(
    request: Request, if_match: IfMatch = None, if_none_match: IfNoneMatchOnWrite = None
) -> Precondition:
    state: State = request.scope["state"]
    return precondition(if_match, if_none_match, required=state["require_if_match"])


Tasks = Annotated[TaskRepository, Depends(FromState("tasks"))]
IfUnchanged = Annotated[Precondition, Depends(_precondition)]
TaskId = Annotated[RowId, Path(description="The ID of the task.")]


@router.get("", response_model=TaskListResponse, responses=openapi.ON_LIST, response_description="A page of tasks.")
async def list_tasks(
    owner: Owner, tasks: Tasks, listed: Listed, response: Response, if_none_match: IfNoneMatch = None
) -> TaskListResponse | NotModified:
    """Lists the user's tasks, newest first unless `sort` says otherwise."""
    stored = await tasks.list(owner, listed.page, listed.known(if_none_match))
    return listed.answer(owner, stored, response)


@router.post(
    "",
    status_code=201,
    responses=openapi.ON_CREATE,
    response_description="The new task, or the one that the same request created before.",
)
async def create_task(
    owner: Owner,
    tasks: Tasks,
    new: Annotated[TaskCreate, Body(openapi_examples=openapi.CREATE)],
    request: Request,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> TaskResponse:
    """Creates a task.

    With an `Idempotency-Key`, the request can be repeated: the response is then the task that it created the first
    time, as it is now.
    """
    created = await tasks.create(owner, new, idempotency_key)
    location = public_path(request.scope, f"/api/{path_segment(owner)}/tasks/{created.task['id']}")
    add_header(response, b"location", location)
    return _created(created, response)


@router.get(
    "/{task_id:segment}",
    response_model=TaskResponse,
    responses=openapi.ON_GET,
    response_description="The task.",
)
async def get_task(
    owner: Owner, tasks: Tasks, task_id: TaskId, response: Response, if_none_match: IfNoneMatch = None
) -> TaskResponse | NotModified:
    """Returns one task."""
    task, revision = await tasks.get(owner, task_id)
    return unless_known(task, task_etag(revision), if_none_match, response)


@router.put("/{task_id:segment}", responses=openapi.ON_REPLACE, response_description="The task after the change.")
async def replace_task(
    owner: Owner,
    tasks: Tasks,
    task_id: TaskId,
    replacement: Annotated[TaskUpdate, Body(openapi_examples=openapi.REPLACE)],
    if_unchanged: IfUnchanged,
    response: Response,
) -> TaskResponse:
    """Replaces all writable members of a task.

    You can send back a task from a response, with changes: read-only members are ignored.
    """
    return written(await tasks.change(owner, task_id, replacement, if_unchanged), response)


@router.patch("/{task_id:segment}", responses=openapi.ON_PATCH, response_description="The task after the change.")
async def patch_task(
    owner: Owner,
    tasks: Tasks,
    task_id: TaskId,
    changes: Annotated[TaskPatch, Body(openapi_examples=openapi.PATCH)],
    if_unchanged: IfUnchanged,
    response: Response,
) -> TaskResponse:
    """Changes only the members that are sent; the others keep their value (a JSON Merge Patch, RFC 7396)."""
    return written(await tasks.change(owner, task_id, changes, if_unchanged), response)


@router.delete(
    "/{task_id:segment}",
    status_code=204,
    response_class=Response,
    responses=openapi.ON_DELETE,
    response_description="The task is deleted.",
)
async def delete_task(
    owner: Owner, tasks: Tasks, task_id: TaskId, if_unchanged: IfUnchanged, response: Response
) -> None:
    """Deletes a task."""
    deleted = await tasks.delete(owner, task_id, if_unchanged)
    add_header(response, b"taskwell-revision", str(deleted.revision))


def _created(created: Created, response: Response) -> TaskResponse:
    if created.replayed:
        add_header(response, b"idempotency-replayed", "true")
    return written(created, response)


def written(stored: Stored | Created, response: Response) -> TaskResponse:
    """Returns the task of a write, and adds the headers that tell its version."""
    add_header(response, b"etag", task_etag(stored.revision))
    add_header(response, b"taskwell-revision", str(stored.revision))
    return stored.task
