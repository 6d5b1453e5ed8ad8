"""`taskwell import` brings the tasks of another back end along: all of them, or none."""

import asyncio
import shlex
import sqlite3
from collections.abc import Callable
from contextlib import closing, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support.documents import blocks
from support.service import running
from taskwell.cli.main import main

MakeDatabase = Callable[[str], str]

# As SQLModel tutorials and Prisma make them.
TUTORIAL = """
CREATE TABLE tasks (
    id integer PRIMARY KEY, user_id varchar(255) NOT NULL, title varchar(200), description text, completed boolean,
    priority varchar(10), created_at timestamp, updated_at timestamp
)
"""
TUTORIAL_ROWS = """
INSERT INTO tasks VALUES
    (3, 'alice', ' Buy milk ', 'two litres', true, 'high', '2026-01-02 10:00:00.123456', '2026-01-05 10:00:00'),
    (7, 'alice', 'Call Bob', NULL, false, 'low', '2026-01-03 10:00:00', '2026-01-04 10:00:00'),
    (9, 'bob', 'Pay rent', NULL, NULL, NULL, NULL, NULL)
"""


def run(url: str, *options: str, source: str, table: str = "tasks") -> tuple[int, str, str]:
    """Runs the command in this process, with the target `url`."""
    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(StringIO()) as out,
        redirect_stderr(StringIO()) as error,
    ):
        patch.setenv("DATABASE_URL", url)
        patch.delenv("MIGRATION_DATABASE_URL", raising=False)
        try:
            status = main(["import", "--from", source, "--table", table, *options])
        except SystemExit as end:
            status = int(str(end.code))
    assert "Traceback" not in error.getvalue()
    return status, out.getvalue(), error.getvalue()


def fill(url: str, *statements: str) -> None:
    """Runs statements in a database that is not Taskwell's."""
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as file:
            for statement in statements:
                file.execute(statement)
            file.commit()
        return

    async def on_postgres() -> None:
        connection = await asyncpg.connect(url)
        for statement in statements:
            await connection.execute(statement)
        await connection.close()

    asyncio.run(on_postgres())


def tasks_of(url: str, user: str) -> list[dict[str, Any]]:
    """Returns the user's tasks, oldest first, as the service serves them."""
    with running("imported", DATABASE_URL=url) as service:
        response = service.client(user).request("GET", params={"sort": "created_at"})
        assert response.status_code == 200
        return list(response.json()["tasks"])


@pytest.fixture(params=["sqlite", "postgres"])
def source(request: pytest.FixtureRequest, new_database_url: MakeDatabase) -> str:
    url = new_database_url(request.param)
    fill(url, TUTORIAL, TUTORIAL_ROWS)
    return url


@pytest.fixture(params=["sqlite", "postgres"])
def target(request: pytest.FixtureRequest, new_migrated_url: MakeDatabase) -> str:
    return new_migrated_url(request.param)


def test_ids_times_and_owners_are_kept(source: str, target: str) -> None:
    status, out, error = run(target, "--yes", source=source)
    assert (status, error) == (0, "")
    assert "complete     column completed\n" in out
    assert "not imported: priority\n" in out
    assert out.endswith("imported 3 tasks of 2 users\n")
    milk, bob = tasks_of(target, "alice")
    assert milk == {
        "id": 3,
        "user_id": "alice",
        "title": "Buy milk",
        "description": "two litres",
        "complete": True,
        "created_at": "2026-01-02T10:00:00.123456Z",
        "updated_at": "2026-01-05T10:00:00.000000Z",
    }
    assert (bob["id"], bob["title"], bob["complete"]) == (7, "Call Bob", False)
    (rent,) = tasks_of(target, "bob")
    assert rent["created_at"] == rent["updated_at"]


