"""The tasks of one user at a time. Each method is one round trip and takes the owner first."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, cast

import orjson

from taskwell.auth.tokens import UserId
from taskwell.database.interface import Preparing, Query, Row
from taskwell.errors import Gone, NotFound, PreconditionFailed, Problem, UnprocessableRequest
from taskwell.etags import ANY_STATE, ListState, Precondition, task_etag
from taskwell.tasks import statements, writes
from taskwell.tasks.operations import Operation, in_operation
from taskwell.tasks.schemas import (
    MAX_LIMIT,
    MEMBERS,
    DeletedTask,
    ExportedTask,
    TaskCreate,
    TaskListResponse,
    TaskPatch,
    TaskResponse,
    TaskUpdate,
    TrashedTask,
    TrashResponse,
    VersionedTask,
)
from taskwell.tasks.statements import PageShape, Sort
from taskwell.tasks.writes import FAILURES, Outcome, change_values, creation_values, deletion_values
from taskwell.times import rfc3339

# The places of further columns in a row, behind those of `MEMBERS`.
_REVISION, _DELETED_AT = len(MEMBERS), len(MEMBERS) + 1

# An export is in the order of the negated ids. This is below all of them.
_BEFORE_ALL = -(2**63)

# The columns of `MEMBERS`, then those that only the service uses.
_PublicRow = tuple[int, str, str, str | None, bool, datetime, datetime, *tuple[object, ...]]


class Stored(NamedTuple):
    """A task, and the revision of its last change."""

    task: TaskResponse
    revision: int


class Created(NamedTuple):
    """A new task; or, if `replayed`, the task that the same request created before, as it is now."""

    task: TaskResponse
    revision: int
    replayed: bool


class Position(NamedTuple):
    """A place in a list: after the task with this id, whose sort value is `value`."""

    value: datetime | str | None
    id: int


class Page(NamedTuple):
    """Which tasks a list shows. It begins after `after`, or skips `offset` tasks."""

    complete: bool | None = None
    q: str | None = None
    sort: Sort | None = None
    limit: int = MAX_LIMIT
    offset: int = 0
    after: Position | None = None


class StoredPage(NamedTuple):
    """A page of tasks, the state that it was read in, and where the next page begins, if there is one.

    The page is None if the client knows this state already.
    """

    page: TaskListResponse | None
    state: ListState
    following: Position | None


class TrashPage(NamedTuple):
    """A page of the trash, and the revision after which the next page begins, if there is one."""

    page: TrashResponse
    following: int | None


class Deletion(NamedTuple):
    """A deleted task, when it was deleted, and the revision of that."""

    task_id: int
    deleted_at: datetime
    revision: int


Change = Stored | Deletion
"""The last change of a task: the task as it is now, or its deletion."""


class StoredChanges(NamedTuple):
    """Changes, the oldest first. With them, a copy has reached `state`."""

    changes: Sequence[Change]
    state: ListState
    has_more: bool


class TaskRepository:
    """The tasks in `database`. Tasks of other users do not exist here."""

    def __init__(self, database: Preparing) -> None:
        self._database = database
        self._create = database.prepare_write(writes.create_task)
        self._change = database.prepare_write(writes.change_task)
        self._delete = database.prepare_write(writes.delete_task)
        self._restore = database.prepare_write(writes.restore_task)
        self._apply_batch = database.prepare_write(writes.apply_batch)
        self._erase = database.prepare_write(writes.erase_owner)
        self._get = database.prepare(statements.get_task)
        self._get_state = database.prepare(statements.get_state)
        self._trash, self._trash_after = (
            database.prepare(statements.list_trash(follows=follows)) for follows in (False, True)
        )
        self._changes = database.prepare(statements.list_changes)
        self._export_page = database.prepare(statements.export_page)
        self._lists: dict[PageShape, Query] = {}

    async def list(self, owner: UserId, page: Page, known: ListState | None = None) -> StoredPage:
        """Returns a page of the owner's tasks, and the number of all tasks that match.

        If nothing has changed since the state `known`, or if `known` is `ANY_STATE`, returns no page and reads no task.
        """
        if known is ANY_STATE:
            return StoredPage(None, await self.state(owner), None)
        parameters: dict[str, object] = {"complete": page.complete, "q": page.q, "offset": page.offset}
        if page.after:
            parameters |= {"after_value": page.after.value, "after_id": page.after.id}
        if known:
            parameters |= {"known_revision": known.revision, "known_epoch": known.epoch}
        # One more than shown, to see whether another page follows.
        rows = await self._list(page, known)(owner=owner, limit=page.limit + 1, **parameters)
        task_id, *_, count, revision, epoch = rows[0]
        state = ListState(cast("int", revision), cast("int", epoch))
        if count is None:
            return StoredPage(None, state, None)
        # An empty page is one row without a task.
        shown = rows[: page.limit if task_id is not None else 0]
        following = _position(shown[-1], page.sort) if len(rows) > page.limit else None
        return StoredPage({"tasks": [_task(row) for row in shown], "count": cast("int", count)}, state, following)

    def _list(self, page: Page, known: ListState | None) -> Query:
        shape = PageShape(
            by_state=page.complete is not None,
            search=page.q is not None,
            sort=page.sort,
            follows=page.after is not None,
            unless_known=known is not None,
        )
        if shape not in self._lists:
            self._lists[shape] = self._database.prepare(statements.list_tasks(shape))
        return self._lists[shape]

    async def state(self, owner: UserId) -> ListState:
        """Returns the state of the owner's tasks."""
        ((revision, epoch),) = await self._get_state(owner=owner)
        return ListState(cast("int", revision), cast("int", epoch))

    async def changes(self, owner: UserId, since: ListState, limit: int) -> StoredChanges:
        """Returns what has changed since the state `since`, at most `limit` tasks and deletions.

        Raises:
            Gone: the owner's tasks have never been in this state.
        """
        # One more than shown, to see whether another page follows.
        rows = await self._changes(owner=owner, since=since.revision, limit=limit + 1)
        task_id, *_, revision, epoch = rows[0]
        state = ListState(cast("int", revision), cast("int", epoch))
        if not has_been(since, state):
            raise outdated_token()
        # An empty page is one row without a task.
        shown = rows[: limit if task_id is not None else 0]
        has_more = len(rows) > limit
        return StoredChanges(
            [change_in(row) for row in shown],
            ListState(cast("int", shown[-1][_REVISION]), state.epoch) if has_more else state,
            has_more,
        )

    async def get(self, owner: UserId, task_id: int) -> Stored:
        """Returns a task.

        Raises:
            NotFound: the owner has no such task.
        """
        rows = await self._get(owner=owner, id=task_id)
        if not rows:
            raise _not_found()
        return _stored(rows[0])

    async def create(self, owner: UserId, new: TaskCreate, key: str | None = None) -> Created:
        """Creates a task. With `key`, the same request creates only one task, however often it is sent.

        Raises:
            UnprocessableRequest: the owner has used this key for other values.
            Gone: the task that this key created was deleted.
        """
        rows = await self._create(owner=owner, **creation_values(new, key))
        if key is None:
            # If the creation was repeated because its reply was lost, the outcome can be "replayed" or "gone". Both
            # mean that this call created the task.
            return Created(*_stored(rows[0]), replayed=False)
        return Created(*_outcome(rows[0]), replayed=rows[0][-1] == "replayed")

    async def change(
        self, owner: UserId, task_id: int, changes: TaskUpdate | TaskPatch, precondition: Precondition
    ) -> Stored:
        """Changes a task and returns it. A change to the values that the task already has is not a write.

        Raises:
            NotFound: the owner has no such task.
            PreconditionFailed: the task is not as `precondition` demands.
        """
        rows = await self._change(owner=owner, **change_values(task_id, changes, precondition))
        return _outcome(rows[0])

    async def delete(self, owner: UserId, task_id: int, precondition: Precondition) -> Stored:
        """Deletes a task. Returns it with the revision of the deletion.

        Raises:
            NotFound: the owner has no such task.
            PreconditionFailed: the task is not as `precondition` demands.
        """
        rows = await self._delete(owner=owner, **deletion_values(task_id, precondition))
        return _outcome(rows[0])

    async def list_trash(self, owner: UserId, limit: int, after: int | None = None) -> TrashPage:
        """Returns a page of the owner's trash, and the number of all tasks in it.

        With `after`, it begins after the deletion with that revision.
        """
        # One more than shown, to see whether another page follows.
        if after is None:
            rows = await self._trash(owner=owner, limit=limit + 1)
        else:
            rows = await self._trash_after(owner=owner, limit=limit + 1, after_revision=after)
        # An empty page is one row without a task.
        shown = rows[: limit if rows[0][0] is not None else 0]
        following = _stored(shown[-1]).revision if len(rows) > limit else None
        return TrashPage({"tasks": [_trashed(row) for row in shown], "count": cast("int", rows[0][-1])}, following)

    async def restore(self, owner: UserId, task_id: int) -> Stored:
        """Restores a deleted task and returns it. A task that is not deleted stays as it is.

        Raises:
            NotFound: the owner has no such task, or it is erased.
        """
        rows = await self._restore(owner=owner, id=task_id)
        return _outcome(rows[0])

    async def export_page(self, owner: UserId, limit: int, before: int | None = None) -> Sequence[ExportedTask]:
        """Returns at most `limit` of the owner's tasks, newest first, those in the trash included.

        With `before`, they are older than the task with that id.
        """
        rows = await self._export_page(owner=owner, limit=limit, after=_BEFORE_ALL if before is None else -before)
        return [_exported(row) for row in rows]

    async def apply_batch(self, owner: UserId, operations: Sequence[Operation]) -> Sequence[Stored]:
        """Applies all operations in their order, or none. Returns the task of each, a deleted one as `delete` does.

        The deletion of a task that is deleted already is not a write.

        Raises:
            NotFound, Gone, PreconditionFailed, UnprocessableRequest: an operation failed; `violations` says which.
        """
        parameters = orjson.dumps([operation.parameters() for operation in operations], default=bytes.hex)
        rows = await self._apply_batch(owner=owner, operations=parameters.decode())
        if rows[-1][-1] in FAILURES:
            raise in_operation(_failure(rows[-1]), len(rows) - 1)
        return [_stored(row) for row in rows]

    async def erase(self, owner: UserId) -> None:
        """Erases everything about the owner, for good: tasks, the trash, keys, and the revision."""
        await self._erase(owner=owner)


