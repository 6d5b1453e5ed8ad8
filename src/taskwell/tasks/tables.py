"""The tables: tasks, and the revision of each user."""

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
    and_,
    column,
    false,
    literal_column,
)
from sqlalchemy.sql.elements import ColumnElement
from sqlmodel import Field, SQLModel

MAX_TITLE = 200
MAX_DESCRIPTION = 1000

# User identifiers and keys are opaque: they are compared byte by byte, whatever locale the database has.
_OPAQUE = Text(collation="C").with_variant(Text(), "sqlite")


def _sort_index(name: str) -> Index:
    """Returns the index of lists that are sorted by the column. `complete` is for those that are filtered by it."""
    live = column("deleted_at").is_(None)
    # Rendered behind the name of the column: titles are sorted by code point.
    ops = {"title": 'COLLATE "C"'}
    columns = ("user_id", name, "id", "complete")
    return Index(f"task_by_{name}", *columns, postgresql_where=live, postgresql_ops=ops, sqlite_where=live)


def _index_of_deleted(name: str, *columns: str | ColumnElement[int], only: ColumnElement[bool]) -> Index:
    deleted = and_(column("deleted_at").is_not(None), only)
    return Index(name, *columns, postgresql_where=deleted, sqlite_where=deleted)


class Task(SQLModel, table=True):
    """One task. A deleted task stays, marked as deleted, until it is erased. An erased task keeps only its keys."""

    __table_args__ = (
        CheckConstraint(f"erased_at IS NOT NULL OR length(title) BETWEEN 1 AND {MAX_TITLE}", name="task_title_length"),
        CheckConstraint(f"length(description) <= {MAX_DESCRIPTION}", name="task_description_length"),
        UniqueConstraint("user_id", "creation_key", name="task_creation_key"),
        # Newest first. With a plain `id`, PostgreSQL would walk the primary key instead, over the rows of all users. It
        # has every column that lists are filtered by, so that the index alone is enough to count them: for 100,000
        # tasks among a million PostgreSQL reads 579 pages instead of 15,033.
        Index("task_by_newest", "user_id", "deleted_at", -column("id", BigInteger), "complete"),
        *(_sort_index(name) for name in ("created_at", "updated_at", "title")),
        Index("task_revision", "user_id", "revision"),
        # The trash of a user. The last two columns let SQLite count it from the index alone.
        _index_of_deleted(
            "task_trash", "user_id", "revision", "deleted_at", "erased_at", only=column("erased_at").is_(None)
        ),
        # The trash in the order of `task_by_newest`, for reading all tasks of a user by their ids.
        _index_of_deleted("task_trash_by_id", "user_id", -column("id", BigInteger), only=column("erased_at").is_(None)),
        # For the purge. An erased task has no title. By `erased_at`, PostgreSQL would use this index for the trash of a
        # user, too, and read that of all users.
        _index_of_deleted("task_deleted_at", "deleted_at", only=column("title") != literal_column("''")),
        # Otherwise SQLite reuses the id of the newest row once that row is deleted.
        {"sqlite_autoincrement": True},
    )

    id: int = Field(
        sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), Identity(always=True), primary_key=True)
    )
    user_id: str = Field(sa_type=_OPAQUE)
    # TEXT with a CHECK, because VARCHAR(200) silently cuts trailing blanks that do not fit.
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
    """The revision of one user. `epoch` is random and set with the row, so that a new row differs from an erased one."""

    # Half-empty pages let an update of the counter stay within its page (a heap-only tuple).
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)

    user_id: str = Field(sa_type=_OPAQUE, primary_key=True)
    revision: int = Field(sa_type=BigInteger)
    epoch: int


# The same tables for statements in SQLAlchemy Core.
task: Table = SQLModel.metadata.tables["task"]
user_revision: Table = SQLModel.metadata.tables["owner"]
