"""Check that the database has the schema of this version."""

import asyncio

from sqlalchemy import Column, MetaData, Select, String, Table, select

from taskwell.database.interface import Query
from taskwell.errors import DatabaseError, NotMigrated
from taskwell.migrations import HEAD, why_not_migrated

DEADLINE_SECONDS = 5

_version = Table("alembic_version", MetaData(), Column("version_num", String, nullable=False))

schema_revision: Select[str] = select(_version.c.version_num)


async def check_schema(schema_revision: Query) -> None:
    """Checks that the database has the schema of this version.

    Raises:
        NotMigrated: the database has another schema, or none.
        DatabaseError: the database cannot be reached, or does not reply within five seconds.
    """
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            found = [str(revision) for (revision,) in await schema_revision()]
    except TimeoutError:
        raise DatabaseError(cause=f"no reply within {DEADLINE_SECONDS} s") from None
    if found != [HEAD]:
        raise NotMigrated(why_not_migrated(found), cause=f"revision {found}, not {HEAD}")
