"""On PostgreSQL, create the functions that write tasks and fold case.

On both engines, add an index for each order of a list, and two for deleted tasks.

Two more indexes, of the tasks in the trash only, are for the list of the trash and for the purge.

Revision ID: 0003
Revises: 0002
"""

from alembic import op
from sqlalchemy import Connection, text

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Newest first. The sign keeps PostgreSQL from walking the primary key instead, over the rows of all users.
_NEWEST = "user_id, deleted_at, (-id), complete"

# The other orders of lists: by creation, by change, and titles by code point. `complete` is for lists that are filtered
# by it.
_SORTED = {
    "task_by_created_at": "user_id, created_at, id, complete",
    "task_by_updated_at": "user_id, updated_at, id, complete",
    "task_by_title": "user_id, title{by_code_point}, id, complete",
}

# Of deleted tasks that are not erased: for the trash of a user, and for the purge, which looks for the oldest of all
# users. By `erased_at`, PostgreSQL would use the second one for the first purpose, too.
_DELETED = {
    "task_trash": "(user_id, revision, deleted_at, erased_at) WHERE deleted_at IS NOT NULL AND erased_at IS NULL",
    "task_deleted_at": "(deleted_at) WHERE deleted_at IS NOT NULL AND title <> ''",
}

# --- functions on PostgreSQL

# Not IF NOT EXISTS, which asks for the right to create schemas even if there is nothing to create. In a schema of
# somebody else's, they could replace our functions.
_SCHEMA = """
DO $$
BEGIN
    IF to_regnamespace('taskwell_0003') IS NULL THEN
        CREATE SCHEMA taskwell_0003;
    ELSIF NOT EXISTS (
        SELECT FROM pg_namespace AS functions, pg_namespace AS tables
        WHERE functions.nspname = 'taskwell_0003' AND tables.nspname = 'taskwell'
            AND functions.nspowner IN (current_user::regrole, tables.nspowner)
    ) THEN
        RAISE EXCEPTION 'the schema taskwell_0003 belongs to another role: drop it, or give it to this one'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$
"""

# A task without what only the service uses, its revision, and what a write did:
#   done, unchanged: the task as it is now; unchanged means that it already had these values
#   missing: there is no such live task; all other columns are NULL
#   stale: a condition on the revision is false; the task as it is now
#   replayed: the key has made this task before, with the same values; the task as it is now
#   other_values: the key has made a task before, with other values
#   gone: the key has made a task before, which has been deleted since
_WRITTEN = """
CREATE TYPE taskwell_0003.written AS (
    id bigint, user_id text, title text, description text, complete boolean,
    created_at timestamptz, updated_at timestamptz, revision bigint, outcome text
)
"""

# A function runs with the rights of its owner, so the service's role needs no right to write the tables. Functions that
# are called with other rights than the caller's must not depend on the caller's `search_path`:
# https://www.postgresql.org/docs/current/sql-createfunction.html#SQL-CREATEFUNCTION-SECURITY
_WRITE = "LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog"

