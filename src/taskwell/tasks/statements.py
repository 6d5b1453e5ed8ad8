"""The SQL statements on tasks, each written once, in SQLAlchemy Core.

Every statement is bound to the owner, takes all its values as named parameters, and is compiled to SQL text once. The
reads run on both engines. The writes run on SQLite, inside the operations of `taskwell.tasks.writes`; on PostgreSQL,
functions write.
"""

from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    FromClause,
    Integer,
    Select,
    Text,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import ColumnElement

from taskwell.database.clock import days_ago, now, now_or_later_than
from taskwell.database.interface import TAKES_LONG
from taskwell.database.text import by_code_point, contains
from taskwell.database.watched import watched
from taskwell.tasks.schemas import MEMBERS
from taskwell.tasks.tables import task, user_revision

# The first columns of every row, in this order; the columns that follow are for the service alone.
PUBLIC = [task.c[name] for name in MEMBERS]

# A task and its revision.
STORED = (*PUBLIC, task.c.revision)

owner = bindparam("owner", type_=Text)
task_id = bindparam("id", type_=task.c.id.type)

_OWN_AND_LIVE = (task.c.user_id == owner, task.c.deleted_at.is_(None))

# --- one task

get_task = select(*STORED).where(*_OWN_AND_LIVE, task.c.id == task_id)


# The state of the owner's tasks: one row, 0 and 0 before the first write.
get_state = select(
    func.coalesce(func.max(user_revision.c.revision), literal_column("0")).label("revision"),
    func.coalesce(func.max(user_revision.c.epoch), literal_column("0")).label("epoch"),
).where(user_revision.c.user_id == owner)

# --- writes on SQLite, which has one writer at a time

# Triggers on `task` store the revision in `owner`; see docs/adr/0002-revision-inside-the-write.md.
_next_revision = (
    select(func.coalesce(func.max(user_revision.c.revision), literal_column("0")) + literal_column("1"))
    .where(user_revision.c.user_id == owner)
    .scalar_subquery()
)

get_created_task = select(*STORED, task.c.deleted_at, task.c.creation_digest).where(
    task.c.user_id == owner, task.c.creation_key == bindparam("creation_key", type_=Text)
)

create_task = (
    insert(task)
    .values(
        user_id=owner,
        title=bindparam("title", type_=Text),
        description=bindparam("description", type_=Text),
        complete=bindparam("complete", type_=Boolean),
        created_at=now(),
        updated_at=now(),
        revision=_next_revision,
        creation_key=bindparam("creation_key", type_=Text),
        creation_digest=bindparam("creation_digest", type_=task.c.creation_digest.type),
    )
    .returning(*STORED)
)


def _changed(column: str) -> ColumnElement[object]:
    return func.coalesce(bindparam(column, type_=task.c[column].type), task.c[column])


_description = case(
    (bindparam("sets_description", type_=Boolean), bindparam("description", type_=Text)), else_=task.c.description
)
_changes = {"title": _changed("title"), "description": _description, "complete": _changed("complete")}

# Returns no row if the task has these values already.
change_task = (
    update(task)
    .where(
        *_OWN_AND_LIVE,
        task.c.id == task_id,
        tuple_(*[task.c[name] for name in _changes]).is_distinct_from(tuple_(*_changes.values())),
    )
    .values(**_changes, updated_at=now_or_later_than(task.c.updated_at), revision=_next_revision)
    .returning(*STORED)
)

delete_task = (
    update(task)
    .where(*_OWN_AND_LIVE, task.c.id == task_id)
    .values(deleted_at=now(), revision=_next_revision)
    .returning(*STORED)
)

# Deleted tasks, erased ones included.
get_deleted_task = select(*STORED).where(task.c.user_id == owner, task.c.deleted_at.is_not(None), task.c.id == task_id)

# Every trace of the owner.
erase_own_tasks = delete(task).where(task.c.user_id == owner)
erase_revision = delete(user_revision).where(user_revision.c.user_id == owner)

_OWN_AND_NOT_ERASED = (task.c.user_id == owner, task.c.erased_at.is_(None))

get_task_or_trashed = select(*STORED, task.c.deleted_at).where(*_OWN_AND_NOT_ERASED, task.c.id == task_id)

restore_task = (
    update(task)
    .where(*_OWN_AND_NOT_ERASED, task.c.deleted_at.is_not(None), task.c.id == task_id)
    .values(deleted_at=null(), updated_at=now_or_later_than(task.c.updated_at), revision=_next_revision)
    .returning(*STORED)
)

# The one statement on the tasks of all users; see `taskwell.tasks.purge`. It sets no revision, so no trigger fires.
_OLD_TRASH = (
    task.c.deleted_at < days_ago(bindparam("older_than_days", type_=Integer)),
    task.c.title != literal_column("''"),
)
_oldest = select(task.c.id).where(*_OLD_TRASH).order_by(task.c.deleted_at).limit(bindparam("batch", type_=Integer))
erase_tasks = (
    update(task)
    .where(task.c.id.in_(_oldest.offset(literal_column("0"))))
    .values(title=literal_column("''"), description=null(), creation_digest=null(), erased_at=now())
    .returning(task.c.id)
)


