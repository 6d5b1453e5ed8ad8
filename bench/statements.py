"""Taskwell's statements, in the forms that the peers and pgbench need."""

import json
import re

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.base import Executable

from taskwell.database.interface import CompiledStatement, compile_statement
from taskwell.tasks import statements
from taskwell.tasks.tables import task

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

STATEMENTS: dict[str, Executable] = {
    "get_task": statements.get_task,
    "list_tasks": statements.list_tasks(by_state=False),
    "create_task": statements.create_task,
    "change_task": statements.change_task,
    # The part of `list_tasks` that grows with the number of tasks.
    "count_tasks": select(func.count())
    .select_from(task)
    .where(task.c.user_id == statements.owner, task.c.deleted_at.is_(None)),
}


def as_json() -> str:
    """Returns each statement's text and the names of its parameters, in order."""
    compiled = {name: _compiled(name) for name in STATEMENTS}
    return json.dumps({name: (statement.sql, statement.names) for name, statement in compiled.items()})


def for_pgbench(name: str, **values: str) -> str:
    """Returns the statement with its parameters replaced by `values`, or else by pgbench's variables."""
    statement = _compiled(name)

    def parameter(match: re.Match[str]) -> str:
        parameter_name = statement.names[int(match[1]) - 1]
        return values.get(parameter_name, f":{parameter_name}")

    return re.sub(r"\s+", " ", re.sub(r"\$(\d+)", parameter, statement.sql)) + ";\n"


def _compiled(name: str) -> CompiledStatement:
    return compile_statement(STATEMENTS[name], _DIALECT)
