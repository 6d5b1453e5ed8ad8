"""The task endpoints."""

from typing import Annotated, TypedDict

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response
from pydantic import Field

from taskwell.auth.owner import Owner
from taskwell.http.endpoint import Endpoint
from taskwell.http.parameters import Boolean, DecimalDigits, RowId
from taskwell.http.segments import path_segment, public_path
from taskwell.tasks import openapi
from taskwell.tasks.repository import TaskRepository
from taskwell.tasks.schemas import MAX_LIMIT, TaskCreate, TaskListResponse, TaskPatch, TaskResponse, TaskUpdate

MAX_OFFSET = 2**31 - 1


class State(TypedDict):
    """The part of the lifespan's state that these functions need."""

    tasks: TaskRepository


router = APIRouter(prefix="/api/{user_id:segment}/tasks", tags=["tasks"], route_class=Endpoint)


async def _repository(request: Request) -> TaskRepository:
    state: State = request.scope["state"]
    return state["tasks"]


Tasks = Annotated[TaskRepository, Depends(_repository)]
TaskId = Annotated[RowId, Path(description="The ID of the task.")]


@router.get("", responses=openapi.ON_LIST, response_description="A page of tasks.")
async def list_tasks(
    owner: Owner,
    tasks: Tasks,
    complete: Annotated[Boolean, Query(description="Return only complete tasks, or only incomplete ones.")] = None,
    limit: Annotated[
        int, Field(ge=1, le=MAX_LIMIT), DecimalDigits, Query(description="Maximum number of tasks to return.")
    ] = MAX_LIMIT,
    offset: Annotated[
        int, Field(ge=0, le=MAX_OFFSET), DecimalDigits, Query(description="Number of tasks to skip.")
    ] = 0,
) -> TaskListResponse:
    """Lists the user's tasks, newest first."""
    return (await tasks.list(owner, complete=complete, limit=limit, offset=offset)).page


@router.post("", status_code=201, responses=openapi.ON_CREATE, response_description="The new task.")
async def create_task(
    owner: Owner,
    tasks: Tasks,
    new: Annotated[TaskCreate, Body(openapi_examples=openapi.CREATE)],
    request: Request,
    response: Response,
) -> TaskResponse:
    """Creates a task."""
    task, _ = await tasks.create(owner, new)
    response.headers["Location"] = public_path(request.scope, f"/api/{path_segment(owner)}/tasks/{task['id']}")
    return task


@router.get("/{task_id:segment}", responses=openapi.ON_GET, response_description="The task.")
async def get_task(owner: Owner, tasks: Tasks, task_id: TaskId) -> TaskResponse:
    """Returns one task."""
    return (await tasks.get(owner, task_id)).task


@router.put("/{task_id:segment}", responses=openapi.ON_REPLACE, response_description="The task after the change.")
async def replace_task(
    owner: Owner,
    tasks: Tasks,
    task_id: TaskId,
    replacement: Annotated[TaskUpdate, Body(openapi_examples=openapi.REPLACE)],
) -> TaskResponse:
    """Replaces all writable members of a task.

    You can send back a task from a response, with changes: read-only members are ignored.
    """
    return (await tasks.change(owner, task_id, replacement)).task


@router.patch("/{task_id:segment}", responses=openapi.ON_PATCH, response_description="The task after the change.")
async def patch_task(
    owner: Owner,
    tasks: Tasks,
    task_id: TaskId,
    changes: Annotated[TaskPatch, Body(openapi_examples=openapi.PATCH)],
) -> TaskResponse:
    """Changes only the members that are sent; the others keep their value."""
    return (await tasks.change(owner, task_id, changes)).task


@router.delete(
    "/{task_id:segment}",
    status_code=204,
    response_class=Response,
    responses=openapi.ON_DELETE,
    response_description="The task is deleted.",
)
async def delete_task(owner: Owner, tasks: Tasks, task_id: TaskId) -> None:
    """Deletes a task."""
    await tasks.delete(owner, task_id)
