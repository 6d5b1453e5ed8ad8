"""The service asks the database once for a request, and only for the owner's rows."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

import pytest
from sqlalchemy import (
    Integer,
    Text,
    and_,
    bindparam,
    column,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    table,
    true,
    update,
)
from sqlalchemy.sql.base import Executable

from support.servers import server_of
from support.service import Client, Service
from taskwell.database.interface import Database, NotBoundToOwnerError, Write
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.database.watched import watched
from taskwell.tasks import export, statements, writes
from taskwell.tasks.tables import task, user_revision

# --- for whom

OWNER = bindparam("owner", type_=Text)
OTHER = bindparam("other", type_=Text)
ID = bindparam("id", type_=Integer)
ALIAS = task.alias()

BOUND: dict[str, Executable] = {
    "read": select(task.c.id).where(task.c.user_id == OWNER),
    "aliased": select(ALIAS.c.id).where(ALIAS.c.user_id == OWNER),
    "update": update(task).where(task.c.user_id == OWNER).values(complete=true()),
    "insert": insert(task).values(user_id=OWNER),
    "no user's rows": select(table("alembic_version", column("version_num")).c.version_num),
    "join": select(task.c.id)
    .join(user_revision, user_revision.c.user_id == task.c.user_id)
    .where(task.c.user_id == OWNER, user_revision.c.user_id == OWNER),
    "owners of streams": select(watched.c.user_id, task.c.id).select_from(
        watched.outerjoin(task, and_(task.c.user_id == watched.c.user_id, task.c.complete))
    ),
}
NOT_BOUND: dict[str, Executable] = {
    "all rows": select(task.c.id),
    "other user": select(task.c.id).where(task.c.user_id == OTHER),
    "by id": select(task.c.id).where(task.c.id == ID),
    "or by id": select(task.c.id).where((task.c.user_id == OWNER) | (task.c.id == ID)),
    "update": update(task).where(task.c.id == ID).values(complete=true()),
    "delete": delete(task),
    "insert": insert(task).values(user_id=OTHER),
    "count": select(func.count()).select_from(task),
    "subquery": select(task.c.id).where(task.c.user_id == OWNER, task.c.id.in_(select(ALIAS.c.id))),
    "exists": select(literal_column("1")).where(exists(select(task.c.id))),
    "join": select(task.c.id)
    .join(user_revision, user_revision.c.user_id == task.c.user_id)
    .where(user_revision.c.user_id == OWNER),
    "outer join": select(task.c.id).select_from(
        task.outerjoin(user_revision, and_(user_revision.c.user_id == OWNER, task.c.user_id == OWNER))
    ),
    "full join": select(task.c.id).select_from(
        select(OWNER.label("x")).subquery().outerjoin(task, task.c.user_id == OWNER, full=True)
    ),
    "other condition of a join": select(task.c.id).select_from(
        watched.outerjoin(task, or_(task.c.user_id == watched.c.user_id, task.c.complete))
    ),
}


def _prepare(statement: Executable) -> None:
    SQLiteDatabase(Path("never-opened.db")).prepare(statement)


@pytest.mark.parametrize("statement", BOUND.values(), ids=BOUND.keys())
def test_a_statement_that_is_bound_to_its_owner_can_be_prepared(statement: Executable) -> None:
    _prepare(statement)


@pytest.mark.parametrize("statement", NOT_BOUND.values(), ids=NOT_BOUND.keys())
def test_a_statement_that_could_reach_other_users_rows_cannot_be_prepared(statement: Executable) -> None:
    with pytest.raises(NotBoundToOwnerError):
        _prepare(statement)


def test_requests_cannot_prepare_what_is_not_bound_to_an_owner() -> None:
    assert not hasattr(Database, "prepare_maintenance")
    with pytest.raises(NotBoundToOwnerError):
        _prepare(statements.erase_tasks)
    with pytest.raises(NotBoundToOwnerError):
        Write("purge", writes.purge.parameters, writes.purge.build)
    with pytest.raises(NotBoundToOwnerError):
        SQLiteDatabase(Path("never-opened.db")).prepare_write(Write("purge", ("owner",), writes.purge.build))


# --- how often


@contextmanager
def _recorded(service: Service, client: Client) -> Iterator[list[str]]:
    """Records the statements that reach the database for `client`, as the database itself reports them."""
    recorded: list[str] = []
    if service.engine == "sqlite":
        database = service.state["tasks"]._database
        parts = (database.on_loop, database.reader, database.searcher, database.writer)
        connections = [part.connection for part in parts]
        for connection in connections:
            connection.set_trace_callback(recorded.append)
        yield recorded
        for connection in connections:
            connection.set_trace_callback(None)
        # SQLite reports a statement again for each step of a trigger.
        recorded[:] = [statement for statement, _ in groupby(recorded)]
    else:
        server = server_of(service.engine)
        if "log" not in server:
            pytest.skip("TEST_DATABASE_URL names a server whose log cannot be read")
        log = Path(server["log"])
        start = log.stat().st_size
        yield recorded
        # Each of the user's statements has the user's name among its parameters, and no other statement does.
        pattern = rf"execute \S+: ([^\n]*(?:\n\t[^\n]*)*)\n[^\n]*DETAIL: +[Pp]arameters:[^\n]*{client.user}"
        recorded += re.findall(pattern, _settled(log)[start:].decode(errors="replace"))


def _settled(log: Path) -> bytes:
    """Returns the log once it has stopped growing; another process writes it."""
    size = -1
    while size != (size := log.stat().st_size):
        time.sleep(0.05)
    return log.read_bytes()


@pytest.mark.parametrize(
    ("method", "body", "path", "headers"),
    [
        ("GET", None, "", {}),
        ("GET", None, "?complete=true", {}),
        ("GET", None, "?offset=1000", {}),
        ("GET", None, "?q=milk&sort=-title", {}),
        ("GET", None, "", {"If-None-Match": "*"}),
        ("GET", None, "/{id}", {}),
        ("GET", None, "/{id}", {"If-None-Match": "*"}),
        ("GET", None, "/0", {}),
        ("POST", {"title": "new"}, "", {}),
        ("POST", {"title": "new"}, "", {"Idempotency-Key": "new"}),
        ("POST", {"title": "Buy milk"}, "", {"Idempotency-Key": "used"}),
        ("POST", {"title": "other"}, "", {"Idempotency-Key": "used"}),
        ("PUT", {"title": "new", "complete": True}, "/{id}", {}),
        ("PATCH", {"complete": True}, "/{id}", {}),
        ("PATCH", {"title": "Buy milk"}, "/{id}", {}),
        ("PATCH", {"complete": True}, "/{id}", {"If-Match": '"999"'}),
        ("PATCH", {"complete": True}, "/0", {}),
        ("DELETE", None, "/{id}", {}),
        ("DELETE", None, "/{id}", {"If-Match": '"999"'}),
        ("DELETE", None, "/0", {}),
        ("GET", None, "{trash}", {}),
        ("POST", None, "{trash}/{id}/restore", {}),
        ("POST", None, "{trash}/{deleted}/restore", {}),
        ("POST", None, "{trash}/0/restore", {}),
    ],
)
def test_a_request_is_one_statement_or_on_sqlite_one_transaction_whatever_its_outcome(
    service: Service, alice: Client, method: str, body: object, path: str, headers: dict[str, str]
) -> None:
    task = alice.request("POST", json={"title": "Buy milk"}, headers={"Idempotency-Key": "used"}).json()
    deleted = alice.create()["id"]
    alice.request("DELETE", deleted)
    trash = f"/api/{alice.user}/trash"
    path = path.format(id=task["id"], deleted=deleted, trash=trash)
    with _recorded(service, alice) as recorded:
        answer = alice.request(
            method, path if path.startswith(trash) else alice.home + path, json=body, headers=headers
        )
    assert answer.status_code < 500
    if service.engine == "sqlite" and method != "GET":
        assert [recorded[0], recorded[-1]] == ["BEGIN IMMEDIATE", "COMMIT"]
        assert sum(statement.startswith(("BEGIN", "COMMIT")) for statement in recorded) == 2
    else:
        assert len(recorded) == 1, recorded


@pytest.mark.parametrize("limit", [1, 1000])
def test_a_page_of_changes_is_one_statement(service: Service, alice: Client, limit: int) -> None:
    for _ in range(2):
        alice.create()
    with _recorded(service, alice) as recorded:
        assert alice.request("GET", f"/api/{alice.user}/changes", params={"limit": limit}).status_code == 200
    assert len(recorded) == 1, recorded


def test_a_page_of_an_export_is_one_statement(service: Service, alice: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "PAGE_TASKS", 3)
    for _ in range(8):
        alice.create()
    alice.request("DELETE", alice.create()["id"])
    for method, pages in (("GET", 4), ("HEAD", 1)):
        with _recorded(service, alice) as recorded:
            assert alice.request(method, f"/api/{alice.user}/export").status_code == 200
        assert len(recorded) == pages, recorded


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_request_with_an_invalid_body_does_not_reach_the_database(
    service: Service, alice: Client, method: str
) -> None:
    with _recorded(service, alice) as recorded:
        alice.request(method, "" if method == "POST" else 1, json={"title": ""})
    assert recorded == []
