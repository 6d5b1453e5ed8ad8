"""The tasks of one user at a time: each function is one statement, and takes the owner first."""

import uuid

from taskwell.auth.tokens import UserId
from taskwell.database.port import Database, Row
from taskwell.errors import NotFound, Overloaded
from taskwell.tasks import statements
from taskwell.tasks.models import TaskCreate, TaskListResponse, TaskPatch, TaskResponse, TaskUpdate

# How often a change is tried anew when somebody else writes the same task between its two statements.
MAX_ATTEMPTS = 3


class TaskRepository:
    """The tasks in `database`. What is not the owner's own is not there."""

    def __init__(self, database: Database) -> None:
        # Of two runs with one key the second makes nothing.
        self._create = database.prepare(statements.create_task, repeatable=True)
        self._get_created = database.prepare(statements.get_created_task)
        self._get = database.prepare(statements.get_task)
        self._change = database.prepare(statements.change_task)
        self._delete = database.prepare(statements.delete_task)
        self._list = database.prepare(statements.list_tasks)
        self._list_by_state = database.prepare(statements.list_tasks_by_state)
        self._count = database.prepare(statements.count_tasks)
        self._count_by_state = database.prepare(statements.count_tasks_by_state)

    async def list(self, owner: UserId, *, complete: bool | None, limit: int, offset: int) -> TaskListResponse:
        """A page of the owner's tasks, newest first, and the number of all that match."""
        page, count, matching = self._list, self._count, {}
        if complete is not None:
            page, count, matching = self._list_by_state, self._count_by_state, {"complete": complete}
        rows = await page(owner=owner, limit=limit, offset=offset, **matching)
        # Only a page past the end brings no row, and so no count, though there are tasks.
        counted = rows or (await count(owner=owner, **matching) if offset else [{"count": 0}])
        return TaskListResponse.model_validate({"tasks": [_members(row) for row in rows], "count": counted[0]["count"]})

    async def create(self, owner: UserId, new: TaskCreate) -> TaskResponse:
        """A new task."""
        key = str(uuid.uuid4())
        rows = await self._create(owner=owner, creation_key=key, **new.model_dump())
        # Nothing is made by a second run, after the first one's answer was lost.
        (row,) = rows or await self._get_created(owner=owner, creation_key=key)
        return _task(row)

    async def get(self, owner: UserId, task_id: int) -> TaskResponse:
        """One task.

        Raises:
            NotFound: the owner has no such task.
        """
        rows = await self._get(owner=owner, id=task_id)
        if not rows:
            raise NotFound("There is no such task.")
        return _task(rows[0])

    async def change(self, owner: UserId, task_id: int, changes: TaskUpdate | TaskPatch) -> TaskResponse:
        """The task with `changes` made; a change that changes nothing is no write.

        Raises:
            NotFound: the owner has no such task.
        """
        values = changes.model_dump()
        parameters = {"title": None, "description": None, "complete": None} | values
        for _ in range(MAX_ATTEMPTS):
            rows = await self._change(owner=owner, id=task_id, sets_description="description" in values, **parameters)
            if rows:
                return _task(rows[0])
            task = await self.get(owner, task_id)
            if values.items() <= task.model_dump().items():
                return task
        raise Overloaded(cause="the task was changed by others between each two statements")

    async def delete(self, owner: UserId, task_id: int) -> None:
        """Deletes a task.

        Raises:
            NotFound: the owner has no such task.
        """
        if not await self._delete(owner=owner, id=task_id):
            raise NotFound("There is no such task.")


def _task(row: Row) -> TaskResponse:
    return TaskResponse.model_validate(_members(row))


def _members(row: Row) -> dict[str, object]:
    return {name: row[name] for name in TaskResponse.model_fields}
