"""The rules that the database keeps by itself, and what becomes of a violation that validation missed."""

import logging
from collections.abc import Callable, Iterator

import asyncpg
import pytest
from sqlalchemy import CheckConstraint, Table
from sqlmodel import SQLModel

from support.problem import assert_problem
from support.rows import Refused, execute
from support.service import Json, Service, running
from taskwell.database.urls import parse_database_url
from taskwell.errors import InternalError
from taskwell.migrations.runner import upgrade
from test_migrations import run_script

NOW = "'2026-11-21 10:30:00.000000'"

# A row of each table, as SQL writes it.
ROWS = {
    "task": {
        "user_id": "'alice'",
        "title": "'Buy milk'",
        "description": "'two litres'",
        "complete": "false",
        "created_at": NOW,
        "updated_at": NOW,
        "revision": "1",
        "creation_key": "'key'",
    },
    "owner": {"user_id": "'bob'", "revision": "1", "epoch": "7"},
}
TABLES: list[Table] = [SQLModel.metadata.tables[name] for name in ROWS]


def insert(url: str, table: str, **changes: str) -> None:
    row = ROWS[table] | changes
    execute(url, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})")  # noqa: S608 - our own


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def migrated(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> str:
    url = new_database_url(request.param)
    upgrade(parse_database_url(url))
    return url


@pytest.fixture
def database(migrated: str) -> str:
    """A migrated database without rows."""
    for table in ROWS:
        execute(migrated, f"DELETE FROM {table}")  # noqa: S608 - our own
    return migrated


# --- the rules

# Each CHECK, and a value of which column breaks it. For the last PostgreSQL has a type.
BROKEN = [
    ("task_title_length", "title", "''"),
    ("task_title_length", "title", f"'{'x' * 201}'"),
    ("task_description_length", "description", f"'{'x' * 1001}'"),
    ("task_complete", "complete", "2"),
]


def test_every_check_is_tried() -> None:
    checks = {rule.name for table in TABLES for rule in table.constraints if isinstance(rule, CheckConstraint)}
    assert checks == {name for name, _, _ in BROKEN}


@pytest.mark.parametrize(("column", "value"), [(column, value) for _, column, value in BROKEN])
def test_the_database_refuses_what_is_no_task(database: str, column: str, value: str) -> None:
    with pytest.raises((*Refused, asyncpg.DatatypeMismatchError), match=column):
        insert(database, "task", **{column: value})


@pytest.mark.parametrize(
    ("table", "column"),
    [
        (table.name, column.name)
        for table in TABLES
        for column in table.columns
        if not column.nullable and not column.identity
    ],
)
def test_the_database_refuses_a_row_without_a_value_that_every_row_has(database: str, table: str, column: str) -> None:
    with pytest.raises(Refused, match=column):
        insert(database, table, **{column: "NULL"})


def test_the_database_takes_the_longest_task(database: str) -> None:
    insert(database, "task", title=f"'{'🧀' * 200}'", description=f"'{'🧀' * 1000}'")


def test_only_of_an_erased_task_the_title_is_empty(database: str) -> None:
    insert(database, "task", title="''", erased_at=NOW)


def test_one_key_makes_one_task_for_each_user(database: str) -> None:
    insert(database, "task")
    insert(database, "task", user_id="'bob'")
    with pytest.raises(Refused, match="creation_key"):
        insert(database, "task")


def test_a_user_has_one_revision(database: str) -> None:
    insert(database, "owner")
    with pytest.raises(Refused, match="owner"):
        insert(database, "owner")


# --- a violation that validation missed

# An error of SQLite says so; a title may, too.
CANARY = "no such table: canary"

# Databases that know more rules than validation does. A file's own declaration can only be changed as text.
STRICTER = {
    "sqlite": """
        PRAGMA writable_schema = ON;
        UPDATE sqlite_schema
        SET sql = replace(replace(sql, 'description TEXT', 'description TEXT NOT NULL'),
            'CONSTRAINT task_title_length', 'CONSTRAINT task_bird CHECK (title <> ''no such table: canary''), CONSTRAINT task_title_length')
        WHERE name = 'task';
        PRAGMA writable_schema = RESET;
        CREATE UNIQUE INDEX task_twice ON task (user_id, title)
    """,
    "postgres": """
        ALTER TABLE task ALTER description SET NOT NULL,
            ADD CONSTRAINT task_bird CHECK (title <> 'no such table: canary'),
            ADD CONSTRAINT task_number CHECK (title NOT LIKE 'number %' OR substr(title, 8)::integer > 0);
        CREATE UNIQUE INDEX task_twice ON task (user_id, title)
    """,
}


@pytest.fixture(scope="module", params=STRICTER)
def strict(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    engine: str = request.param
    url = new_database_url(engine)
    upgrade(parse_database_url(url))
    run_script(url, STRICTER[engine])
    with running(engine, DATABASE_URL=url) as service:
        yield service


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_what_only_the_database_forbids_is_422_and_a_bug_in_the_log(
    strict: Service, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    caplog.set_level(logging.DEBUG)
    client = strict.client()
    task = client.create(description="two litres")
    forbidden = {"title": CANARY, "description": "of milk", "complete": False}
    answer = client.request(method, "" if method == "POST" else task["id"], json=forbidden)
    problem = assert_problem(answer, 422, "VALIDATION_ERROR")
    assert problem["detail"] == "The task violates a rule of the database."
    assert "task_bird" in _told_as_a_bug(caplog)
    assert client.request("GET").json() == {"tasks": [task], "count": 1}
    assert client.create("Buy bread", description="")


@pytest.mark.parametrize(
    "body",
    [{"title": f"{CANARY}s"}, {"title": f"{CANARY}s", "description": CANARY}],
    ids=["not null", "unique"],
)
def test_any_other_violation_is_500_and_a_bug_in_the_log(
    strict: Service, caplog: pytest.LogCaptureFixture, body: Json
) -> None:
    client = strict.client()
    task = client.create(f"{CANARY}s", description="two litres")
    caplog.set_level(logging.DEBUG)
    problem = assert_problem(client.request("POST", json=body), 500, "INTERNAL_ERROR")
    assert problem["detail"] == InternalError.default_detail
    assert f"request_id={problem['request_id']} Internal Server Error\nTraceback" in _told_as_a_bug(caplog)
    assert client.request("GET").json() == {"tasks": [task], "count": 1}
    assert client.create("Buy bread", description="")


@pytest.mark.parametrize("strict", ["postgres"], indirect=True)
def test_a_value_that_fits_no_type_is_500_and_not_in_the_log(strict: Service, caplog: pytest.LogCaptureFixture) -> None:
    answer = strict.client().request("POST", json={"title": f"number {CANARY}", "description": ""})
    assert_problem(answer, 500, "INTERNAL_ERROR")
    assert "InvalidTextRepresentationError" in _told_as_a_bug(caplog)


def _told_as_a_bug(caplog: pytest.LogCaptureFixture) -> str:
    """The log, in which there is one error, with its traceback, and nothing that the user wrote."""
    assert [record.exc_info is None for record in caplog.records if record.levelno >= logging.ERROR] == [False]
    assert CANARY not in caplog.text
    return caplog.text
