"""Alembic's environment. The connection comes from `taskwell.migrations.runner`; there is no alembic.ini."""

from alembic import context
from sqlmodel import SQLModel

import taskwell.tasks.models  # noqa: F401  # pyright: ignore[reportUnusedImport] - it fills the metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=SQLModel.metadata)
with context.begin_transaction():
    context.run_migrations()
