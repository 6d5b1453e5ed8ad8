"""The import itself: reads the foreign table, checks each row, and writes all of them in one transaction."""

import os
import secrets
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from taskwell.cli.copy.copying import ROWS_AT_ONCE
from taskwell.cli.copy.sides import Side, opened
from taskwell.cli.importing.columns import Columns
from taskwell.cli.importing.reading import Source
from taskwell.cli.importing.rows import BrokenRuleError, Values, task_of
from taskwell.cli.status import CommandFailed
from taskwell.database.urls import DatabaseURL
from taskwell.tasks.tables import task, user_revision

MAX_SHOWN = 20
"""Maximum number of broken rows to describe."""

_SAME_ID = "two rows have the same id; nothing was imported. For new ids, add --column id="

# Epochs are random. As for every new user, 31 bits without a sign.
_EPOCHS = 2**31 - 1


@dataclass
class Findings:
    """The numbers of rows, and descriptions of the first that break a rule."""

    rows: int = 0
    users: int = 0
    broken: int = 0
    kept_ids: bool = True
    shown: list[str] = field(default_factory=list[str])


class Reader:
    """Reads the table as tasks, by user and in the order of their last change. Rows that break a rule are left out."""

    def __init__(self, source: Source, columns: Columns) -> None:
        self._source = source
        self._columns = columns
        # One moment for all rows that lack a time, also when they are read again.
        self._now = datetime.now(UTC)

    async def tasks(self, findings: Findings | None = None) -> AsyncGenerator[Values]:
        """Yields the tasks, and notes in `findings` what it finds."""
        names = list(self._columns)
        order = [self._columns[name] for name in ("user_id", "updated_at", "created_at", "id") if name in names]
        user = None
        async for values in self._source.rows(list(self._columns.values()), order):
            row = dict(zip(names, values, strict=True))
            try:
                found = task_of(row, self._now)
            except BrokenRuleError as error:
                if findings:
                    _note_broken(findings, row, str(error))
                continue
            if findings:
                findings.rows += 1
                findings.users += found["user_id"] != user
                findings.kept_ids &= found["id"] is not None
                user = found["user_id"]
            yield found

    async def examine(self) -> Findings:
        """Reads the whole table, and returns what an import would find."""
        findings = Findings()
        async for _ in self.tasks(findings):
            pass
        return findings


def _note_broken(findings: Findings, row: Values, reason: str) -> None:
    findings.broken += 1
    if len(findings.shown) < MAX_SHOWN:
        findings.shown.append(f"{'id ' + str(row['id']) if row.get('id') is not None else 'a row'}: {reason}")


async def write(reader: Reader, target: DatabaseURL, *, keep_ids: bool) -> None:
    """Writes all tasks, or none. Each user's changes get the revisions 1, 2, 3, and so on.

    Raises:
        CommandFailed: the target has tasks already, or two rows have the same id.
        CopyRefused: the role lacks a right.
        DatabaseError: a database cannot be used, or failed.
    """
    async with opened("the target", target, to_write=True) as side:
        if await side.count(task):
            raise CommandFailed("the target has tasks already; import into a new database, and run: taskwell migrate")
        highest_id, revisions = await side.highest_id(), dict[str, int]()
        page: list[Values] = []
        async for found in reader.tasks():
            user = str(found["user_id"])
            revisions[user] = revision = revisions.get(user, 0) + 1
            highest_id = max(highest_id, int(str(found["id"]))) if keep_ids else highest_id + 1
            page.append(_stored(found if keep_ids else found | {"id": highest_id}, revision))
            if len(page) == ROWS_AT_ONCE:
                await _write_page(side, page)
                page = []
        await _write_page(side, page)
        # A later page with the same id would have replaced the task.
        if await side.count(task) != sum(revisions.values()):
            raise CommandFailed(_SAME_ID)
        await _write_owners(side, revisions)
        await side.commit(highest_id)


async def _write_page(side: Side, page: Sequence[Values]) -> None:
    if len({row["id"] for row in page}) < len(page):
        raise CommandFailed(_SAME_ID)
    if page:
        await side.write(task, page)


async def _write_owners(side: Side, revisions: dict[str, int]) -> None:
    owners: Sequence[Values] = [
        {"user_id": user, "revision": revision, "epoch": 1 + secrets.randbelow(_EPOCHS)}
        for user, revision in revisions.items()
    ]
    for start in range(0, len(owners), ROWS_AT_ONCE):
        await side.write(user_revision, owners[start : start + ROWS_AT_ONCE])


def _stored(found: Values, revision: int) -> Values:
    """Returns all columns of the row, in the order of the table."""
    added = {"revision": revision, "creation_key": os.urandom(16).hex()}
    return {column.name: (found | added).get(column.name) for column in task.columns}
