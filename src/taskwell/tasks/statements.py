"""The SQL statements on tasks, each written once, in SQLAlchemy Core.

Every statement is bound to the owner, takes all its values as named parameters, and is compiled to SQL text when the
service starts. A write takes the user's next revision inside its own statement, so that revisions appear in commit
order; see docs/adr/0002-revision-inside-the-write.md.
"""

from functools import cache

from sqlalchemy import (
    Boolean,
    Integer,
    Text,
    Update,
    bindparam,
    case,
    func,
    literal_column,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

from taskwell.database.clock import now, now_or_later_than
from taskwell.database.schema import SCHEMA
from taskwell.tasks.schemas import MEMBERS
from taskwell.tasks.tables import task, user_revision

# The first columns of every row, in this order; the columns that follow are for the service alone.
PUBLIC = [task.c[name] for name in MEMBERS]

# A task and its revision.
_STORED = (*PUBLIC, task.c.revision)

owner = bindparam("owner", type_=Text)
task_id = bindparam("id", type_=task.c.id.type)

_OWN_AND_LIVE = (task.c.user_id == owner, task.c.deleted_at.is_(None))


class next_revision(FunctionElement[int]):  # noqa: N801 - written like an SQL function
    """Takes the user's next revision. No other write of that user gets the same one, or commits before this one.

    On PostgreSQL it is a function, whose row lock is held until the statement is committed. SQLite has one writer at a
    time; there the statement computes the revision, and a trigger on `task` stores it.
    """

    inherit_cache = True

    def __init__(self, user: ColumnElement[str]) -> None:
        super().__init__(user)


@compiles(next_revision, "postgresql")
def _next_revision_postgres(element: next_revision, compiler: SQLCompiler, **options: object) -> str:
    return f"{SCHEMA}.next_revision({compiler.process(element.clauses, **options)})"


@compiles(next_revision, "sqlite")
def _next_revision_sqlite(element: next_revision, compiler: SQLCompiler, **options: object) -> str:
    user = compiler.process(element.clauses, **options)
    return f"(SELECT coalesce(max(revision), 0) + 1 FROM owner WHERE user_id = {user})"  # noqa: S608 - compiled, not sent


# --- one task

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
    .returning(*_STORED)
)

# Finds the task that a creation made when the reply to it was lost. It may have been changed or deleted since.
get_created_task = select(*_STORED).where(
    task.c.user_id == owner, task.c.creation_key == bindparam("creation_key", type_=Text)
)

get_task = select(*_STORED).where(*_OWN_AND_LIVE, task.c.id == task_id)


def _change_task() -> Update:
    """Sets the values that are given. Returns no row if the task is missing or already has these values."""
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
        .returning(*_STORED)
    )


change_task = _change_task()

delete_task = (
    update(task)
    .where(*_OWN_AND_LIVE, task.c.id == task_id)
    .values(deleted_at=now(), revision=next_revision(owner))
    .returning(*_STORED)
)


# --- a page of tasks


@cache
def list_tasks(*, by_state: bool) -> Executable:
    """Selects a page of tasks, newest first. Each row ends with `count` and `revision`.

    `count` is the number of tasks that match, over all pages; `revision` is the owner's, 0 before their first write.
    An empty page is one row whose task is all NULL.

    Each combination of filters has a statement of its own, because PostgreSQL counts from the index alone only by a
    plain condition, and not by `complete = coalesce(:complete, complete)`.
    """
    matching = list(_OWN_AND_LIVE)
    if by_state:
        matching.append(task.c.complete == bindparam("complete", type_=Boolean))
    page = (
        select(*PUBLIC)
        .where(*matching)
        # `deleted_at` is NULL in all these rows, but only with it is this the order of `task_newest`. By `id` alone
        # PostgreSQL walked the primary key for a user with a tenth of all tasks: over the rows of all users, a million
        # of them when that user's were the oldest.
        .order_by(task.c.deleted_at.desc(), task.c.id.desc())
        .limit(bindparam("limit", type_=Integer))
        .offset(bindparam("offset", type_=Integer))
        .subquery("page")
    )
    # The count is a scalar subquery: half the cost of `count(*) OVER ()`.
    count = select(func.count()).select_from(task).where(*matching).scalar_subquery()
    revision = select(user_revision.c.revision).where(user_revision.c.user_id == owner).scalar_subquery()
    totals = select(count.label("count"), func.coalesce(revision, literal_column("0")).label("revision")).subquery(
        "totals"
    )
    # The join keeps the page's order, because its left side is one row. Sorting again would cost 3 % on PostgreSQL and
    # 7 % on SQLite.
    return select(*page.c, totals.c.count, totals.c.revision).select_from(totals.outerjoin(page, true()))
