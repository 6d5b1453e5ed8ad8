"""The SQL statements that only a distributed database needs, on Citus.

All other statements are those of one server: each names its user, and Citus sends it to the worker of that user.
"""

from sqlalchemy import ARRAY, Integer, Text, and_, any_, bindparam, column, func, literal_column, select, table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from taskwell.database.schema import SCHEMA
from taskwell.database.watched import watched
from taskwell.tasks.statements import STORED
from taskwell.tasks.tables import task, user_revision

# --- is the database distributed?


class _has_citus(FunctionElement[bool]):  # noqa: N801 - written like an SQL function
    """Whether the database has Citus's catalog."""

    inherit_cache = True


@compiles(_has_citus, "postgresql")
def _has_citus_postgres(element: _has_citus, compiler: SQLCompiler, **options: object) -> str:
    return "to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"


@compiles(_has_citus)
def _has_citus_elsewhere(element: _has_citus, compiler: SQLCompiler, **options: object) -> str:
    return "0"


# Two statements, because the second one cannot be prepared without Citus.
has_citus = select(_has_citus())
_partition = table("pg_dist_partition", column("logicalrelid"), schema="pg_catalog")
is_distributed = select(
    select(_partition.c.logicalrelid)
    .where(_partition.c.logicalrelid == func.to_regclass(literal_column(f"'{SCHEMA}.task'")))
    .exists()
)

# --- changes of several users

# Selects each owner in `:watched`, and the number of the worker that has their rows.
_placement = table("pg_dist_placement", column("shardid"), column("groupid"), schema="pg_catalog")
_shard = func.get_shard_id_for_distribution_column(literal_column(f"'{SCHEMA}.task'"), watched.c.user_id)
list_workers_of_watched = select(watched.c.user_id, _placement.c.groupid).select_from(
    watched.join(_placement, _placement.c.shardid == _shard)
)


def _list_changes_on_worker() -> Executable:
    # A row of `task` and one of `owner` are on the same worker only if they are joined by the user, and `owners` lets
    # Citus ask the workers of these users only. It refuses a correlated LIMIT, so a window counts.
    number = func.row_number().over(partition_by=user_revision.c.user_id, order_by=task.c.revision)
    behind = and_(
        task.c.user_id == watched.c.user_id,
        task.c.user_id == user_revision.c.user_id,
        task.c.revision > watched.c.revision,
    )
    sources = watched.join(user_revision, user_revision.c.user_id == watched.c.user_id).outerjoin(task, behind)
    found = (
        select(user_revision.c.user_id.label("owner"), user_revision.c.revision.label("owner_revision"))
        .add_columns(user_revision.c.epoch.label("epoch"), *STORED, task.c.deleted_at, number.label("number"))
        .select_from(sources)
        .where(user_revision.c.user_id == any_(bindparam("owners", type_=ARRAY(Text))))
        .subquery("found")
    )
    first = found.c.number <= bindparam("limit", type_=Integer)
    return select(*list(found.c)[:-1]).where(first).order_by(found.c.revision)


# Selects what `list_changes_of_watched` does, for the owners in `:watched`, who are also in `:owners`. But an owner whose
# state is the given one has a row without a task, and one without a row of `owner` has none.
list_changes_on_worker = _list_changes_on_worker()
