"""The tasks of one user at a time. Each method runs one statement and takes the owner first."""

import random
from datetime import datetime
from typing import NamedTuple, cast

from taskwell.auth.tokens import UserId
from taskwell.database.interface import Database, Row
from taskwell.errors import DatabaseError, NotFound, Overloaded
from taskwell.tasks import statements
from taskwell.tasks.schemas import TaskCreate, TaskListResponse, TaskPatch, TaskResponse, TaskUpdate
from taskwell.times import rfc3339

# How often a change is tried, if each time another request writes the same task between the change's two statements.
MAX_ATTEMPTS = 3

# The columns of `MEMBERS`, then those that only the service uses.
_PublicRow = tuple[int, str, str, str | None, bool, datetime, datetime, *tuple[object, ...]]


class Stored(NamedTuple):
    """A task, and the revision of its last change."""

    task: TaskResponse
    revision: int


class StoredPage(NamedTuple):
    """A page of tasks, and the owner's revision in the same snapshot; 0 before the owner's first write."""

    page: TaskListResponse
    revision: int


class TaskRepository:
    """The tasks in `database`. Tasks of other users do not exist here."""

    def __init__(self, database: Database) -> None:
        # Repeatable, because a second run with the same creation key creates nothing.
        self._create = database.prepare(statements.create_task, repeatable=True)
        self._get_created = database.prepare(statements.get_created_task)
        self._get = database.prepare(statements.get_task)
        self._change = database.prepare(statements.change_task)
        self._delete = database.prepare(statements.delete_task)
        self._list = database.prepare(statements.list_tasks(by_state=False))
        self._list_by_state = database.prepare(statements.list_tasks(by_state=True))

    async def list(self, owner: UserId, *, complete: bool | None, limit: int, offset: int) -> StoredPage:
        """Returns a page of the owner's tasks, newest first, and the number of all tasks that match."""
        if complete is None:
            rows = await self._list(owner=owner, limit=limit, offset=offset)
        else:
            rows = await self._list_by_state(owner=owner, limit=limit, offset=offset, complete=complete)
        task_id, *_, count, revision = rows[0]
        # An empty page is one row without a task.
        tasks = [_task(row) for row in rows] if task_id is not None else []
        return StoredPage({"tasks": tasks, "count": cast("int", count)}, cast("int", revision))

    async def create(self, owner: UserId, new: TaskCreate) -> Stored:
        """Creates a task."""
        # The key need not be secret, only unique.
        key = f"{random.getrandbits(128):032x}"
        rows = await self._create(
            owner=owner, creation_key=key, title=new.title, description=new.description, complete=new.complete
        )
        if not rows:
            # The reply to the first run was lost, and the second run created nothing.
            try:
                rows = await self._get_created(owner=owner, creation_key=key)
            except Overloaded as problem:
                # The task exists, so the error must not say that nothing was done.
                raise DatabaseError(cause=problem.cause) from problem
        return _stored(rows[0])

    async def get(self, owner: UserId, task_id: int) -> Stored:
        """Returns a task.

        Raises:
            NotFound: the owner has no such task.
        """
        rows = await self._get(owner=owner, id=task_id)
        if not rows:
            raise NotFound("There is no such task.")
        return _stored(rows[0])

    async def change(self, owner: UserId, task_id: int, changes: TaskUpdate | TaskPatch) -> Stored:
        """Changes a task and returns it. A change to the values that the task already has is not a write.

        Raises:
            NotFound: the owner has no such task.
        """
        values = changes.model_dump()
        parameters = {"title": None, "description": None, "complete": None} | values
        for _ in range(MAX_ATTEMPTS):
            rows = await self._change(owner=owner, id=task_id, sets_description="description" in values, **parameters)
            if rows:
                return _stored(rows[0])
            stored = await self.get(owner, task_id)
            if values.items() <= stored.task.items():
                return stored
        raise Overloaded(cause=f"in {MAX_ATTEMPTS} attempts, another request changed the task at the same time")

    async def delete(self, owner: UserId, task_id: int) -> Stored:
        """Deletes a task. Returns it with the revision of the deletion.

        Raises:
            NotFound: the owner has no such task.
        """
        rows = await self._delete(owner=owner, id=task_id)
        if not rows:
            raise NotFound("There is no such task.")
        return _stored(rows[0])


def _stored(row: Row) -> Stored:
    return Stored(_task(row), cast("int", row[-1]))


def _task(row: Row) -> TaskResponse:
    # Not validated: the values come from our own database, and validation would cost more than the rest of a response.
    # Written out, because zip(MEMBERS, row) takes twice as long.
    task_id, user_id, title, description, complete, created_at, updated_at, *_ = cast("_PublicRow", row)
    return {
        "id": task_id,
        "user_id": user_id,
        "title": title,
        "description": description,
        "complete": complete,
        # orjson writes no fraction for a whole second, and then timestamps would not sort correctly as text.
        "created_at": created_at if created_at.microsecond else rfc3339(created_at),
        "updated_at": updated_at if updated_at.microsecond else rfc3339(updated_at),
    }