def test_a_new_task_gets_a_new_id_and_the_next_revision(source: str, target: str) -> None:
    run(target, "--yes", source=source)
    with running("imported", DATABASE_URL=target) as service:
        alice = service.client("alice")
        created = alice.request("POST", json={"title": "New"})
        assert (created.json()["id"], created.headers["taskwell-revision"]) == (10, "3")
        # In the order of the last change, as after so many writes here.
        changes = alice.request("GET", "/api/alice/changes").json()
        assert [task["id"] for task in changes["tasks"]] == [7, 3, 10]
        assert alice.request("PATCH", 3, json={"title": "Oat milk"}).status_code == 200


def test_nothing_is_written_before_the_answer_to_the_question(source: str, target: str) -> None:
    status, out, error = run(target, source=source)
    assert status == 1
    assert "title        column title\n" in out
    assert "nothing was imported" in error
    assert tasks_of(target, "alice") == []


def test_a_database_that_has_tasks_is_not_imported_into(source: str, target: str) -> None:
    assert run(target, "--yes", source=source)[0] == 0
    status, _, error = run(target, "--yes", source=source)
    assert status == 1
    assert "has tasks already" in error
    assert len(tasks_of(target, "alice")) == 2


def test_rows_that_break_a_rule_are_listed_and_stop_the_import(source: str, target: str) -> None:
    fill(
        source,
        "INSERT INTO tasks (id, user_id, title) VALUES (20, 'alice', '  '), (21, '', 'x')",
        "INSERT INTO tasks (id, user_id, title, description) VALUES (22, 'eve', 'x', '" + "y" * 1001 + "')",
        "INSERT INTO tasks (id, user_id, title) VALUES (-1, 'alice', 'x')",
    )
    status, out, error = run(target, "--yes", source=source)
    assert status == 1
    assert "some rows break a rule" in error
    for line in (
        "id 20: title: String should have at least 1 character",
        "id 21: user_id: is not a text of 1 to 255 printable characters",
        "id 22: description: String should have at most 1000 characters",
        "id -1: id: -1 is not from 1 to 9223372036854775807",
    ):
        assert f"  {line}\n" in out
    assert tasks_of(target, "alice") == []
    status, out, _ = run(target, "--yes", "--skip-broken", source=source)
    assert status == 0
    assert out.endswith("imported 3 tasks of 2 users\n")


def test_columns_with_other_names_are_guessed_or_told(new_database_url: MakeDatabase, target: str) -> None:
    source = new_database_url("postgres")
    fill(
        source,
        'CREATE TABLE public."Todo" ("taskId" uuid, "ownerId" uuid, name text, label text, "doneAt" timestamptz)',
        """
        INSERT INTO "Todo" VALUES
            ('6f2a1c1e-0000-4000-8000-000000000001', '6f2a1c1e-0000-4000-8000-00000000000a', 'ignored', 'Buy milk', now()),
            ('6f2a1c1e-0000-4000-8000-000000000002', '6f2a1c1e-0000-4000-8000-00000000000a', 'ignored', 'Call Bob', NULL)
        """,
    )
    options = ["--yes", "--column", "title=label", "--column", "complete=doneAt"]
    status, out, _ = run(target, *options, source=source, table="public.Todo")
    assert status == 0
    assert "id           new ids, because not every taskId is an integer\n" in out
    assert "user_id      column ownerId\n" in out
    found = tasks_of(target, "6f2a1c1e-0000-4000-8000-00000000000a")
    assert {(task["title"], task["complete"]) for task in found} == {("Buy milk", True), ("Call Bob", False)}
    assert {task["id"] for task in found} == {1, 2}


def test_times_of_prisma_on_sqlite_are_milliseconds(new_database_url: MakeDatabase, target: str) -> None:
    source = new_database_url("sqlite")
    fill(
        source,
        "CREATE TABLE Task (id INTEGER, userId TEXT, title TEXT, isCompleted INTEGER, createdAt INTEGER)",
        "INSERT INTO Task VALUES (1, 'alice', 'Buy milk', 1, 1767348000123)",
    )
    assert run(target, "--yes", source=source, table="Task")[0] == 0
    (task,) = tasks_of(target, "alice")
    assert (task["complete"], task["created_at"]) == (True, "2026-01-02T10:00:00.123000Z")


