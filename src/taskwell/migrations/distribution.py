"""Spread the tables of a PostgreSQL with Citus over its workers, by user.

Everything of a user is on one worker, and the functions that write run there: one round trip more than on one server.
Only creations and batches run on the coordinator, so that all ids come from one sequence and rise over time, also after
a user has moved to another worker. See docs/adr/0017-a-command-distributes-the-tables.md.
"""

from sqlalchemy import Connection, text

from taskwell.database.schema import FUNCTIONS_SCHEMA, SCHEMA
from taskwell.errors import DatabaseError

_TASK, _OWNER = f"{SCHEMA}.task", f"{SCHEMA}.owner"

_NO_EXTENSION = (
    "The database has no extension citus; nothing was changed. Create it in this database on the coordinator and on each "
    "worker, and register the workers; docs/operations.md has the steps."
)
_NO_WORKERS = (
    "No workers are registered in this database; nothing was changed. Run citus_add_node for each; docs/operations.md has "
    "the steps."
)

_HAS_EXTENSION = text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')")
_COUNT_WORKERS = text("SELECT count(*) FROM pg_dist_node WHERE shouldhaveshards")
_IS_DISTRIBUTED = text("SELECT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = to_regclass(:table))")

DISTRIBUTE = (
    # A unique index of a distributed table contains the column that it is distributed by. Ids stay unique without one:
    # they come from one sequence.
    f"ALTER TABLE {_TASK} DROP CONSTRAINT task_pkey, ADD CONSTRAINT task_pkey PRIMARY KEY (user_id, id)",
    f"SELECT create_distributed_table('{_OWNER}', 'user_id')",
    f"SELECT create_distributed_table('{_TASK}', 'user_id', colocate_with => '{_OWNER}')",
    # The rows are on the workers now; the coordinator still has the old ones, which no statement sees.
    f"SELECT truncate_local_data_after_distributing_table('{_OWNER}')",
    f"SELECT truncate_local_data_after_distributing_table('{_TASK}')",
)

DELEGATED = (
    "change_task(text, bigint, text, boolean, text, boolean, text[], text[])",
    "delete_task(text, bigint, text[], text[])",
    "restore_task(text, bigint)",
    "erase_owner(text)",
)
"""The functions that run whole on the worker of their first argument. The others of a user's run on the coordinator."""

# As on one server, in each shard, and in a transaction of its own there. If a worker is lost, the purge erases on the
# others and then fails.
_PURGE = f"""
CREATE OR REPLACE FUNCTION {FUNCTIONS_SCHEMA}.purge(older_than_days integer, batch integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    erased bigint;
    failure text;
BEGIN
    SELECT sum(result::bigint) FILTER (WHERE success), min(result) FILTER (WHERE NOT success) INTO erased, failure
    FROM run_command_on_shards('{_TASK}', format($command$
        WITH erased AS (
            UPDATE %%1$s SET title = '', description = NULL, creation_digest = NULL, erased_at = %1$L
            WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM %%1$s WHERE deleted_at < %2$L AND title <> ''
                ORDER BY deleted_at LIMIT %3$s
                FOR UPDATE SKIP LOCKED
            ))
            RETURNING 1
        )
        SELECT count(*) FROM erased
    $command$, moment, moment - older_than_days * interval '24 hours', batch));
    IF failure IS NOT NULL THEN
        RAISE EXCEPTION 'not purged everywhere: %', failure;
    END IF;
    RETURN erased;
END $$
"""  # noqa: S608 - our own names


def is_distributed(connection: Connection) -> bool:
    """Returns whether the tasks are spread over the workers of a Citus cluster."""
    return bool(connection.scalar(_HAS_EXTENSION)) and bool(connection.scalar(_IS_DISTRIBUTED, {"table": _TASK}))


def distribute(connection: Connection) -> None:
    """Distributes the tables of this version's schema, with their rows.

    Raises:
        DatabaseError: the database has no Citus, or no workers.
    """
    if not connection.scalar(_HAS_EXTENSION):
        raise DatabaseError(_NO_EXTENSION)
    if not connection.scalar(_COUNT_WORKERS):
        raise DatabaseError(_NO_WORKERS)
    use_one_connection(connection)
    for statement in DISTRIBUTE:
        connection.exec_driver_sql(statement)
    delegate_functions(connection)


def use_one_connection(connection: Connection) -> None:
    """Makes this transaction reach each worker over one connection.

    Otherwise Citus refuses to change a table and then a function, or another table, in one transaction.
    """
    connection.exec_driver_sql("SET LOCAL citus.multi_shard_modify_mode = 'sequential'")


def delegate_functions(connection: Connection) -> None:
    """Makes the functions of this version run where the rows are. It can be repeated."""
    for function in DELEGATED:
        connection.exec_driver_sql(
            f"SELECT create_distributed_function('{FUNCTIONS_SCHEMA}.{function}', '$1', colocate_with => '{_TASK}')"
        )
    connection.exec_driver_sql(_PURGE)
