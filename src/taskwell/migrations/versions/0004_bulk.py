"""On PostgreSQL, add functions that apply a batch of writes and erase a user.

On both engines, add an index for the trash in the order of ids.

Revision ID: 0004
Revises: 0003
"""

from alembic import op
from sqlalchemy import Connection, text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The sign is that of `task_by_newest`, so that both are read in the same order.
_TRASH_BY_ID = (
    "CREATE INDEX task_trash_by_id ON {prefix}task (user_id, (-id)) WHERE deleted_at IS NOT NULL AND erased_at IS NULL"
)

# --- functions on PostgreSQL

# They have the options of the functions in 0003, for the same reasons.
_WRITE = "LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog"

# Every other writer of this user waits for this row, and locks it first, too. It takes no revision. `SET` only locks: no
# row meets the condition.
_LOCK_OWNER = """
        INSERT INTO taskwell.owner AS o (user_id, revision, epoch)
        VALUES (writer, 0, floor(random() * 2147483647)::integer)
        ON CONFLICT (user_id) DO UPDATE SET revision = o.revision WHERE false;
"""

# Returns a row for each operation. If one fails, nothing is changed, and its row is the last. The owner is locked before
# the first decision: otherwise, another batch could commit between an operation that changes nothing, and so locks
# nothing, and the next one.
_APPLY_BATCH = f"""
CREATE FUNCTION taskwell_0003.apply_batch(writer text, operations jsonb) RETURNS SETOF taskwell_0003.written {_WRITE} AS $$
DECLARE
    operation record;
    result taskwell_0003.written;
    results taskwell_0003.written[];
BEGIN
    BEGIN
        {_LOCK_OWNER.strip()}
        FOR operation IN SELECT * FROM ROWS FROM (jsonb_to_recordset(operations) AS (
            op text, creation_key text, creation_digest text, id bigint, title text, sets_description boolean,
            description text, complete boolean, if_match text[]
        )) WITH ORDINALITY AS o ORDER BY o.ordinality LOOP
            CASE operation.op
                WHEN 'create' THEN
                    result := taskwell_0003.create_task(
                        writer, operation.creation_key, decode(operation.creation_digest, 'hex'), operation.title,
                        operation.description, operation.complete
                    );
                WHEN 'change' THEN
                    result := taskwell_0003.change_task(
                        writer, operation.id, operation.title, operation.sets_description, operation.description,
                        operation.complete, operation.if_match, NULL
                    );
                WHEN 'delete' THEN
                    -- What is deleted stays so, whatever its revision was: a batch can be sent again.
                    SELECT t.id, t.user_id, t.title, t.description, t.complete, t.created_at, t.updated_at, t.revision,
                        'unchanged'
                    INTO result FROM taskwell.task AS t
                    WHERE t.user_id = writer AND t.id = operation.id AND t.deleted_at IS NOT NULL;
                    IF NOT FOUND THEN
                        result := taskwell_0003.delete_task(writer, operation.id, operation.if_match, NULL);
                    END IF;
            END CASE;
            results := results || result;
            IF result.outcome IN ('missing', 'stale', 'gone', 'other_values') THEN
                RAISE EXCEPTION USING ERRCODE = 'TW001';
            END IF;
        END LOOP;
    EXCEPTION WHEN SQLSTATE 'TW001' THEN
        -- Everything in this block is rolled back, except the variables.
        NULL;
    END;
    RETURN QUERY SELECT * FROM unnest(results);
END $$
"""

_ERASE_OWNER = f"""
CREATE FUNCTION taskwell_0003.erase_owner(writer text) RETURNS void {_WRITE} AS $$
BEGIN
        {_LOCK_OWNER.strip()}
    DELETE FROM taskwell.task AS t WHERE t.user_id = writer;
    DELETE FROM taskwell.owner AS o WHERE o.user_id = writer;
END $$
"""

_FUNCTIONS = {"apply_batch(text, jsonb)": _APPLY_BATCH, "erase_owner(text)": _ERASE_OWNER}

# Roles that may call the functions of the version before; PUBLIC and their owner are not among them.
_CALLERS = text("""
SELECT DISTINCT quote_ident(pg_get_userbyid(grantee))
FROM pg_proc, aclexplode(proacl)
WHERE pg_proc.oid = to_regprocedure('taskwell_0003.create_task(text, text, bytea, text, text, boolean)')
    AND privilege_type = 'EXECUTE' AND grantee NOT IN (0, proowner)
""")


def upgrade() -> None:
    context = op.get_context()
    postgres = context.dialect.name == "postgresql"
    op.execute(_TRASH_BY_ID.format(prefix="taskwell." if postgres else ""))
    if not postgres:
        return
    for signature, function in _FUNCTIONS.items():
        op.execute(function)
        op.execute(f"REVOKE ALL ON FUNCTION taskwell_0003.{signature} FROM PUBLIC")
    if not context.as_sql:
        _grant_to_callers(op.get_bind())


def _grant_to_callers(connection: Connection) -> None:
    """Lets the roles that could write tasks until now call the functions, so that an upgrade needs no GRANT by hand."""
    for (role,) in connection.execute(_CALLERS).all():
        for function in _FUNCTIONS:
            connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION taskwell_0003.{function} TO {role}")


def downgrade() -> None:
    postgres = op.get_context().dialect.name == "postgresql"
    op.execute(f"DROP INDEX {'taskwell.' if postgres else ''}task_trash_by_id")
    if postgres:
        for signature in _FUNCTIONS:
            op.execute(f"DROP FUNCTION taskwell_0003.{signature}")
