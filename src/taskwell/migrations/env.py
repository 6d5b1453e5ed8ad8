"""Alembic's environment. What it runs on comes from `taskwell.migrations.runner`; there is no alembic.ini."""

from alembic import context
from sqlmodel import SQLModel

import taskwell.tasks.tables  # noqa: F401  # pyright: ignore[reportUnusedImport] - it fills the metadata

# A statement that waits for a table's lock makes every request behind it wait, too, so it gives up soon. What it does
# when it has the lock may take longer than the time-out that the role has for requests.
_TIMEOUTS_POSTGRES = ("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '10min'")

context.configure(
    **context.config.attributes,
    target_metadata=SQLModel.metadata,
    literal_binds=context.is_offline_mode(),
    # Of SQLite Alembic does not expect it.
    transactional_ddl=True,
)
with context.begin_transaction():
    if context.get_context().dialect.name == "postgresql":
        for timeout in _TIMEOUTS_POSTGRES:
            context.execute(timeout)
    context.run_migrations()