# --- a page of the trash

_IN_TRASH = (*_OWN_AND_NOT_ERASED, task.c.deleted_at.is_not(None))


def list_trash(*, follows: bool) -> Executable:
    """Selects a page of the trash, the newest deletion first.

    Each row is a task, its revision, `deleted_at` and `count`.

    `count` is the number of all tasks in the trash. An empty page is one row whose task is all NULL. With `follows`,
    the page begins after the deletion with the revision `:after_revision`.
    """
    totals = select(func.count().label("count")).select_from(task).where(*_IN_TRASH).subquery("totals")
    page = select(*STORED, task.c.deleted_at).where(*_IN_TRASH)
    if follows:
        page = page.where(task.c.revision < bindparam("after_revision", type_=BigInteger))
    # Each deletion has a revision of its own. With a condition on `deleted_at`, PostgreSQL would expect too few tasks
    # behind a cursor, and so read all of them instead of a page.
    ordered = page.order_by(task.c.revision.desc())
    limited = ordered.limit(bindparam("limit", type_=Integer)).offset(literal_column("0")).subquery("page")
    return select(*limited.c, totals.c.count).select_from(totals.outerjoin(limited, true()))


# --- a page of tasks

Sort = Literal["created_at", "-created_at", "updated_at", "-updated_at", "title", "-title"]
"""The order of a list: a member, with `-` in front for descending."""


class PageShape(NamedTuple):
    """A kind of list. Each has a statement of its own, so that PostgreSQL's plan fits it.

    For example, PostgreSQL can count from the index alone if the condition is plain. With
    `complete = coalesce(:complete, complete)` it cannot.
    """

    by_state: bool = False
    """Only tasks whose `complete` is `:complete`."""
    search: bool = False
    """Only tasks whose title or description contains `:q`."""
    sort: Sort | None = None
    """None: newest first, by the id."""
    follows: bool = False
    """Only tasks after the one whose sort value is `:after_value` and whose id is `:after_id`; else, skips `:offset`."""
    unless_known: bool = False
    """No task and no count if the owner's revision and epoch are still `:known_revision` and `:known_epoch`."""


def list_tasks(shape: PageShape) -> Executable:
    """Selects a page of tasks. Each row ends with `count`, `revision` and `epoch`.

    `count` is the number of tasks that match, over all pages; it is NULL if the revision is the known one. `revision`
    and `epoch` are the owner's, 0 before their first write. An empty page is one row whose task is all NULL.
    """
    # All of it is read in one statement, so the revision is that of these rows.
    state = get_state.cte("state")
    source: FromClause = task
    matching = _matching(shape)
    if shape.search:
        # A search looks at every task of the user, so it must not do that twice: for the page and for the count.
        source, matching = select(*PUBLIC).where(*matching).cte("found"), []
    limit: ColumnElement[Any] = bindparam("limit", type_=Integer)
    # The count is a scalar subquery: half the cost of `count(*) OVER ()`.
    count: ColumnElement[Any] = select(func.count()).select_from(source).where(*matching).scalar_subquery()
    if shape.unless_known:
        is_new = or_(
            state.c.revision != bindparam("known_revision", type_=BigInteger),
            state.c.epoch != bindparam("known_epoch", type_=BigInteger),
        )
        count = case((is_new, count))
        # A limit of 0, because with a WHERE condition SQLite would still scan the rows.
        limit = select(case((is_new, limit), else_=literal_column("0", Integer))).scalar_subquery()
    totals = select(count.label("count"), state.c.revision, state.c.epoch).subquery("totals")
    page = _page(shape, source).where(*matching).limit(limit).subquery("page")
    # The join keeps the page's order, because its left side is one row. Sorting again would cost 3 % on PostgreSQL and
    # 7 % on SQLite.
    return select(*page.c, totals.c.count, totals.c.revision, totals.c.epoch).select_from(
        totals.outerjoin(page, true())
    )


def _matching(shape: PageShape) -> list[ColumnElement[bool]]:
    matching = list(_OWN_AND_LIVE)
    if shape.by_state:
        matching.append(task.c.complete == bindparam("complete", type_=Boolean))
    if shape.search:
        part = bindparam("q", type_=Text)
        matching.append(or_(contains(task.c.title, part), contains(task.c.description, part)))
    return matching


def _page(shape: PageShape, source: FromClause) -> Select[*tuple[object, ...]]:
    order = _newest_first(source)
    if shape.sort:
        keys = [_sort_key(shape.sort, source), source.c.id]
        order = [key.desc() if shape.sort.startswith("-") else key for key in keys]
    page = select(*[source.c[name] for name in MEMBERS]).order_by(*order)
    if not shape.follows:
        return page.offset(bindparam("offset", type_=Integer))
    # Without an OFFSET, SQLAlchemy adds one on SQLite and binds its value. A literal avoids that.
    return page.where(_after(shape, source)).offset(literal_column("0"))


