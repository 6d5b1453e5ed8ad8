"""The history of the schema, inside the package so that an installed wheel can migrate.

Revisions are numbered from 0001.
"""

import re
from collections.abc import Sequence

HEAD = "0004"
"""The revision that this version works on. Written down, so that serving need not load Alembic to know it."""

NEWER_SCHEMA = (
    "The database has a newer schema than this version of Taskwell knows. Run the newer version that migrated it."
)
FOREIGN_REVISION = (
    "The table alembic_version holds a revision that is not Taskwell's. If another program uses this table, give Taskwell "
    "a database of its own; if the value was changed by hand, restore it."
)

_NUMBER = re.compile(r"\d{4}")


def why_not_migrated(revisions: Sequence[str]) -> str | None:
    """Returns what to tell an operator whose version table holds `revisions`, or None if migrating helps."""
    if not all(_NUMBER.fullmatch(revision) and int(revision) > 0 for revision in revisions) or len(revisions) > 1:
        return FOREIGN_REVISION
    return NEWER_SCHEMA if is_newer(revisions) else None


def is_newer(revisions: Sequence[str]) -> bool:
    """Returns whether a version table that holds `revisions` belongs to a newer version."""
    return len(revisions) == 1 and bool(_NUMBER.fullmatch(revisions[0])) and revisions[0] > HEAD
