"""With a million tasks, every statement finds its rows by an index and reads little more than it returns.

The tests check plans and the pages or instructions they used, never time. They look at an ordinary user, whose rows
each lie on a page of their own, and at a user with a hundred times as many rows, all older than anybody else's.
"""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import product
from typing import Any

import asyncpg
import pytest
from sqlalchemy.sql.base import Executable

from taskwell.database import postgres, sqlite
from taskwell.database.interface import CompiledStatement, compile_statement
from taskwell.database.schema import SCHEMA
from taskwell.database.urls import SQLiteURL, parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.tasks import statements

STATEMENTS: dict[str, Executable] = {
    "create_task": statements.create_task,
    "get_created_task": statements.get_created_task,
    "get_task": statements.get_task,
    "change_task": statements.change_task,
    "delete_task": statements.delete_task,
    "list_tasks": statements.list_tasks(by_state=False),
    "list_tasks_by_state": statements.list_tasks(by_state=True),
}


Values = dict[str, object]
Plan = dict[str, Any]

ORDINARY, HEAVY = "user-7", "heavy"

FILL = (
    # Multiplying by 2654435761 (Knuth's hash) scatters the complete and the deleted tasks.
    """
    INSERT INTO task (user_id, title, complete, created_at, updated_at, deleted_at, revision, creation_key)
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1100000)
    SELECT CASE WHEN n <= 100000 THEN 'heavy' ELSE 'user-' || (n % 1000) END,
        'Task ' || n,
        n * 2654435761 / 65536 % 100 < 40,
        CURRENT_TIMESTAMP,
        CURRENT_TIMESTAMP,
        CASE WHEN n * 2654435761 / 8388608 % 100 < 5 THEN CURRENT_TIMESTAMP END,
        n,
        'key ' || n
    FROM numbers
    """,
    "INSERT INTO owner (user_id, revision, epoch) SELECT user_id, max(revision), 1 FROM task GROUP BY user_id",
)

# A user's last task that is not complete, so that each write has something to change, and the number of live tasks.
TASK_AND_COUNT = """
    SELECT max(CASE WHEN NOT complete THEN id END), count(*) FROM task WHERE user_id = '{}' AND deleted_at IS NULL
"""


def _cases() -> Iterator[tuple[str, str, int]]:
    """Yields each statement, for each user, with the maximum number of rows it may return."""
    for name, owner in product(STATEMENTS, (ORDINARY, HEAVY)):
        for rows in (50, 1000) if name.startswith("list_") else (1,):
            yield name, owner, rows


def _values(name: str, owner: str, task_id: int, limit: int) -> Values:
    return {
        "owner": owner,
        "id": task_id,
        "title": "new",
        "sets_description": True,
        "description": "new",
        "complete": True,
        "creation_key": "new" if name == "create_task" else f"key {task_id}",
        "limit": limit,
        "offset": 0,
    }


# --- PostgreSQL

FOUND_BY_ON_POSTGRES = {
    "create_task": {"task_creation_key"},
    "get_created_task": {"task_creation_key"},
    "get_task": {"task_pkey"},
    "change_task": {"task_pkey"},
    "delete_task": {"task_pkey"},
    "list_tasks": {"task_newest", "owner_pkey"},
    "list_tasks_by_state": {"task_newest", "owner_pkey"},
}

# Pages that a statement reads beside one for each row: the path down each index and, for a write, the owner's row.
PAGES = 40

# The plan of a statement does not show the plans inside the functions it calls. This counter includes them.
SCANS = "SELECT sum(seq_scan) FROM pg_stat_xact_user_tables"


@pytest.mark.slow
def test_every_postgres_statement_reads_little_more_than_it_returns(
    new_database_url: Callable[[str], str], subtests: pytest.Subtests
) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    asyncio.run(_check_on_postgres(url, subtests))


