"""The two tables."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    false,
)
from sqlmodel import Field, SQLModel

MAX_TITLE = 200
MAX_DESCRIPTION = 1000

# User identifiers and keys are opaque: compared byte by byte, whatever the database's locale.
_OPAQUE = Text(collation="C").with_variant(Text(), "sqlite")


class Task(SQLModel, table=True):
    """One task. Deleted ones stay, marked, until they are erased; erased ones stay as tombstones with their key."""

    __table_args__ = (
        CheckConstraint(f"erased_at IS NOT NULL OR length(title) BETWEEN 1 AND {MAX_TITLE}", name="task_title_length"),
        CheckConstraint(f"length(description) <= {MAX_DESCRIPTION}", name="task_description_length"),
        UniqueConstraint("user_id", "creation_key", name="task_creation_key"),
        # Read backwards for "newest first". All that lists are filtered by is in it, so that they are counted from here
        # alone: to visit 100,000 tasks among a million others PostgreSQL read 15,033 pages where it now reads 579.
        Index("task_newest", "user_id", "deleted_at", "id", "complete"),
        Index("task_revision", "user_id", "revision"),
        # Without it SQLite gives the id of the newest row again once that row is gone.
        {"sqlite_autoincrement": True},
    )

    id: int = Field(
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True)
    )
    user_id: str = Field(sa_type=_OPAQUE)
    # TEXT with a CHECK: VARCHAR(200) silently cuts trailing blanks to fit.
    title: str = Field(sa_type=Text)
    description: str | None = Field(sa_type=Text)
    complete: bool = Field(
        sa_column=Column(Boolean(create_constraint=True, name="task_complete"), nullable=False, server_default=false())
    )
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None
    erased_at: datetime | None
    revision: int = Field(sa_type=BigInteger)
    creation_key: str = Field(sa_type=_OPAQUE)
    creation_digest: bytes | None = Field(sa_type=LargeBinary)


class Owner(SQLModel, table=True):
    """One user's revision. `epoch` is random, made when the row is, and tells one life of the row from the next."""

    # Half-empty pages let the counter's updates stay within their page (heap-only tuples).
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    user_id: str = Field(sa_type=_OPAQUE, primary_key=True)
    revision: int = Field(sa_type=BigInteger)
    epoch: int


# The same tables, as SQLAlchemy Core's statements name them.
task: Table = SQLModel.metadata.tables["task"]
user_revision: Table = SQLModel.metadata.tables["owner"]
