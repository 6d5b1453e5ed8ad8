"""The writes of tasks, and their outcomes.

On PostgreSQL each is a function in the database; the migrations create them. On SQLite each is the Python function here
of the same name, with the same outcomes. A row is a task and its revision, followed by the outcome; see
docs/adr/0011-writes-are-functions-in-the-database.md.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Literal, cast

import orjson

from taskwell.database.interface import MaintenanceWrite, PrepareStep, Row, Undo, Values, Write
from taskwell.etags import Precondition
from taskwell.tasks import statements
from taskwell.tasks.schemas import MEMBERS, TaskCreate, TaskPatch, TaskUpdate

Outcome = Literal["done", "unchanged", "missing", "stale", "replayed", "other_values", "gone"]

FAILURES: frozenset[object] = frozenset({"missing", "stale", "other_values", "gone"})
"""The outcomes that undo the batch of the operation."""

Steps = Callable[[Values], Sequence[Row]]

_NO_TASK = (None,) * (len(MEMBERS) + 1)


def _create_task(prepare: PrepareStep) -> Steps:
    get_created, create = prepare(statements.get_created_task), prepare(statements.create_task)

    def run(values: Values) -> Sequence[Row]:
        # Without a digest, the service made the key for this call, so no task has it yet.
        earlier = get_created(values) if values["creation_digest"] is not None else ()
        if not earlier:
            return _rows(create(values)[0], "done")
        *stored, deleted_at, digest = earlier[0]
        if deleted_at is not None:
            return _rows(stored, "gone")
        return _rows(stored, "replayed" if digest == values["creation_digest"] else "other_values")

    return run


def _change_task(prepare: PrepareStep) -> Steps:
    get, change = prepare(statements.get_task), prepare(statements.change_task)

    def run(values: Values) -> Sequence[Row]:
        stored = get(values)
        if refusal := _refusal(stored, values):
            return refusal
        changed = change(values)
        return _rows(changed[0], "done") if changed else _rows(stored[0], "unchanged")

    return run


def _delete_task(prepare: PrepareStep) -> Steps:
    get, delete = prepare(statements.get_task), prepare(statements.delete_task)

    return lambda values: _refusal(get(values), values) or _rows(delete(values)[0], "done")


def _restore_task(prepare: PrepareStep) -> Steps:
    get, restore = prepare(statements.get_task_or_trashed), prepare(statements.restore_task)

    def run(values: Values) -> Sequence[Row]:
        found = get(values)
        if not found:
            return _rows(_NO_TASK, "missing")
        *stored, deleted_at = found[0]
        return _rows(stored, "unchanged") if deleted_at is None else _rows(restore(values)[0], "done")

    return run


def _apply_batch(prepare: PrepareStep) -> Steps:
    steps = {"create": _create_task(prepare), "change": _change_task(prepare), "delete": _delete_or_leave(prepare)}

    def run(values: Values) -> Sequence[Row]:
        rows: list[Row] = []
        for operation in orjson.loads(cast("str", values["operations"])):
            rows += steps[operation["op"]](_parameters(operation, values["owner"]))
            if rows[-1][-1] in FAILURES:
                raise Undo(rows)
        return rows

    return run


def _parameters(operation: Values, owner: object) -> Values:
    digest = cast("str | None", operation.get("creation_digest"))
    return {**operation, "owner": owner, "creation_digest": None if digest is None else bytes.fromhex(digest)}


def _delete_or_leave(prepare: PrepareStep) -> Steps:
    """Like `_delete_task`, but leaves a task that is deleted already as it is, so that a batch can be sent again."""
    get_deleted, delete = prepare(statements.get_deleted_task), _delete_task(prepare)

    def run(values: Values) -> Sequence[Row]:
        deleted = get_deleted(values)
        return _rows(deleted[0], "unchanged") if deleted else delete(values)

    return run


def _erase_owner(prepare: PrepareStep) -> Steps:
    erase_tasks, erase_revision = prepare(statements.erase_own_tasks), prepare(statements.erase_revision)
    return lambda values: (*erase_tasks(values), *erase_revision(values))


def _purge(prepare: PrepareStep) -> Steps:
    erase = prepare(statements.erase_tasks)
    return lambda values: ((len(erase(values)),),)


def _rows(stored: Sequence[object], outcome: Outcome) -> Sequence[Row]:
    return ((*stored, outcome),)


def _refusal(stored: Sequence[Row], values: Values) -> Sequence[Row] | None:
    """Returns the row for a task that is missing, or that does not meet a condition."""
    if not stored:
        return _rows(_NO_TASK, "missing")
    revision = str(stored[0][-1])
    if_match, if_none_match = (cast("list[str] | None", values[name]) for name in Precondition._fields)
    if (if_match is not None and revision not in if_match) or revision in (if_none_match or ()):
        return _rows(stored[0], "stale")
    return None


# --- the writes, and the values of their parameters

create_task = Write(
    "create_task",
    ("owner", "creation_key", "creation_digest", "title", "description", "complete"),
    _create_task,
    # A second run with the same key creates nothing.
    repeatable=True,
)
change_task = Write(
    "change_task",
    ("owner", "id", "title", "sets_description", "description", "complete", *Precondition._fields),
    _change_task,
)
delete_task = Write("delete_task", ("owner", "id", *Precondition._fields), _delete_task)
restore_task = Write("restore_task", ("owner", "id"), _restore_task)


def creation_values(new: TaskCreate, key: str | None) -> dict[str, object]:
    """Returns the parameters of `create_task` besides the owner."""
    return {
        # With a key, a creation whose reply was lost can be repeated safely. The key does not come from `random`, which a
        # library can seed: the same key twice would make one task of two.
        "creation_key": key or os.urandom(16).hex(),
        "creation_digest": _digest(new) if key else None,
        "title": new.title,
        "description": new.description,
        "complete": new.complete,
    }


def _digest(new: TaskCreate) -> bytes:
    return hashlib.sha256(orjson.dumps([new.title, new.description, new.complete])).digest()


def change_values(task_id: int, changes: TaskUpdate | TaskPatch, precondition: Precondition) -> dict[str, object]:
    """Returns the parameters of `change_task` besides the owner."""
    values = changes.model_dump()
    return {
        "id": task_id,
        "title": values.get("title"),
        "sets_description": "description" in values,
        "description": values.get("description"),
        "complete": values.get("complete"),
        "if_match": precondition.if_match,
        "if_none_match": precondition.if_none_match,
    }


def deletion_values(task_id: int, precondition: Precondition) -> dict[str, object]:
    """Returns the parameters of `delete_task` besides the owner."""
    return {"id": task_id, "if_match": precondition.if_match, "if_none_match": precondition.if_none_match}


# `operations` is a JSON text: a list of objects. `op` is "create", "change" or "delete", and the other members are the
# parameters of that write, with `creation_digest` in hexadecimal digits. Each operation has a row; if one fails, nothing is
# changed, and its row is the last.
apply_batch = Write("apply_batch", ("owner", "operations"), _apply_batch)
erase_owner = Write("erase_owner", ("owner",), _erase_owner, alone=True)

# Its row is the number of tasks that it erased. It is for all users, so only maintenance can prepare it.
purge = MaintenanceWrite("purge", ("older_than_days", "batch"), _purge)
