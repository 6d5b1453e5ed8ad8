"""Taskwell's statements, as the peers and pgbench run them too."""

import json
import re

from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from taskwell.database.interface import CompiledStatement, compile_statement
from taskwell.tasks import statements

_DIALECT = PGDialect_asyncpg()  # type: ignore[no-untyped-call]

NAMES = ("get_task", "list_tasks", "create_task", "change_task", "count_tasks")


def as_json() -> str:
    """Each statement's text, and the names of its parameters in their order."""
    compiled = {name: _compiled(name) for name in NAMES}
    return json.dumps({name: (statement.sql, statement.names) for name, statement in compiled.items()})


def for_pgbench(name: str, **values: str) -> str:
    """The statement with pgbench's variables, or with these literals, in place of its parameters."""
    statement = _compiled(name)

    def parameter(match: re.Match[str]) -> str:
        of = statement.names[int(match[1]) - 1]
        return values.get(of, f":{of}")

    return re.sub(r"\s+", " ", re.sub(r"\$(\d+)", parameter, statement.sql)) + ";\n"


def _compiled(name: str) -> CompiledStatement:
    return compile_statement(getattr(statements, name), _DIALECT)