def test_a_change_before_the_creation_counts_as_one_at_the_creation(
    new_database_url: MakeDatabase, target: str
) -> None:
    source = new_database_url("sqlite")
    fill(
        source,
        "CREATE TABLE tasks (id INTEGER, user_id TEXT, title TEXT, created_at TEXT, updated_at TEXT)",
        "INSERT INTO tasks VALUES (1, 'alice', 'Buy milk', '2026-01-02T10:00:00Z', '2026-01-01T10:00:00Z')",
    )
    assert run(target, "--yes", source=source)[0] == 0
    (task,) = tasks_of(target, "alice")
    assert task["created_at"] == task["updated_at"] == "2026-01-02T10:00:00.000000Z"


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--table", "missing"], 1, "--from has no table 'missing'"),
        (["--column", "titel=title"], 2, "a task has no 'titel'"),
        (["--column", "title=heading"], 2, "the table has no column 'heading'"),
        (["--column", "title="], 2, "no column looks like title; add --column title=…"),
        (["--column", "title"], 2, "is not like title=name"),
    ],
)
def test_a_mistake_is_named(source: str, options: list[str], status: int, message: str) -> None:
    found, _, error = run("sqlite:///unused.db", *options, source=source)
    assert (found, message in error) == (status, True), error


_NUMBERED = """
INSERT INTO tasks
WITH RECURSIVE numbers (n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM numbers)
SELECT n, 'user ' || (n % 3), 'Task ' || n FROM numbers LIMIT """


def test_a_database_that_cannot_be_reached_is_named_by_its_option(target: str) -> None:
    status, _, error = run(target, "--yes", source="postgresql://a:b@127.0.0.1:1/old")
    assert (status, "--from: The database cannot be reached" in error) == (1, True), error


@pytest.mark.parametrize("between", [0, 2500], ids=["close", "far apart"])
def test_two_rows_with_one_id_stop_the_import(between: int, new_database_url: MakeDatabase, target: str) -> None:
    source = new_database_url("sqlite")
    fill(
        source,
        "CREATE TABLE tasks (id INTEGER, user_id TEXT, title TEXT)",
        "INSERT INTO tasks VALUES (1, 'alice', 'x'), (1, 'eve', 'y')",
        _NUMBERED + str(between),
    )
    status, _, error = run(target, "--yes", source=source)
    assert (status, "two rows have the same id" in error) == (1, True)
    assert tasks_of(target, "alice") == []
    assert run(target, "--yes", "--column", "id=", source=source)[0] == 0


def test_a_large_table_is_imported_page_by_page(new_database_url: MakeDatabase, target: str) -> None:
    source = new_database_url("sqlite")
    fill(
        source,
        "CREATE TABLE tasks (id INTEGER, user_id TEXT, title TEXT)",
        _NUMBERED + "5000",
    )
    assert run(target, "--yes", source=source)[0] == 0
    with running("imported", DATABASE_URL=target) as service:
        first = service.client("user 0").request("GET", params={"limit": 1})
        assert (first.json()["count"], first.json()["tasks"][0]["id"]) == (1667, 5001)


def test_the_page_shows_what_the_command_prints_and_writes_nothing_without_an_answer(source: str, target: str) -> None:
    (code,) = [block for block in blocks("docs/own-back-end.md", "sh") if "import" in block]
    (shown,) = blocks("docs/own-back-end.md", "")
    (line,) = [line for line in code.splitlines() if line.startswith("taskwell import ")]
    _, _, _, _, *options = shlex.split(line)
    status, out, _ = run(target, *options[2:], source=source, table=options[1])
    assert (status, out) == (1, shown)
    assert tasks_of(target, "alice") == []


def test_the_source_is_only_read(source: str, target: str, tmp_path: Path) -> None:
    before = Path(source.removeprefix("sqlite:///")).read_bytes() if source.startswith("sqlite") else b""
    run(target, "--yes", source=source)
    after = Path(source.removeprefix("sqlite:///")).read_bytes() if source.startswith("sqlite") else b""
    assert before == after
