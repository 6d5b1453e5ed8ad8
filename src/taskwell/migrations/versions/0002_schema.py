"""On PostgreSQL, move everything into the schema `taskwell`, and make the function independent of the `search_path`.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

from taskwell.migrations.move import find_old_schema, move_tables

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_NEXT_REVISION = """
CREATE OR REPLACE FUNCTION taskwell.next_revision(writer text) RETURNS bigint LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog AS $$
DECLARE taken bigint;
BEGIN
    INSERT INTO taskwell.owner AS o (user_id, revision, epoch)
    VALUES (writer, 1, floor(random() * 2147483647)::integer)
    ON CONFLICT (user_id) DO UPDATE SET revision = o.revision + 1
    RETURNING o.revision INTO taken;
    RETURN taken;
END $$
"""


def upgrade() -> None:
    context = op.get_context()
    if context.dialect.name != "postgresql":
        return
    # A printed script is for an empty database.
    if not context.as_sql and (old := find_old_schema(op.get_bind())):
        move_tables(op.get_bind(), old)
    op.execute(_NEXT_REVISION)


def downgrade() -> None:
    """Changes nothing: 0001 of this version has its tables in the same schema, and older programs use the old names."""
