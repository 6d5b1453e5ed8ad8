"""Create the tables, and the function or triggers that give each write its user's next revision.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

from taskwell.database.schema import SCHEMA

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_OPAQUE = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")

# The lock of the row is held until the calling statement is committed. So the writers of one user queue here, and their
# revisions appear in commit order.
_NEXT_REVISION_POSTGRES = """
CREATE FUNCTION taskwell.next_revision(writer text) RETURNS bigint LANGUAGE plpgsql VOLATILE
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

# A write computes the next revision in its own statement, and these triggers store it. SQLite has one writer at a time,
# so no other write can come between.
_KEEP_REVISION_SQLITE = """
CREATE TRIGGER task_keeps_revision_on_{event} AFTER {when} ON task BEGIN
    INSERT INTO owner (user_id, revision, epoch)
    VALUES (new.user_id, new.revision, abs(random() % 2147483647))
    ON CONFLICT (user_id) DO UPDATE SET revision = excluded.revision;
END
"""


def upgrade() -> None:
    postgres = op.get_context().dialect.name == "postgresql"
    schema = SCHEMA if postgres else None
    op.create_table(
        "owner",
        sa.Column("user_id", _OPAQUE, primary_key=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        schema=schema,
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "task",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            sa.Identity(always=True),
            primary_key=True,
        ),
        sa.Column("user_id", _OPAQUE, nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column(
            "complete",
            sa.Boolean(create_constraint=True, name="task_complete"),
            nullable=False,
            server_default=sa.false(),
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("creation_key", _OPAQUE, nullable=False),
        sa.Column("creation_digest", sa.LargeBinary(), nullable=True),
        sa.CheckConstraint("erased_at IS NOT NULL OR length(title) BETWEEN 1 AND 200", name="task_title_length"),
        sa.CheckConstraint("length(description) <= 1000", name="task_description_length"),
        sa.UniqueConstraint("user_id", "creation_key", name="task_creation_key"),
        schema=schema,
        sqlite_autoincrement=True,
    )
    op.create_index("task_newest", "task", ["user_id", "deleted_at", "id", "complete"], schema=schema)
    op.create_index("task_revision", "task", ["user_id", "revision"], schema=schema)
    if postgres:
        op.execute(_NEXT_REVISION_POSTGRES)
    else:
        op.execute(_KEEP_REVISION_SQLITE.format(event="insert", when="INSERT"))
        op.execute(_KEEP_REVISION_SQLITE.format(event="update", when="UPDATE OF revision"))


def downgrade() -> None:
    postgres = op.get_context().dialect.name == "postgresql"
    schema = SCHEMA if postgres else None
    op.drop_table("task", schema=schema)
    op.drop_table("owner", schema=schema)
    if postgres:
        op.execute(f"DROP FUNCTION {SCHEMA}.next_revision(text)")
