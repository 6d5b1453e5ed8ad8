"""The tasks of one user at a time: each function is one statement, and takes the owner first."""

import random
from datetime import datetime
from typing import cast

from taskwell.auth.tokens import UserId
from taskwell.database.interface import Database, Row
from taskwell.errors import DatabaseError, NotFound, Overloaded
from taskwell.tasks import statements
from taskwell.tasks.schemas import TaskCreate, TaskListResponse, TaskPatch, TaskResponse, TaskUpdate
from taskwell.times import rfc3339

# How often a change is tried anew when somebody else writes the same task between its two statements.
MAX_ATTEMPTS = 3


# `MEMBERS`, and then the task's revision, or the count and the user's revision of a page.
_PublicRow = tuple[int, str, str, str | None, bool, datetime, datetime, *tuple[object, ...]]


class TaskRepository:
    """The tasks in `database`. What is not the owner's own is not there."""

    def __init__(self, database: Database) -> None:
        # Of two runs with one key the second makes nothing.
        self._create = database.prepare(statements.create_task, repeatable=True)
        self._get_created = database.prepare(statements.get_created_task)
        self._get = database.prepare(statements.get_task)
        self._change = database.prepare(statements.change_task)
        self._delete = database.prepare(statements.delete_task)
        self._list = database.prepare(statements.list_tasks(by_state=False))
        self._list_by_state = database.prepare(statements.list_tasks(by_state=True))

    async def list(self, owner: UserId, *, complete: bool | None, limit: int, offset: int) -> TaskListResponse:
        """A page of the owner's tasks, newest first, and the number of all that match."""
        if complete is None:
            rows = await self._list(owner=owner, limit=limit, offset=offset)
        else:
            rows = await self._list_by_state(owner=owner, limit=limit, offset=offset, complete=complete)
        *first, count, _ = rows[0]
        # An empty page is one row without a task.
        tasks = [] if first[0] is None else [_task(row) for row in rows]
        return {"tasks": tasks, "count": cast("int", count)}

    async def create(self, owner: UserId, new: TaskCreate) -> TaskResponse:
        """A new task."""
        # Unique, that is all: nothing is guarded by it.
        key = f"{random.getrandbits(128):032x}"
        rows = await self._create(
            owner=owner, creation_key=key, title=new.title, description=new.description, complete=new.complete
        )
        if not rows:
            # Nothing is made by a second run, after the first one's answer was lost.
            try:
                rows = await self._get_created(owner=owner, creation_key=key)
            except Overloaded as problem:
                raise DatabaseError(cause=problem.cause) from problem
        return _task(rows[0])

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
            if values.items() <= task.items():
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
    # The database's own values need no validation, which would cost more than all else of an answer; and written out, this
    # takes half as long as zip(MEMBERS, row).
    task_id, user_id, title, description, complete, created_at, updated_at, *_ = cast("_PublicRow", row)
    return {
        "id": task_id,
        "user_id": user_id,
        "title": title,
        "description": description,
        "complete": complete,
        "created_at": created_at if created_at.microsecond else _whole_second(created_at),
        "updated_at": updated_at if updated_at.microsecond else _whole_second(updated_at),
    }


def _whole_second(moment: datetime) -> datetime:
    # orjson would write no fraction, and texts would no longer sort as times do.
    return cast("datetime", rfc3339(moment))
