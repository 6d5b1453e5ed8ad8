"""Alembic's environment. `taskwell.migrations.runner` gives it the connection; there is no alembic.ini."""

from alembic import context
from sqlalchemy import MetaData
from sqlmodel import SQLModel

import taskwell.tasks.tables  # noqa: F401  # pyright: ignore[reportUnusedImport] - it fills the metadata
from taskwell.database.schema import SCHEMA
from taskwell.migrations.move import claim_schema

# A statement that waits for the lock of a table makes every request behind it wait too, so it gives up soon. With the
# lock, it may take longer than the timeout that the role has for requests.
_TIMEOUTS_POSTGRES = ("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '10min'")


def _tables_on_postgres() -> MetaData:
    metadata = MetaData()
    for table in SQLModel.metadata.sorted_tables:
        table.to_metadata(metadata, schema=SCHEMA)
    return metadata


def _is_ours(name: str | None, kind: str, parents: object) -> bool:
    """Leaves the tables of other programs out of a comparison."""
    del parents
    return kind != "schema" or name == (SCHEMA if postgres else None)


def _can_be_compared(schema_object: object, name: str | None, kind: str, *further: object) -> bool:
    """Leaves out what SQLAlchemy cannot read from SQLite: indexes of an expression."""
    del schema_object, further
    return postgres or kind != "index" or name not in {"task_by_newest", "task_trash_by_id"}


attributes = context.config.attributes
postgres = attributes.get("dialect_name", "").startswith("postgresql") or (
    not context.is_offline_mode() and attributes["connection"].dialect.name == "postgresql"
)
if postgres and not context.is_offline_mode():
    # A role named `taskwell` has our schema as its default, and Alembic then compares it under no name. The attribute
    # is the one that Alembic's cookbook sets: https://alembic.sqlalchemy.org/en/latest/cookbook.html
    attributes["connection"].dialect.default_schema_name = "public"

context.configure(
    **attributes,
    target_metadata=_tables_on_postgres() if postgres else SQLModel.metadata,
    version_table_schema=SCHEMA if postgres else None,
    include_schemas=postgres,
    include_name=_is_ours,
    include_object=_can_be_compared,
    literal_binds=context.is_offline_mode(),
    # Alembic's default for SQLite is False.
    transactional_ddl=True,
)
with context.begin_transaction():
    if postgres:
        for timeout in _TIMEOUTS_POSTGRES:
            context.execute(timeout)
        if context.is_offline_mode():
            context.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        else:
            claim_schema(attributes["connection"])
    context.run_migrations()