# Each function first checks whether there is anything to do, so that a call that changes nothing takes no revision and
# waits for nobody. It then takes the revision, and writes only if the task is still as it was. If another writer was
# faster, it checks once more, in a new statement, which sees what that writer committed.
_WRITE_FUNCTION = """
CREATE FUNCTION taskwell_0003.{signature} RETURNS taskwell_0003.written {options} AS $$
DECLARE
    stored taskwell.task;
    taken bigint;
    moment timestamptz;
    outcome text;
BEGIN
    FOR attempt IN 1..2 LOOP
        {check}
        EXIT WHEN outcome IS NOT NULL;
        IF taken IS NULL THEN
            -- The row of `owner` stays locked until the write commits, so the writes of one user queue here and their
            -- revisions appear in commit order. Every write locks it before it locks a task.
            INSERT INTO taskwell.owner AS o (user_id, revision, epoch)
            VALUES (writer, 1, floor(random() * 2147483647)::integer)
            ON CONFLICT (user_id) DO UPDATE SET revision = o.revision + 1
            RETURNING o.revision INTO taken;
        END IF;
        {write}
        RETURNING * INTO stored;
        IF FOUND THEN
            outcome := 'done';
            EXIT;
        END IF;
    END LOOP;
    IF outcome IS NULL THEN
        -- Nobody else could write the second time, so it is a trigger or a policy.
        RAISE EXCEPTION 'the database keeps a task from being written';
    END IF;
    IF taken IS NOT NULL AND outcome <> 'done' THEN
        -- Another writer was faster, and nothing is left to do. Nobody has seen the revision, because the row is locked.
        UPDATE taskwell.owner AS o SET revision = o.revision - 1 WHERE o.user_id = writer;
    END IF;
    RETURN ROW(
        stored.id, stored.user_id, stored.title, stored.description, stored.complete, stored.created_at,
        stored.updated_at, stored.revision, outcome
    )::taskwell_0003.written;
END $$
"""


def _write_function(signature: str, check: str, write: str) -> str:
    """Returns a function that `check`s what there is to do, which sets `stored` and `outcome`, and `write`s."""
    return _WRITE_FUNCTION.format(signature=signature, options=_WRITE, check=check.strip(), write=write.strip())


_CREATE_TASK = _write_function(
    "create_task(writer text, key text, digest bytea, new_title text, new_description text, new_complete boolean)",
    """
        -- Without a digest, the service made the key for this call. A task has it already only if the service repeats
        -- a call whose reply was lost.
        IF digest IS NOT NULL OR taken IS NOT NULL THEN
            SELECT * INTO stored FROM taskwell.task AS t WHERE t.user_id = writer AND t.creation_key = key;
            outcome := CASE
                WHEN stored.id IS NULL THEN NULL
                WHEN stored.deleted_at IS NOT NULL THEN 'gone'
                WHEN stored.creation_digest IS DISTINCT FROM digest THEN 'other_values'
                ELSE 'replayed'
            END;
        END IF;
    """,
    """
        moment := clock_timestamp();
        INSERT INTO taskwell.task AS t (
            user_id, title, description, complete, created_at, updated_at, revision, creation_key, creation_digest
        ) VALUES (writer, new_title, new_description, new_complete, moment, moment, taken, key, digest)
        ON CONFLICT (user_id, creation_key) DO NOTHING
    """,
)

_FIND_LIVE = """
        SELECT * INTO stored FROM taskwell.task AS t
        WHERE t.user_id = writer AND t.id = task_id AND t.deleted_at IS NULL;
"""
# The conditions are texts, because for an array of numbers the driver would first ask the database about its type.
_IS_STALE = "stored.revision::text <> ALL (if_match) OR stored.revision::text = ANY (if_none_match)"
_STILL_LIVE = "t.user_id = writer AND t.id = task_id AND t.deleted_at IS NULL AND t.revision = stored.revision"

_CHANGE_TASK = _write_function(
    """change_task(
    writer text, task_id bigint, new_title text, sets_description boolean, new_description text, new_complete boolean,
    if_match text[], if_none_match text[]
)""",
    f"""
        {_FIND_LIVE.strip()}
        outcome := CASE
            WHEN stored.id IS NULL THEN 'missing'
            WHEN {_IS_STALE} THEN 'stale'
            WHEN (stored.title, stored.description, stored.complete) IS NOT DISTINCT FROM (
                coalesce(new_title, stored.title),
                CASE WHEN sets_description THEN new_description ELSE stored.description END,
                coalesce(new_complete, stored.complete)
            ) THEN 'unchanged'
        END;
    """,
    f"""
        moment := greatest(clock_timestamp(), stored.updated_at + interval '1 microsecond');
        UPDATE taskwell.task AS t
        SET title = coalesce(new_title, t.title),
            description = CASE WHEN sets_description THEN new_description ELSE t.description END,
            complete = coalesce(new_complete, t.complete),
            updated_at = moment,
            revision = taken
        WHERE {_STILL_LIVE}
    """,
)

