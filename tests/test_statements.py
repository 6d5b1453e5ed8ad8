"""What the database is asked: how often, and for whom."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Delete, Insert, Select, Table, Update, bindparam
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.operators import eq

from support.servers import server_of
from support.service import Client, Service
from taskwell.tasks import statements
from taskwell.tasks.tables import task

STATEMENTS: dict[str, Executable] = {
    name: value for name, value in vars(statements).items() if isinstance(value, Select | Insert | Update | Delete)
} | {
    "list_tasks": statements.list_tasks(by_state=False),
    "list_tasks_by_state": statements.list_tasks(by_state=True),
}


# --- for whom


def _parts(statement: Executable) -> Iterator[Select[object] | Insert | Update | Delete]:
    """The statement and every statement within it."""
    for element in visitors.iterate(cast("ClauseElement", statement)):
        if isinstance(element, Select | Insert | Update | Delete):
            yield element


def _is_bound_to_owner(part: Select[object] | Insert | Update | Delete) -> bool:
    if isinstance(part, Insert):
        return _is_owner(part._values["user_id"]) if part._values else False
    sources = [part.table] if isinstance(part, Update | Delete) else part.get_final_froms()
    # Of a join its sides; subqueries are parts of their own.
    tables = [table for source in sources for table in source._from_objects if isinstance(table, Table)]
    return all(_names_owner(part, table) for table in tables)


def _names_owner(part: Select[object] | Update | Delete, table: Table) -> bool:
    return any(
        isinstance(rule, BinaryExpression)
        and rule.operator is eq
        and rule.left is table.c.user_id
        and _is_owner(rule.right)
        for rule in part._where_criteria
    )


def _is_owner(value: ClauseElement) -> bool:
    return getattr(value, "key", None) == "owner" and isinstance(value, type(bindparam("owner")))


def test_the_walk_finds_the_statements() -> None:
    assert STATEMENTS.keys() >= {"create_task", "get_task", "change_task", "delete_task", "list_tasks"}


@pytest.mark.parametrize("name", STATEMENTS)
def test_every_statement_is_bound_to_its_owner(name: str) -> None:
    parts = list(_parts(STATEMENTS[name]))
    assert parts
    assert all(_is_bound_to_owner(part) for part in parts)


def test_the_walk_notices_a_statement_that_is_not() -> None:
    everybodys = task.select().where(task.c.id == bindparam("id"))
    assert not any(_is_bound_to_owner(part) for part in _parts(everybodys))


# --- how often


@contextmanager
def _recorded(service: Service, client: Client) -> Iterator[list[str]]:
    """The statements that reach the database for `client`, as the database itself tells them."""
    asked: list[str] = []
    if service.engine == "sqlite":
        tasks = service.state["tasks"]
        connections = [query._worker.connection for query in (tasks._get, tasks._change)]
        for connection in connections:
            connection.set_trace_callback(asked.append)
        yield asked
        for connection in connections:
            connection.set_trace_callback(None)
        # A statement is told again for each step of a trigger that it sets off.
        asked[:] = [statement for statement, _ in groupby(asked)]
    else:
        server = server_of(service.engine)
        if "log" not in server:
            pytest.skip("TEST_DATABASE_URL names a server whose log is not at hand")
        log = Path(server["log"])
        start = log.stat().st_size
        yield asked
        # The user's name is in the parameters of each of their statements, and nowhere else.
        pattern = rf"execute \S+: ([^\n]*(?:\n\t[^\n]*)*)\n[^\n]*DETAIL: +[Pp]arameters:[^\n]*{client.user}"
        asked += re.findall(pattern, _settled(log)[start:].decode(errors="replace"))


def _settled(log: Path) -> bytes:
    """The log once it has stopped growing; its writer is another process."""
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(0.05)
    return log.read_bytes()


@pytest.mark.parametrize(
    ("method", "body", "path", "count"),
    [
        ("GET", None, "", 1),
        ("GET", None, "?complete=true", 1),
        ("GET", None, "?offset=1000", 1),
        ("POST", {"title": "new"}, "", 1),
        ("GET", None, "/{id}", 1),
        ("PUT", {"title": "new", "complete": True}, "/{id}", 1),
        ("PATCH", {"complete": True}, "/{id}", 1),
        ("PATCH", {"title": "Buy milk"}, "/{id}", 2),
        ("PATCH", {"complete": True}, "/0", 2),
        ("DELETE", None, "/{id}", 1),
        ("GET", None, "/0", 1),
        ("DELETE", None, "/0", 1),
    ],
)
def test_a_request_is_one_statement_and_a_second_only_where_the_first_found_nothing(
    service: Service, alice: Client, method: str, body: object, path: str, count: int
) -> None:
    task = alice.create()
    with _recorded(service, alice) as asked:
        answer = alice.request(method, alice.home + path.format(id=task["id"]), json=body)
    assert answer.status_code < 500
    assert len(asked) == count, asked


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_refused_body_reaches_no_database(service: Service, alice: Client, method: str) -> None:
    with _recorded(service, alice) as asked:
        alice.request(method, "" if method == "POST" else 1, json={"title": ""})
    assert asked == []