async def _check_on_postgres(url: str, subtests: pytest.Subtests) -> None:
    async with _crowded_postgres(url), _connected(url) as connection:
        some = {owner: (await connection.fetch(TASK_AND_COUNT.format(owner)))[0] for owner in (ORDINARY, HEAVY)}
        for name, owner, rows in _cases():
            task_id, live = some[owner]
            compiled = compile_statement(STATEMENTS[name], postgres._DIALECT)
            arguments = compiled.arguments(_values(name, owner, task_id, rows))
            # PostgreSQL plans a prepared statement for its values at first, and later once for all values.
            for mode in ("force_custom_plan", "force_generic_plan"):
                with subtests.test(name, owner=owner, rows=rows, mode=mode):
                    plan, scans = await _explained(connection, compiled.sql, arguments, mode)
                    assert scans == 0
                    _check_plan(plan, rows=rows, live=live)
                    assert _indexes(plan) == FOUND_BY_ON_POSTGRES[name]


def _check_plan(plan: Plan, *, rows: int, live: int) -> None:
    counts = [part for part in _parts(plan) if part["Node Type"] == "Aggregate"]
    counting = [part for count in counts for part in _parts(count)]
    others = [part for part in _parts(plan) if part not in counting]
    assert {part["Node Type"] for part in counting} <= {"Aggregate", "Index Only Scan"}
    assert [part for part in counting if _rows(part) > live] == []
    assert [part for part in others if _rows(part) > rows] == []
    assert _pages(plan) - sum(_pages(count) for count in counts) <= rows + PAGES