def _outcome(row: Row) -> Stored:
    """Returns the task of a write's row, or raises the error that its outcome means."""
    if row[-1] in FAILURES:
        raise _failure(row)
    return _stored(row)


def _failure(row: Row) -> Problem:
    outcome = cast("Outcome", row[-1])
    if outcome == "missing":
        return _not_found()
    if outcome == "gone":
        return Gone()
    if outcome == "other_values":
        return reused_key()
    stored = _stored(row)
    return PreconditionFailed(stored.task, task_etag(stored.revision))


def reused_key() -> UnprocessableRequest:
    """Returns the problem for an `Idempotency-Key` that has created a task with other values."""
    msg = "was used before, to create a task with other values; send a new key"
    return UnprocessableRequest(
        f"header Idempotency-Key: {msg}",
        [{"loc": ["header", "Idempotency-Key"], "msg": msg, "type": "idempotency_key_reused"}],
    )


def outdated_token() -> Gone:
    """Returns the problem for a token that names no state of the owner's tasks in their present history."""
    return Gone("This token is no longer valid, or it is another user's. Discard your copy and start without a token.")


def has_been(since: ListState, state: ListState) -> bool:
    """Returns whether tasks that are in `state` now have been in the state `since`."""
    # The epoch is random and set with the first write. Before that all histories are the same: there are no tasks.
    return since.revision == 0 or (since.epoch == state.epoch and since.revision <= state.revision)


