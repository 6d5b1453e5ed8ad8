"""Does the database have the schema that this version works on?"""

import asyncio

from sqlalchemy import Select, String, column, select, table

from taskwell.database.interface import Query
from taskwell.errors import DatabaseError, NotMigrated
from taskwell.migrations import HEAD, NEWER_SCHEMA

DEADLINE_SECONDS = 5

schema_revision: Select[str] = select(column("version_num", String)).select_from(table("alembic_version"))


async def check_schema(schema_revision: Query) -> None:
    """Looks whether the database has the schema that this version works on.

    Raises:
        NotMigrated: it has another, or none.
        DatabaseError: it cannot be reached, or does not answer in five seconds.
    """
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            found = [revision for (revision,) in await schema_revision()]
    except TimeoutError:
        raise DatabaseError(cause=f"no answer within {DEADLINE_SECONDS} s") from None
    if found != [HEAD]:
        # Our revisions are numbered; one that is no lower number is of a later version, or of another program.
        behind = all(str(revision) < HEAD for revision in found)
        raise NotMigrated(None if behind else NEWER_SCHEMA, cause=f"revision {found}, not {HEAD}")