_DELETE_TASK = _write_function(
    "delete_task(writer text, task_id bigint, if_match text[], if_none_match text[])",
    f"""
        {_FIND_LIVE.strip()}
        outcome := CASE
            WHEN stored.id IS NULL THEN 'missing'
            WHEN {_IS_STALE} THEN 'stale'
        END;
    """,
    f"""
        moment := clock_timestamp();
        UPDATE taskwell.task AS t SET deleted_at = moment, revision = taken
        WHERE {_STILL_LIVE}
    """,
)

# The purge takes no revision, so every condition on the revision needs one on `erased_at`, too.
_RESTORE_TASK = _write_function(
    "restore_task(writer text, task_id bigint)",
    """
        SELECT * INTO stored FROM taskwell.task AS t
        WHERE t.user_id = writer AND t.id = task_id AND t.erased_at IS NULL;
        outcome := CASE
            WHEN stored.id IS NULL THEN 'missing'
            WHEN stored.deleted_at IS NULL THEN 'unchanged'
        END;
    """,
    """
        moment := greatest(clock_timestamp(), stored.updated_at + interval '1 microsecond');
        UPDATE taskwell.task AS t SET deleted_at = NULL, updated_at = moment, revision = taken
        WHERE t.user_id = writer AND t.id = task_id AND t.erased_at IS NULL AND t.revision = stored.revision
    """,
)

# Erases the oldest tasks in the trash, of all users, and returns their number. It changes nothing that a user can see
# but the trash, so it takes no revision. It skips a task that somebody else is writing. So it waits for nobody,
# although it does not lock the row of `owner` first, and cannot be part of a deadlock.
_PURGE = f"""
CREATE FUNCTION taskwell_0003.purge(older_than_days integer, batch integer) RETURNS bigint {_WRITE} AS $$
DECLARE
    moment timestamptz := clock_timestamp();
    erased bigint;
BEGIN
    UPDATE taskwell.task AS t
    SET title = '', description = NULL, creation_digest = NULL, erased_at = moment
    -- Not a join by the id, for which PostgreSQL may read the whole table. The rows are locked, so they stay in place.
    WHERE t.ctid = ANY (ARRAY(
        SELECT old.ctid FROM taskwell.task AS old
        WHERE old.deleted_at < moment - older_than_days * interval '24 hours' AND old.title <> ''
        ORDER BY old.deleted_at LIMIT batch
        FOR UPDATE SKIP LOCKED
    ));
    GET DIAGNOSTICS erased = ROW_COUNT;
    RETURN erased;
END $$
"""

# Texts that Unicode's simple case folding makes equal are equal after this (CaseFolding.txt, statuses C and S). `lower`
# does nearly that, by a collation that knows Unicode: PostgreSQL's own from version 17 on, before that ICU's.
# `translate` folds the letters that `lower` does not, and those whose lower case depends on the letters around. It
# takes eight times as long, so only texts with such letters go through it. U+0130 has no simple folding, but `lower`
# would make an i of it, so a noncharacter takes its place.
_FOLD_CASE = """
DO $do$
BEGIN
    EXECUTE replace($template$
        CREATE FUNCTION taskwell_0003.fold_case(value text) RETURNS text
        LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
        SELECT CASE
            WHEN value COLLATE "C" ~ (
                U&'[\\0130\\00b5\\017f\\0345\\03a3\\03c2\\03d0\\03d1\\03d5\\03d6\\03f0\\03f1\\03f5\\1e9b\\1fbe\\1fd3\\1fe3\\fb05'
                || U&'\\1c80\\1c81\\1c82\\1c83\\1c84\\1c85\\1c86\\1c87\\1c88]'
            ) THEN pg_catalog.translate(
                pg_catalog.lower(pg_catalog.translate(value, U&'\\0130', U&'\\FFFF') COLLATE unicode_collation),
                U&'\\00b5\\017f\\0345\\03c2\\03d0\\03d1\\03d5\\03d6\\03f0\\03f1\\03f5\\1e9b\\1fbe\\1fd3\\1fe3\\fb05'
                    || U&'\\1c80\\1c81\\1c82\\1c83\\1c84\\1c85\\1c86\\1c87\\1c88',
                U&'\\03bc\\0073\\03b9\\03c3\\03b2\\03b8\\03c6\\03c0\\03ba\\03c1\\03b5\\1e61\\03b9\\0390\\03b0\\fb06'
                    || U&'\\0432\\0434\\043e\\0441\\0442\\0442\\044a\\0463\\a64b'
            )
            ELSE pg_catalog.lower(value COLLATE unicode_collation)
        END
        $$
    $template$, 'unicode_collation', CASE
        WHEN EXISTS (SELECT FROM pg_catalog.pg_collation WHERE collname = 'pg_c_utf8') THEN 'pg_catalog.pg_c_utf8'
        ELSE 'pg_catalog."und-x-icu"'
    END);
END $do$
"""

