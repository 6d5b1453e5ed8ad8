"""Taskwell's statements, in the forms that the peers and pgbench need."""

import json
import re

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.base import Executable

from taskwell.database.interface import CompiledStatement, compile_statement
from taskwell.database.postgres import call_of
from taskwell.tasks import statements, writes
from taskwell.tasks.statements import PageShape
from taskwell.tasks.tables import task

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

_READS: dict[str, Executable] = {
    "get_task": statements.get_task,
    "list_tasks": statements.list_tasks(PageShape()),
    # The part of `list_tasks` that grows with the number of tasks.
    "count_tasks": select(func.count())
    .select_from(task)
    .where(task.c.user_id == statements.owner, task.c.deleted_at.is_(None)),
}

STATEMENTS: dict[str, CompiledStatement] = {
    name: compile_statement(statement, _DIALECT) for name, statement in _READS.items()
} | {write.name: call_of(write) for write in (writes.create_task, writes.change_task)}


def as_json() -> str:
    """Returns each statement's text and the names of its parameters, in order."""
    return json.dumps({name: (statement.sql, statement.names) for name, statement in STATEMENTS.items()})


def for_pgbench(name: str, **values: str) -> str:
    """Returns the statement with its parameters replaced by `values`, or else by pgbench's variables."""
    statement = STATEMENTS[name]

    def parameter(match: re.Match[str]) -> str:
        parameter_name = statement.names[int(match[1]) - 1]
        return values.get(parameter_name, f":{parameter_name}")

    return re.sub(r"\s+", " ", re.sub(r"\$(\d+)", parameter, statement.sql)) + ";\n"