def _not_found() -> NotFound:
    return NotFound("There is no such task.")


def _position(row: Row, sort: Sort | None) -> Position:
    value = row[MEMBERS.index(sort.removeprefix("-"))] if sort else None
    return Position(cast("datetime | str | None", value), cast("int", row[0]))


def change_in(row: Row) -> Change:
    """Returns the change in a row that has a task, its revision and `deleted_at`."""
    stored = _stored(row)
    deleted_at = cast("datetime | None", row[_DELETED_AT])
    return stored if deleted_at is None else Deletion(stored.task["id"], deleted_at, stored.revision)


def _stored(row: Row) -> Stored:
    return Stored(_task(row), cast("int", row[_REVISION]))


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


def versioned(stored: Stored) -> VersionedTask:
    """Returns the task with its entity tag."""
    return {**stored.task, "etag": task_etag(stored.revision)}


def deleted_task(deletion: Deletion) -> DeletedTask:
    """Returns a deletion as clients see it."""
    return {"id": deletion.task_id, "deleted_at": rfc3339(deletion.deleted_at)}


def _trashed(row: Row) -> TrashedTask:
    return {**versioned(_stored(row)), "deleted_at": rfc3339(cast("datetime", row[_DELETED_AT]))}


def _exported(row: Row) -> ExportedTask:
    deleted_at = cast("datetime | None", row[_DELETED_AT])
    return {**versioned(_stored(row)), "deleted_at": deleted_at and rfc3339(deleted_at)}