def _parts(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _parts(part)


def _rows(part: Plan) -> int:
    removed = sum(number for name, number in part.items() if name.startswith("Rows Removed by"))
    return int((part["Actual Rows"] + removed) * part["Actual Loops"])


def _pages(part: Plan) -> int:
    return int(part["Shared Hit Blocks"] + part["Shared Read Blocks"])


def _indexes(plan: Plan) -> set[str]:
    parts = list(_parts(plan))
    arbiters = {name for part in parts for name in part.get("Conflict Arbiter Indexes", [])}
    return arbiters | {part["Index Name"] for part in parts if "Index Name" in part}


async def _explained(
    connection: asyncpg.Connection, sql: str, arguments: Sequence[object], mode: str
) -> tuple[Plan, int]:
    """Runs a statement, rolls it back, and returns its plan and its number of sequential scans.

    It runs twice, because the first run also reads the catalogue.
    """
    literals = ", ".join(f"'{value}'" for value in arguments)
    await connection.execute(f"SET plan_cache_mode = {mode}; PREPARE it AS {sql}")
    for _ in range(2):
        await connection.execute("BEGIN")
        before = await connection.fetchval(SCANS)
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE it({literals})")
        after = await connection.fetchval(SCANS)
        await connection.execute("ROLLBACK")
    await connection.execute("DEALLOCATE it")
    return json.loads(explained)[0]["Plan"], after - before


@asynccontextmanager
async def _crowded_postgres(url: str) -> AsyncGenerator[None]:
    """Fills the database, and empties it at the end. Making the indexes after the rows takes a third of the time."""
    async with _connected(url) as connection:
        await connection.execute("ALTER TABLE task SET UNLOGGED; ALTER TABLE task DROP CONSTRAINT task_creation_key")
        indexes = await connection.fetch(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'task' AND indexname <> 'task_pkey'"
        )
        for name, _ in indexes:
            await connection.execute(f"DROP INDEX {name}")
        for statement in FILL:
            await connection.execute(statement)
        await connection.execute("CREATE UNIQUE INDEX task_creation_key ON task (user_id, creation_key)")
        for _, definition in indexes:
            await connection.execute(definition)
        await connection.execute("VACUUM ANALYZE task, owner")
    yield
    async with _connected(url) as connection:
        await connection.execute("TRUNCATE task, owner")


@asynccontextmanager
async def _connected(url: str) -> AsyncGenerator[asyncpg.Connection]:
    connection = await asyncpg.connect(url, server_settings={"search_path": SCHEMA})
    try:
        yield connection
    finally:
        await connection.close()


# --- SQLite

BY_ID = "SEARCH task USING INTEGER PRIMARY KEY (rowid=?)"
BY_KEY = "SEARCH task USING INDEX sqlite_autoindex_task_1 (user_id=? AND creation_key=?)"
OWNER = "SEARCH owner USING INDEX sqlite_autoindex_owner_1 (user_id=?)"
PAGE = "SEARCH task USING INDEX task_newest (user_id=? AND deleted_at=?)"
COUNT = "SEARCH task USING COVERING INDEX task_newest (user_id=? AND deleted_at=?)"

FOUND_BY_ON_SQLITE = {
    "create_task": {OWNER},
    "get_created_task": {BY_KEY},
    "get_task": {BY_ID},
    "change_task": {BY_ID, OWNER},
    "delete_task": {BY_ID, OWNER},
    "list_tasks": {PAGE, COUNT, OWNER},
    "list_tasks_by_state": {PAGE, COUNT, OWNER},
}

# A subquery, or a scan of its result.
SUBQUERY = re.compile("SCALAR SUBQUERY|CO-ROUTINE|MATERIALIZE|SCAN (CONSTANT ROW|totals|page)")

# Maximum instructions of SQLite's virtual machine: per statement, per row it returns, and per row it counts.
INSTRUCTIONS, INSTRUCTIONS_PER_ROW, INSTRUCTIONS_PER_COUNTED_ROW = 400, 40, 6


@pytest.mark.slow
def test_every_sqlite_statement_reads_little_more_than_it_returns(
    new_database_url: Callable[[str], str], subtests: pytest.Subtests
) -> None:
    url = parse_database_url(new_database_url("sqlite"))
    assert isinstance(url, SQLiteURL)
    upgrade(url)
    with _crowded_sqlite(url) as connection:
        some = {owner: connection.execute(TASK_AND_COUNT.format(owner)).fetchone() for owner in (ORDINARY, HEAVY)}
        for name, owner, rows in _cases():
            with subtests.test(name, owner=owner, rows=rows):
                task_id, live = some[owner]
                compiled = compile_statement(STATEMENTS[name], sqlite._DIALECT)
                values = _values(name, owner, task_id, rows)
                assert _searches(connection, compiled, values) == FOUND_BY_ON_SQLITE[name]
                counted = live if COUNT in FOUND_BY_ON_SQLITE[name] else 0
                maximum = INSTRUCTIONS + INSTRUCTIONS_PER_ROW * rows + INSTRUCTIONS_PER_COUNTED_ROW * counted
                assert _instructions(connection, compiled, values) <= maximum


def _searches(connection: sqlite3.Connection, compiled: CompiledStatement, values: Values) -> set[str]:
    explained = connection.execute(f"EXPLAIN QUERY PLAN {compiled.sql}", compiled.arguments(values))
    return {detail for *_, detail in explained if not SUBQUERY.match(detail)}


def _instructions(connection: sqlite3.Connection, compiled: CompiledStatement, values: Values) -> int:
    number = 0

    def count() -> None:
        nonlocal number
        number += 1

    connection.execute("BEGIN")
    connection.set_progress_handler(count, 1)
    connection.execute(compiled.sql, compiled.arguments(values)).fetchall()
    connection.set_progress_handler(None, 1)
    connection.execute("ROLLBACK")
    return number


@contextmanager
def _crowded_sqlite(url: SQLiteURL) -> Generator[sqlite3.Connection]:
    """Fills the database, and removes it at the end. Triggers are dropped meanwhile; they would double the time."""
    with closing(sqlite.connect(url.path)) as connection:
        connection.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -200000; BEGIN")
        dropped = connection.execute(
            "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = 'task' AND type <> 'table' AND sql IS NOT NULL"
        ).fetchall()
        for kind, name, _ in dropped:
            connection.execute(f"DROP {kind} {name}")
        for statement in FILL:
            connection.execute(statement)
        for _, _, definition in dropped:
            connection.execute(definition)
        connection.execute("COMMIT")
        yield connection
    url.path.unlink()