def _newest_first(source: FromClause) -> list[ColumnElement[Any]]:
    """Returns the order of the index `task_by_newest`.

    With a plain `id`, PostgreSQL walked the primary key instead, over the rows of all users. For a user who had a tenth
    of all tasks, and the oldest ones, it read a million rows.
    """
    newest_first = -source.c.id
    # `deleted_at` is NULL in all these rows, but the index has it: without it, this would not be the order of the
    # index.
    return [task.c.deleted_at, newest_first] if source is task else [newest_first]


def _after(shape: PageShape, source: FromClause) -> ColumnElement[bool]:
    after_id = bindparam("after_id", type_=BigInteger)
    if shape.sort is None:
        return -source.c.id > -after_id
    # A comparison of rows is found by the index; the same comparison written with OR is not.
    value = _sort_key(shape.sort, source)
    here, there = tuple_(value, source.c.id), tuple_(bindparam("after_value", type_=value.type), after_id)
    return here < there if shape.sort.startswith("-") else here > there


def _sort_key(sort: Sort, source: FromClause) -> ColumnElement[Any]:
    name = sort.removeprefix("-")
    return by_code_point(source.c.title) if name == "title" else source.c[name]


# --- changes


def _list_changes() -> Executable:
    # All of it is read in one statement, so no change up to the owner's revision is missing. Each change has a revision
    # of its own, so a page can end after any of them.
    state = get_state.subquery("state")
    page = (
        select(*STORED, task.c.deleted_at)
        .where(task.c.user_id == owner, task.c.revision > bindparam("since", type_=BigInteger))
        .order_by(task.c.revision)
        .limit(bindparam("limit", type_=Integer))
        # Without an OFFSET, SQLAlchemy adds one on SQLite and binds its value. A literal avoids that.
        .offset(literal_column("0"))
        .subquery("page")
    )
    # The join keeps the page's order, because its left side is one row.
    return select(*page.c, state.c.revision.label("owner_revision"), state.c.epoch).select_from(
        state.outerjoin(page, true())
    )


# Selects the tasks whose last change has a revision above `:since`, in the order of these changes, deleted ones
# included. Each row ends with the owner's revision and epoch. An empty page is one row whose task is all NULL.
list_changes = _list_changes()


def _list_changes_of_watched() -> Executable:
    # Everything is read in one statement, so no change up to an owner's revision is missing.
    revision, epoch = (
        func.coalesce(column, literal_column("0")) for column in (user_revision.c.revision, user_revision.c.epoch)
    )
    behind = and_(task.c.user_id == watched.c.user_id, task.c.revision > watched.c.revision)
    # PostgreSQL could limit the rows of each owner with LATERAL, which SQLite does not have.
    first = select(task.c.revision).where(*behind.clauses).order_by(task.c.revision).correlate(watched)
    limited = first.limit(bindparam("limit", type_=Integer)).offset(literal_column("0")).subquery("first")
    last = select(func.max(limited.c.revision)).scalar_subquery()
    sources = watched.outerjoin(user_revision, user_revision.c.user_id == watched.c.user_id)
    return (
        select(watched.c.user_id.label("owner"), revision.label("owner_revision"), epoch.label("epoch"))
        .add_columns(*STORED, task.c.deleted_at)
        .select_from(sources.outerjoin(task, and_(behind, task.c.revision <= last)))
        .where(or_(revision != watched.c.revision, epoch != watched.c.epoch))
        .order_by(task.c.revision)
    )


# Selects what `list_changes` does, for each owner in `:watched` whose state is not the given one; at most `:limit`
# changes of each. Each row begins with the owner, their revision and their epoch.
list_changes_of_watched = _list_changes_of_watched().execution_options(**{TAKES_LONG: True})


# --- a page of an export


def _export_page() -> Executable:
    # Live and deleted tasks are in different indexes, each in the order of the export. With one condition for both, the
    # database would sort all of the owner's tasks for each page.
    live, deleted = (
        select(*STORED, task.c.deleted_at)
        .where(*conditions, -task.c.id > bindparam("after", type_=BigInteger))
        .order_by(*order)
        .limit(bindparam("limit", type_=Integer))
        # Without an OFFSET, SQLAlchemy adds one on SQLite and binds its value. A literal avoids that.
        .offset(literal_column("0"))
        .subquery(name)
        for name, conditions, order in (
            ("live", _OWN_AND_LIVE, _newest_first(task)),
            ("deleted", _IN_TRASH, [-task.c.id]),
        )
    )
    page = union_all(select(*live.c), select(*deleted.c)).subquery("page")
    return select(*page.c).order_by(-page.c.id).limit(bindparam("limit", type_=Integer)).offset(literal_column("0"))


# Selects tasks and their revision and `deleted_at`, newest first, those in the trash included. A page begins with the
# first task whose negated id is above `:after`.
export_page = _export_page().execution_options(**{TAKES_LONG: True})
