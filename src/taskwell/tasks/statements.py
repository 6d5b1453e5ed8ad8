"""What the database does, each thing said once.

Every statement is bound to the owner, takes all its values as named parameters, and is compiled to SQL text when
the service starts. A write takes the user's next revision inside itself, so that revisions appear in commit order;
see docs/adr/0002-revision-inside-the-write.md.
"""

from sqlalchemy import (
    Boolean,
    Integer,
    Select,
    Text,
    Update,
    bindparam,
    case,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from taskwell.database.clock import now, now_or_later_than
from taskwell.tasks.schemas import MEMBERS
from taskwell.tasks.tables import task

# First in every answer, in this order.
PUBLIC = [task.c[name] for name in MEMBERS]

owner = bindparam("owner", type_=Text)
task_id = bindparam("id", type_=task.c.id.type)

_OWN_AND_LIVE = (task.c.user_id == owner, task.c.deleted_at.is_(None))


class next_revision(FunctionElement[int]):  # noqa: N801 - written like an SQL function
    """The user's next revision, taken: no other write of the user's gets it, or commits before this one.

    PostgreSQL has a function for it, whose row lock is held to the end of the statement. SQLite has one writer at a
    time, and a trigger that keeps what the write has taken.
    """

    inherit_cache = True

    def __init__(self, user: ColumnElement[str]) -> None:
        super().__init__(user)


@compiles(next_revision, "postgresql")
def _next_revision_postgres(element: next_revision, compiler: SQLCompiler, **options: object) -> str:
    return f"next_revision({compiler.process(element.clauses, **options)})"


@compiles(next_revision, "sqlite")
def _next_revision_sqlite(element: next_revision, compiler: SQLCompiler, **options: object) -> str:
    user = compiler.process(element.clauses, **options)
    return f"(SELECT coalesce(max(revision), 0) + 1 FROM owner WHERE user_id = {user})"  # noqa: S608 - compiled, not sent


create_task = (
    insert(task)
    .values(
        user_id=owner,
        title=bindparam("title", type_=Text),
        description=bindparam("description", type_=Text),
        complete=bindparam("complete", type_=Boolean),
        created_at=now(),
        updated_at=now(),
        revision=next_revision(owner),
        creation_key=bindparam("creation_key", type_=Text),
    )
    .on_conflict_do_nothing(index_elements=["user_id", "creation_key"])
    .returning(*PUBLIC)
)

# What a creation made whose answer was lost; it may have been changed since, or deleted.
get_created_task = select(*PUBLIC).where(
    task.c.user_id == owner, task.c.creation_key == bindparam("creation_key", type_=Text)
)

get_task = select(*PUBLIC).where(*_OWN_AND_LIVE, task.c.id == task_id)


def _change_task() -> Update:
    """Sets what is given and leaves the rest; no row comes back where there is none, or nothing to change."""
    title = func.coalesce(bindparam("title", type_=Text), task.c.title)
    description = case(
        (bindparam("sets_description", type_=Boolean), bindparam("description", type_=Text)), else_=task.c.description
    )
    complete = func.coalesce(bindparam("complete", type_=Boolean), task.c.complete)
    current = tuple_(task.c.title, task.c.description, task.c.complete)
    return (
        update(task)
        .where(
            *_OWN_AND_LIVE,
            task.c.id == task_id,
            current.is_distinct_from(tuple_(title, description, complete)),
        )
        .values(
            title=title,
            description=description,
            complete=complete,
            updated_at=now_or_later_than(task.c.updated_at),
            revision=next_revision(owner),
        )
        .returning(*PUBLIC)
    )


change_task = _change_task()

delete_task = (
    update(task)
    .where(*_OWN_AND_LIVE, task.c.id == task_id)
    .values(deleted_at=now(), revision=next_revision(owner))
    .returning(task.c.id)
)


def _page(*matching: ColumnElement[bool]) -> Select[tuple[object, ...]]:
    """A page, newest first. The count is a scalar sub-select: half the cost of `count(*) OVER ()`."""
    count = select(func.count()).select_from(task).where(*_OWN_AND_LIVE, *matching).scalar_subquery()
    return (
        select(*PUBLIC, count.label("count"))
        .where(*_OWN_AND_LIVE, *matching)
        # No `deleted_at` differs here, but only `task_newest` is in this order. By `id` alone PostgreSQL walked the primary
        # key for a user with a tenth of all tasks: over everybody's rows, a million of them where the user's were the oldest.
        .order_by(task.c.deleted_at.desc(), task.c.id.desc())
        .limit(bindparam("limit", type_=Integer))
        .offset(bindparam("offset", type_=Integer))
    )


# A filter of its own statement each: `complete = coalesce(:complete, complete)` would keep the count from the index alone.
_has_state = task.c.complete == bindparam("complete", type_=Boolean)

list_tasks = _page()
list_tasks_by_state = _page(_has_state)
count_tasks = select(func.count().label("count")).select_from(task).where(*_OWN_AND_LIVE)
count_tasks_by_state = count_tasks.where(_has_state)
