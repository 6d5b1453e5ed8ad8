"""The writes of tasks, and their outcomes.

On PostgreSQL each is a function in the database; the migrations create them. On SQLite each is the Python function here
of the same name, with the same outcomes. A row is a task and its revision, followed by the outcome; see
docs/adr/0011-writes-are-functions-in-the-database.md.
"""

from collections.abc import Callable, Sequence
from typing import Literal, cast

from taskwell.database.interface import MaintenanceWrite, PrepareStep, Row, Values, Write
from taskwell.etags import Precondition
from taskwell.tasks import statements
from taskwell.tasks.schemas import MEMBERS

Outcome = Literal["done", "unchanged", "missing", "stale", "replayed", "other_values", "gone"]

_NO_TASK = (None,) * (len(MEMBERS) + 1)


def _create_task(prepare: PrepareStep) -> Callable[[Values], Row]:
    get_created, create = prepare(statements.get_created_task), prepare(statements.create_task)

    def run(values: Values) -> Row:
        # Without a digest, the service made the key for this call, so no task has it yet.
        earlier = get_created(values) if values["creation_digest"] is not None else ()
        if not earlier:
            return _row(create(values)[0], "done")
        *stored, deleted_at, digest = earlier[0]
        if deleted_at is not None:
            return _row(stored, "gone")
        return _row(stored, "replayed" if digest == values["creation_digest"] else "other_values")

    return run


def _change_task(prepare: PrepareStep) -> Callable[[Values], Row]:
    get, change = prepare(statements.get_task), prepare(statements.change_task)

    def run(values: Values) -> Row:
        stored = get(values)
        if refusal := _refusal(stored, values):
            return refusal
        changed = change(values)
        return _row(changed[0], "done") if changed else _row(stored[0], "unchanged")

    return run


def _delete_task(prepare: PrepareStep) -> Callable[[Values], Row]:
    get, delete = prepare(statements.get_task), prepare(statements.delete_task)

    return lambda values: _refusal(get(values), values) or _row(delete(values)[0], "done")


def _restore_task(prepare: PrepareStep) -> Callable[[Values], Row]:
    get, restore = prepare(statements.get_task_or_trashed), prepare(statements.restore_task)

    def run(values: Values) -> Row:
        found = get(values)
        if not found:
            return _row(_NO_TASK, "missing")
        *stored, deleted_at = found[0]
        return _row(stored, "unchanged") if deleted_at is None else _row(restore(values)[0], "done")

    return run


def _purge(prepare: PrepareStep) -> Callable[[Values], Row]:
    erase = prepare(statements.erase_tasks)
    return lambda values: (len(erase(values)),)


def _row(stored: Sequence[object], outcome: Outcome) -> Row:
    return (*stored, outcome)


def _refusal(stored: Sequence[Row], values: Values) -> Row | None:
    """Returns the row for a task that is missing, or that does not meet a condition."""
    if not stored:
        return _row(_NO_TASK, "missing")
    revision = str(stored[0][-1])
    if_match, if_none_match = (cast("list[str] | None", values[name]) for name in Precondition._fields)
    if (if_match is not None and revision not in if_match) or revision in (if_none_match or ()):
        return _row(stored[0], "stale")
    return None


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

# Its row is the number of tasks that it erased. It is for all users, so only maintenance can prepare it.
purge = MaintenanceWrite("purge", ("older_than_days", "batch"), _purge)
