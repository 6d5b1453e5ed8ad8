"""The rules that the database enforces, and what the service does when a violation gets past validation."""

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

# A valid row of each table, as SQL literals.
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
    """A migrated database with empty tables."""
    for table in ROWS:
        execute(migrated, f"DELETE FROM {table}")  # noqa: S608 - our own
    return migrated


# --- the rules

# For each CHECK, a column and a value that break it. PostgreSQL has a boolean type instead of the last CHECK.
BROKEN = [
    ("task_title_length", "title", "''"),
    ("task_title_length", "title", f"'{'x' * 201}'"),
    ("task_description_length", "description", f"'{'x' * 1001}'"),
    ("task_complete", "complete", "2"),
]


def test_every_check_has_a_test() -> None:
    checks = {rule.name for table in TABLES for rule in table.constraints if isinstance(rule, CheckConstraint)}
    assert checks == {name for name, _, _ in BROKEN}


@pytest.mark.parametrize(("column", "value"), [(column, value) for _, column, value in BROKEN])
def test_the_database_refuses_an_invalid_task(database: str, column: str, value: str) -> None:
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
def test_the_database_refuses_a_row_without_a_required_value(database: str, table: str, column: str) -> None:
    with pytest.raises(Refused, match=column):
        insert(database, table, **{column: "NULL"})


def test_the_database_accepts_the_longest_task(database: str) -> None:
    insert(database, "task", title=f"'{'🧀' * 200}'", description=f"'{'🧀' * 1000}'")


def test_the_title_of_an_erased_task_may_be_empty(database: str) -> None:
    insert(database, "task", title="''", erased_at=NOW)


def test_a_creation_key_is_unique_for_each_user(database: str) -> None:
    insert(database, "task")
    insert(database, "task", user_id="'bob'")
    with pytest.raises(Refused, match="creation_key"):
        insert(database, "task")


def test_a_user_has_one_row_of_revisions(database: str) -> None:
    insert(database, "owner")
    with pytest.raises(Refused, match="owner"):
        insert(database, "owner")


# --- a violation that validation missed

# SQLite words a missing table like this. A title with the same words must not be mistaken for that error.
CANARY = "no such table: canary"

# Extra rules that validation does not know. SQLite can only change a table's rules by editing its declaration.
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
def test_breaking_a_rule_that_only_the_database_knows_gets_422_and_is_logged_as_a_bug(
    strict: Service, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    caplog.set_level(logging.DEBUG)
    client = strict.client()
    task = client.create(description="two litres")
    forbidden = {"title": CANARY, "description": "of milk", "complete": False}
    response = client.request(method, "" if method == "POST" else task["id"], json=forbidden)
    problem = assert_problem(response, 422, "VALIDATION_ERROR")
    assert problem["detail"] == "The task violates a rule of the database."
    assert "task_bird" in _log_of_one_bug(caplog)
    assert client.request("GET").json() == {"tasks": [task], "count": 1}
    assert client.create("Buy bread", description="")


@pytest.mark.parametrize(
    "body",
    [{"title": f"{CANARY}s"}, {"title": f"{CANARY}s", "description": CANARY}],
    ids=["not null", "unique"],
)
def test_any_other_violation_gets_500_and_is_logged_as_a_bug(
    strict: Service, caplog: pytest.LogCaptureFixture, body: Json
) -> None:
    client = strict.client()
    task = client.create(f"{CANARY}s", description="two litres")
    caplog.set_level(logging.DEBUG)
    problem = assert_problem(client.request("POST", json=body), 500, "INTERNAL_ERROR")
    assert problem["detail"] == InternalError.default_detail
    name = f"request_id={problem['request_id']} client=127.0.0.1 POST {client.home}"
    assert f"{name} Internal Server Error\nTraceback" in _log_of_one_bug(caplog)
    assert client.request("GET").json() == {"tasks": [task], "count": 1}
    assert client.create("Buy bread", description="")


@pytest.mark.parametrize("strict", ["postgres"], indirect=True)
def test_a_value_of_the_wrong_type_gets_500_and_stays_out_of_the_log(
    strict: Service, caplog: pytest.LogCaptureFixture
) -> None:
    response = strict.client().request("POST", json={"title": f"number {CANARY}", "description": ""})
    assert_problem(response, 500, "INTERNAL_ERROR")
    assert "InvalidTextRepresentationError" in _log_of_one_bug(caplog)


def _log_of_one_bug(caplog: pytest.LogCaptureFixture) -> str:
    """Asserts that the log has one error with its traceback and nothing that the user wrote, and returns the log."""
    assert [record.exc_info is None for record in caplog.records if record.levelno >= logging.ERROR] == [False]
    assert CANARY not in caplog.text
    return caplog.text
