"""The six endpoints."""

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from taskwell.auth.owner import AUTH_PROBLEMS, Owner, authenticate
from taskwell.errors import (
    DatabaseError,
    InternalError,
    MalformedRequest,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    Problem,
    RequestTimeout,
    UnprocessableRequest,
    UnsupportedMediaType,
)
from taskwell.http.parameters import Boolean, Integer, RowId
from taskwell.http.problems import openapi_responses
from taskwell.http.route import GuardedRoute
from taskwell.tasks.models import TaskCreate, TaskListResponse, TaskPatch, TaskResponse, TaskUpdate
from taskwell.tasks.repository import TaskRepository

MAX_LIMIT = 1000
MAX_OFFSET = 2**31 - 1

_ALWAYS: list[type[Problem]] = [*AUTH_PROBLEMS, DatabaseError, InternalError, Overloaded]
_WITH_BODY: list[type[Problem]] = [MalformedRequest, RequestTimeout, PayloadTooLarge, UnsupportedMediaType]
_ON_LIST = openapi_responses([UnprocessableRequest, *_ALWAYS])
_ON_CREATE = openapi_responses([UnprocessableRequest, *_ALWAYS, *_WITH_BODY])
_ON_TASK = openapi_responses([UnprocessableRequest, *_ALWAYS, NotFound])
_ON_CHANGE = openapi_responses([UnprocessableRequest, *_ALWAYS, NotFound, *_WITH_BODY])


class TaskRoute(GuardedRoute):
    """A route under a user's path."""

    async def guard(self, request: Request) -> None:
        await authenticate(request)


router = APIRouter(prefix="/api/{user_id:segment}/tasks", tags=["tasks"], route_class=TaskRoute)


def _repository(request: Request) -> TaskRepository:
    tasks: TaskRepository = request.state.tasks
    return tasks


Tasks = Annotated[TaskRepository, Depends(_repository)]
TaskId = Annotated[RowId, Path(description="The task's id.")]


@router.get("", responses=_ON_LIST)
async def list_tasks(
    owner: Owner,
    tasks: Tasks,
    complete: Annotated[Boolean | None, Query(description="Only tasks in this state.")] = None,
    limit: Annotated[Integer, Query(ge=1, le=MAX_LIMIT, description="At most so many tasks.")] = MAX_LIMIT,
    offset: Annotated[Integer, Query(ge=0, le=MAX_OFFSET, description="So many tasks are passed over.")] = 0,
) -> TaskListResponse:
    """The user's tasks, newest first."""
    return await tasks.list(owner, complete=complete, limit=limit, offset=offset)


@router.post("", status_code=201, responses=_ON_CREATE)
async def create_task(owner: Owner, tasks: Tasks, new: TaskCreate, response: Response) -> TaskResponse:
    """Creates a task."""
    task = await tasks.create(owner, new)
    response.headers["Location"] = f"/api/{quote(owner, safe='')}/tasks/{task.id}"
    return task


@router.get("/{task_id:segment}", responses=_ON_TASK)
async def get_task(owner: Owner, tasks: Tasks, task_id: TaskId) -> TaskResponse:
    """One task."""
    return await tasks.get(owner, task_id)


@router.put("/{task_id:segment}", responses=_ON_CHANGE)
async def replace_task(owner: Owner, tasks: Tasks, task_id: TaskId, replacement: TaskUpdate) -> TaskResponse:
    """Replaces all writable members of a task. Send back what you got, changed; read-only members are ignored."""
    return await tasks.change(owner, task_id, replacement)


@router.patch("/{task_id:segment}", responses=_ON_CHANGE)
async def patch_task(owner: Owner, tasks: Tasks, task_id: TaskId, changes: TaskPatch) -> TaskResponse:
    """Changes only the members that are sent."""
    return await tasks.change(owner, task_id, changes)


@router.delete("/{task_id:segment}", status_code=204, response_class=Response, responses=_ON_TASK)
async def delete_task(owner: Owner, tasks: Tasks, task_id: TaskId) -> None:
    """Deletes a task."""
    await tasks.delete(owner, task_id)