_FUNCTIONS = {
    "create_task(text, text, bytea, text, text, boolean)": _CREATE_TASK,
    "change_task(text, bigint, text, boolean, text, boolean, text[], text[])": _CHANGE_TASK,
    "delete_task(text, bigint, text[], text[])": _DELETE_TASK,
    "restore_task(text, bigint)": _RESTORE_TASK,
    "purge(integer, integer)": _PURGE,
    "fold_case(text)": _FOLD_CASE,
}

# Roles that write tasks by the statements of the version before; PUBLIC is not one of them.
_WRITERS = text("""
SELECT DISTINCT quote_ident(pg_get_userbyid(grantee))
FROM pg_class, aclexplode(relacl)
WHERE pg_class.oid = to_regclass('taskwell.task') AND privilege_type = 'INSERT' AND grantee NOT IN (0, relowner)
""")


def upgrade() -> None:
    context = op.get_context()
    postgres = context.dialect.name == "postgresql"
    prefix, by_code_point = ("taskwell.", ' COLLATE "C"') if postgres else ("", "")
    op.execute(f"CREATE INDEX task_by_newest ON {prefix}task ({_NEWEST})")
    for name, columns in _SORTED.items():
        listed = columns.format(by_code_point=by_code_point)
        op.execute(f"CREATE INDEX {name} ON {prefix}task ({listed}) WHERE deleted_at IS NULL")
    for name, definition in _DELETED.items():
        op.execute(f"CREATE INDEX {name} ON {prefix}task {definition}")
    # After the others, because it also blocks readers.
    op.execute(f"DROP INDEX {prefix}task_newest")
    if not postgres:
        return
    for statement in (_SCHEMA, _WRITTEN, *_FUNCTIONS.values()):
        op.execute(statement)
    for function in _FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION taskwell_0003.{function} FROM PUBLIC")
    if not context.as_sql:
        _grant_to_writers(op.get_bind())


def _grant_to_writers(connection: Connection) -> None:
    """Lets the roles that could write tasks until now call the functions, so that an upgrade needs no GRANT by hand."""
    for (role,) in connection.execute(_WRITERS).all():
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA taskwell_0003 TO {role}")
        for function in _FUNCTIONS:
            connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION taskwell_0003.{function} TO {role}")


def downgrade() -> None:
    postgres = op.get_context().dialect.name == "postgresql"
    prefix = "taskwell." if postgres else ""
    for name in ("task_by_newest", *_SORTED, *_DELETED):
        op.execute(f"DROP INDEX {prefix}{name}")
    op.execute(f"CREATE INDEX task_newest ON {prefix}task (user_id, deleted_at, id, complete)")
    if postgres:
        op.execute("DROP SCHEMA taskwell_0003 CASCADE")
