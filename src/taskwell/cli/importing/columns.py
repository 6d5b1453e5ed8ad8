"""Which column of a foreign table holds which member of a task."""

import re
from collections.abc import Mapping, Sequence

from taskwell.errors import SettingsError

MEMBERS = ("id", "user_id", "title", "description", "complete", "created_at", "updated_at")
REQUIRED = ("user_id", "title")

# The names that back ends use, in lower case and without underscores.
_NAMES = {
    "id": ("id", "taskid", "todoid"),
    "user_id": ("userid", "ownerid", "owner", "user", "authorid", "createdby"),
    "title": ("title", "name", "text", "task", "todo", "content"),
    "description": ("description", "details", "notes", "note", "body"),
    "complete": ("complete", "completed", "iscomplete", "iscompleted", "done", "isdone", "finished"),
    "created_at": ("createdat", "created", "createdon", "insertedat", "datecreated"),
    "updated_at": ("updatedat", "updated", "updatedon", "modifiedat", "lastmodified"),
}

Columns = Mapping[str, str]
"""The name of the column for each member that has one."""


def choose(columns: Sequence[str], told: Mapping[str, str]) -> Columns:
    """Returns the columns of the members: those that `told` names, and guesses for the others.

    Raises:
        SettingsError: a told member or column does not exist, or a required member has no column.
    """
    for member, column in told.items():
        if member not in MEMBERS:
            raise SettingsError(f"--column: a task has no {member!r}, but {', '.join(MEMBERS)}")
        if column and column not in columns:
            raise SettingsError(f"--column: the table has no column {column!r}, but {', '.join(columns)}")
    chosen = {member: told.get(member, _guess(member, columns, told)) for member in MEMBERS}
    if missing := [member for member in REQUIRED if not chosen[member]]:
        options = " ".join(f"--column {member}=…" for member in missing)
        raise SettingsError(f"no column looks like {' or '.join(missing)}; add {options}, from {', '.join(columns)}")
    return {member: column for member, column in chosen.items() if column}


def _guess(member: str, columns: Sequence[str], told: Mapping[str, str]) -> str:
    plain = {re.sub("[^a-z0-9]", "", column.lower()): column for column in columns if column not in told.values()}
    return next((plain[name] for name in _NAMES[member] if name in plain), "")
