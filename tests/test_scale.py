"""With a million tasks, every statement finds its rows by an index and reads little more than it returns.

The tests check plans and the pages or instructions they used, never time. They look at an ordinary user, whose rows
each lie on a page of their own, and at a user with a hundred times as many rows, all older than anybody else's.
"""

import asyncio
import json
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from itertools import product
from typing import Any, NamedTuple, get_args

import asyncpg
import pytest
from sqlalchemy.sql.base import Executable

from taskwell.database import postgres, sqlite
from taskwell.database.interface import CompiledStatement, compile_statement
from taskwell.database.schema import SCHEMA
from taskwell.database.urls import SQLiteURL, parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.tasks import statements, writes
from taskwell.tasks.statements import PageShape, Sort

SORTS = get_args(Sort)

READS: dict[str, Executable] = {
    "get_task": statements.get_task,
    **{
        f"list_tasks by {sort or 'id'}{' of a state' * by_state}{' from a cursor' * follows}": statements.list_tasks(
            PageShape(by_state=by_state, sort=sort, follows=follows)
        )
        for sort in (None, *SORTS)
        for by_state in (False, True)
        for follows in (False, True)
    },
    "list_trash": statements.list_trash(follows=False),
    "list_trash from a cursor": statements.list_trash(follows=True),
    "list_tasks that changed": statements.list_tasks(PageShape(unless_known=True)),
    "not changed": statements.list_tasks(PageShape(unless_known=True)),
    "list_changes": statements.list_changes,
    "list_changes from the middle": statements.list_changes,
    "no changes": statements.list_changes,
    "list_changes_of_watched": statements.list_changes_of_watched,
    "no changes_of_watched": statements.list_changes_of_watched,
    "export_page": statements.export_page,
    "export_page from the middle": statements.export_page,
}

ON_SQLITE: dict[str, Executable] = READS | {
    "create_task": statements.create_task,
    "get_created_task": statements.get_created_task,
    "change_task": statements.change_task,
    "delete_task": statements.delete_task,
    "get_task_or_trashed": statements.get_task_or_trashed,
    "restore_task": statements.restore_task,
    "purge": statements.erase_tasks,
}

WRITES = (writes.create_task, writes.change_task, writes.delete_task, writes.restore_task, writes.purge)

ON_POSTGRES: dict[str, CompiledStatement] = {
    name: compile_statement(statement, postgres._DIALECT) for name, statement in READS.items()
} | {write.name: postgres.call_of(write) for write in WRITES}

Values = dict[str, object]
Plan = dict[str, Any]

ORDINARY, HEAVY = "user-7", "heavy"

# Multiplying by 2654435761 (Knuth's hash) scatters the complete and the deleted tasks. Half of the deleted ones are
# erased.
FILL = (
    """
    INSERT INTO task (user_id, title, complete, created_at, updated_at, deleted_at, erased_at, revision, creation_key)
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 1100000)
    SELECT CASE WHEN n <= 100000 THEN 'heavy' ELSE 'user-' || (n % 1000) END,
        'Task ' || n,
        n * 2654435761 / 65536 % 100 < 40,
        {moment},
        {moment},
        CASE WHEN n * 2654435761 / 8388608 % 100 < 5 THEN {moment} END,
        CASE WHEN n * 2654435761 / 8388608 % 100 < 5 AND n % 2 = 0 THEN CURRENT_TIMESTAMP END,
        CASE WHEN n <= 100000 THEN n ELSE n / 1000 END,
        'key ' || n
    FROM numbers
    """,
    "INSERT INTO owner (user_id, revision, epoch) SELECT user_id, max(revision), 1 FROM task GROUP BY user_id",
)

# A user's last task that is not complete, so that each write has something to change, the number of live tasks, and the
# user's revision.
TASK_AND_COUNT = """
    SELECT max(CASE WHEN NOT complete THEN id END), count(*), (SELECT revision FROM owner WHERE user_id = '{0}')
    FROM task WHERE user_id = '{0}' AND deleted_at IS NULL
"""

# The same of the trash: its last task, the number of tasks, and one in the middle.
TRASH_AND_COUNT = """
    SELECT max(id), count(*) FROM task WHERE user_id = '{0}' AND deleted_at IS NOT NULL AND erased_at IS NULL
"""
MIDDLE_OF_TRASH = """
    SELECT revision FROM task WHERE user_id = '{}' AND deleted_at IS NOT NULL AND erased_at IS NULL
    ORDER BY revision LIMIT 1 OFFSET {}
"""

# A task in the middle of the user's list, from which a cursor goes on.
MIDDLE = """
    SELECT id, created_at, updated_at, title, revision FROM task WHERE user_id = '{}' AND deleted_at IS NULL
    ORDER BY id LIMIT 1 OFFSET {}
"""


def _cases(names: Iterable[str]) -> Iterator[tuple[str, str, int]]:
    """Yields each statement, for each user, with the maximum number of rows it may return."""
    for name, owner in product(names, (ORDINARY, HEAVY)):
        for rows in (50, 1000) if name.startswith(("list_", "export_", "purge")) else (1,):
            yield name, owner, rows


# The other users who are watched at the same time; none of them has a change.
WATCHED = 100


def _values(name: str, owner: str, user: "_User", limit: int) -> Values:
    middle_id, created_at, updated_at, title, middle_revision = user.middle
    sort_values = {"created_at": created_at, "updated_at": updated_at, "title": title}
    return {
        "owner": owner,
        "id": user.trashed_id if name == "restore_task" else user.task_id,
        "title": "new",
        "sets_description": True,
        "description": "new",
        "complete": True,
        "creation_key": "new" if name == "create_task" else f"key {user.task_id}",
        "creation_digest": None,
        "if_match": None,
        "if_none_match": None,
        "limit": limit,
        "offset": 0,
        "after_id": middle_id,
        "after_value": next((value for column, value in sort_values.items() if column in name), None),
        "known_revision": user.revision if name == "not changed" else 0,
        "known_epoch": 1,
        "after_revision": user.middle_of_trash,
        # The oldest task is 13 days old.
        "older_than_days": 10,
        "batch": limit,
        "watched": json.dumps(
            [
                [owner, user.revision if name.startswith("no") else 0, 1],
                *([f"nobody-{n}", 0, 0] for n in range(WATCHED)),
            ]
        ),
        "after": -int(str(middle_id)) if name.endswith("middle") else -(2**63),
        "since": user.revision if name == "no changes" else middle_revision if name.endswith("middle") else 0,
    }


class _User(NamedTuple):
    task_id: int
    live: int
    revision: int
    middle: Sequence[object]
    trashed_id: int
    trashed: int
    middle_of_trash: int


# --- PostgreSQL


# Every index whose entries are one user's live tasks can count them.
COUNTERS = {"task_by_newest", "task_by_created_at", "task_by_updated_at", "task_by_title"}


def _found_by_on_postgres(name: str) -> set[str]:
    """Returns the indexes by which a statement finds its rows."""
    known = {
        "create_task": {"task_creation_key", "owner_pkey"},
        "get_task": {"task_pkey"},
        "not changed": {"owner_pkey"},
        # It finds the rows by their place.
        "purge": {"task_deleted_at"},
    }
    if name.startswith("list_trash"):
        return {"task_trash"}
    if "changes" in name:
        return {"task_revision", "owner_pkey"}
    if name.startswith("export_"):
        return {"task_by_newest", "task_trash_by_id"}
    if not name.startswith("list_"):
        return known.get(name, {"task_pkey", "owner_pkey"})
    sorted_by = {f"task_by_{column}" for column in ("created_at", "updated_at", "title") if column in name}
    return {"owner_pkey"} | (sorted_by or {"task_by_newest"})


# Pages that a statement reads beside one for each row: the path down each index and, for a write, the owner's row.
PAGES = 50
# Pages that the purge reads for each task that it erases: the task, its new version, and the entries in four indexes.
PAGES_PER_ERASED = 40

# The plan of a statement does not show the plans inside the functions it calls. These counters include them.
SCANS = "SELECT sum(seq_scan) FROM pg_stat_xact_user_tables"
INDEXES = "SELECT indexrelname, pg_stat_get_xact_numscans(indexrelid) FROM pg_stat_user_indexes"


@pytest.mark.slow
def test_every_postgres_statement_reads_little_more_than_it_returns(
    new_database_url: Callable[[str], str], subtests: pytest.Subtests
) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    asyncio.run(_check_on_postgres(url, subtests))


async def _check_on_postgres(url: str, subtests: pytest.Subtests) -> None:
    async with _crowded_postgres(url), _connected(url) as connection:
        some = {owner: await _user_on_postgres(connection, owner) for owner in (ORDINARY, HEAVY)}
        for name, owner, rows in _cases(ON_POSTGRES):
            compiled = ON_POSTGRES[name]
            arguments = compiled.arguments(_values(name, owner, some[owner], rows))
            # PostgreSQL plans a prepared statement for its values at first, and later once for all values.
            for mode in ("force_custom_plan", "force_generic_plan"):
                with subtests.test(name, owner=owner, rows=rows, mode=mode):
                    plan, scans, indexes = await _explained(connection, compiled.sql, arguments, mode)
                    found_by = _found_by_on_postgres(name)
                    # Of a thousand users, reading all rows of `owner` is cheaper than finding a hundred by the index.
                    assert scans == 0 or (scans == 1 and name.endswith("watched") and "owner_pkey" not in indexes)
                    if name == "purge":
                        assert _pages(plan) <= rows * PAGES_PER_ERASED + PAGES
                        assert indexes == found_by
                        continue
                    if name.endswith("watched"):
                        assert _pages(plan) <= 2 * rows + 4 * WATCHED + PAGES
                        assert indexes <= found_by
                        continue
                    counted = some[owner].trashed if "trash" in name else some[owner].live
                    # An export reads that many live tasks and that many deleted ones.
                    _check_plan(plan, rows=rows * 2 if name.startswith("export_") else rows, counted=counted)
                    if "changes" in name:
                        # From the beginning, all of an ordinary user's tasks fit on a page.
                        all_fit = owner == ORDINARY and name == "list_changes"
                        assert indexes == found_by or (all_fit and indexes == {"task_creation_key", "owner_pkey"})
                    elif name.startswith(("list_tasks", "export_page")):
                        # All of an ordinary user's tasks fit on a page, so any of these indexes will do.
                        assert indexes <= COUNTERS | found_by
                        assert owner == ORDINARY or found_by <= indexes
                    elif "trash" in name:
                        # Both indexes of the trash can count it.
                        assert indexes - {"task_trash_by_id"} == found_by
                    else:
                        # A revision is as good as an id to find the one task again, and any index of the trash can count it.
                        assert indexes - {"task_revision", "task_trash_by_id"} == found_by


async def _user_on_postgres(connection: asyncpg.Connection, owner: str) -> _User:
    ((task_id, live, revision),) = await connection.fetch(TASK_AND_COUNT.format(owner))
    (middle,) = await connection.fetch(MIDDLE.format(owner, live // 2))
    ((trashed_id, trashed),) = await connection.fetch(TRASH_AND_COUNT.format(owner))
    middle_of_trash = await connection.fetchval(MIDDLE_OF_TRASH.format(owner, trashed // 2))
    return _User(task_id, live, revision, list(middle), trashed_id, trashed, middle_of_trash)


def _check_plan(plan: Plan, *, rows: int, counted: int) -> None:
    counts = [part for part in _parts(plan) if part["Node Type"] == "Aggregate" and not _reads_owner(part)]
    counting = [part for count in counts for part in _parts(count)]
    others = [part for part in _parts(plan) if part not in counting]
    assert {part["Node Type"] for part in counting} <= {"Aggregate", "Index Only Scan"}
    assert [part for part in counting if _rows(part) > counted] == []
    assert [part for part in others if _rows(part) > rows] == []
    assert _pages(plan) - sum(_pages(count) for count in counts) <= rows + PAGES


def _reads_owner(aggregate: Plan) -> bool:
    return any(part.get("Index Name") == "owner_pkey" for part in _parts(aggregate))


def _parts(plan: Plan) -> Iterator[Plan]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _parts(part)


def _rows(part: Plan) -> int:
    removed = sum(number for name, number in part.items() if name.startswith("Rows Removed by"))
    return int((part["Actual Rows"] + removed) * part["Actual Loops"])


def _pages(part: Plan) -> int:
    return int(part["Shared Hit Blocks"] + part["Shared Read Blocks"])


async def _explained(
    connection: asyncpg.Connection, sql: str, arguments: Sequence[object], mode: str
) -> tuple[Plan, int, set[str]]:
    """Runs a statement, rolls it back, and returns its plan, its number of sequential scans, and the indexes it used.

    It runs twice, because the first run also reads the catalogue.
    """
    literals = ", ".join("NULL" if value is None else f"'{value}'" for value in arguments)
    await connection.execute(f"SET plan_cache_mode = {mode}; PREPARE it AS {sql}")
    for _ in range(2):
        await connection.execute("BEGIN")
        before, scans_before = await connection.fetchval(SCANS), await _scans_of_indexes(connection)
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE it({literals})")
        after = await connection.fetchval(SCANS)
        used = {name for name, number in (await _scans_of_indexes(connection)).items() if number > scans_before[name]}
        await connection.execute("ROLLBACK")
    await connection.execute("DEALLOCATE it")
    return json.loads(explained)[0]["Plan"], after - before, used


async def _scans_of_indexes(connection: asyncpg.Connection) -> dict[str, int]:
    return {name: number or 0 for name, number in await connection.fetch(INDEXES)}


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
            await connection.execute(statement.format(moment="now() - n * interval '1 second'"))
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
BY_REVISION = "SEARCH task USING INDEX task_revision (user_id=? AND revision>?)"
ELEMENTS = "SCAN anon_1 VIRTUAL TABLE INDEX 1:"
OWNERS = "SEARCH owner USING INDEX sqlite_autoindex_owner_1 (user_id=?) LEFT-JOIN"
BY_REVISION_RANGE = "SEARCH task USING INDEX task_revision (user_id=? AND revision>? AND revision<?) LEFT-JOIN"
FIRST = "SEARCH task USING COVERING INDEX task_revision (user_id=? AND revision>?)"
WATCHED_ON_SQLITE = {ELEMENTS, OWNERS, BY_REVISION_RANGE, FIRST, "SEARCH first", "USE TEMP B-TREE FOR ORDER BY"}
OWNER = "SEARCH owner USING INDEX sqlite_autoindex_owner_1 (user_id=?)"
PAGE = "SEARCH task USING INDEX task_by_newest (user_id=? AND deleted_at=?)"
COUNT = "SEARCH task USING COVERING INDEX task_by_newest (user_id=? AND deleted_at=?)"

TRASH = "SEARCH task USING INDEX task_trash (user_id=?)"
TRASH_AFTER = "SEARCH task USING INDEX task_trash (user_id=? AND revision<?)"
TRASH_BY_ID = "SEARCH task USING INDEX task_trash_by_id (user_id=? AND <expr>>?)"
COUNT_TRASH = "SEARCH task USING COVERING INDEX task_trash (user_id=?)"


def _found_by_on_sqlite(name: str) -> set[str]:
    """Returns how a statement finds its rows."""
    if "changes" in name:
        return WATCHED_ON_SQLITE if name.endswith("watched") else {BY_REVISION, OWNER}
    if name.startswith("export_"):
        # Only the tasks of the page are sorted.
        return {PAGE.replace("=?)", "=? AND <expr>>?)"), TRASH_BY_ID, "USE TEMP B-TREE FOR ORDER BY"}
    if not name.startswith("list_"):
        steps = {"create_task": {OWNER}, "get_created_task": {BY_KEY}, "get_task": {BY_ID}}
        steps["not changed"] = {OWNER, PAGE, COUNT}
        steps["get_task_or_trashed"] = {BY_ID}
        steps["purge"] = {BY_ID, "SEARCH task USING INDEX task_deleted_at (deleted_at<?)"}
        return steps.get(name, {BY_ID, OWNER})
    follows = name.endswith("cursor")
    if name.startswith("list_trash"):
        return {COUNT_TRASH, TRASH_AFTER if follows else TRASH}
    for column in ("created_at", "updated_at", "title"):
        if column in name:
            after = f" AND {column}{'<' if f'-{column}' in name else '>'}?" * follows
            return {f"SEARCH task USING INDEX task_by_{column} (user_id=?{after})", COUNT, OWNER}
    return {PAGE.replace("=?)", "=? AND <expr>>?)") if follows else PAGE, COUNT, OWNER}


# A subquery, or a scan of its result.
SUBQUERY = re.compile(
    "(CORRELATED )?(SCALAR|LIST|LEFT-MOST) SUBQUERY|COMPOUND QUERY|UNION ALL|CO-ROUTINE|MATERIALIZE|"
    "SCAN (CONSTANT ROW|state|totals|page|live|deleted)"
)

# Maximum instructions of SQLite's virtual machine: per statement, per row it returns, and per row it counts.
INSTRUCTIONS, INSTRUCTIONS_PER_ROW, INSTRUCTIONS_PER_COUNTED_ROW = 400, 40, 6
# Per row of these statements. The purge also changes the entries in all indexes; an export reads twice as many rows, half
# of them deleted ones, and sorts them.
INSTRUCTIONS_PER_ROW_OF = {"purge": 100, "export_page": 100, "export_page from the middle": 100}


@pytest.mark.slow
def test_every_sqlite_statement_reads_little_more_than_it_returns(
    new_database_url: Callable[[str], str], subtests: pytest.Subtests
) -> None:
    url = parse_database_url(new_database_url("sqlite"))
    assert isinstance(url, SQLiteURL)
    upgrade(url)
    with _crowded_sqlite(url) as connection:
        some = {owner: _user_on_sqlite(connection, owner) for owner in (ORDINARY, HEAVY)}
        for name, owner, rows in _cases(ON_SQLITE):
            with subtests.test(name, owner=owner, rows=rows):
                compiled = compile_statement(ON_SQLITE[name], sqlite._DIALECT)
                values = _values(name, owner, some[owner], rows)
                assert _searches(connection, compiled, values) == _found_by_on_sqlite(name)
                counted = some[owner].live if COUNT in _found_by_on_sqlite(name) else 0
                counted = some[owner].trashed if "list_trash" in name else counted
                counted *= name != "not changed"
                counted += WATCHED * INSTRUCTIONS_PER_ROW * name.endswith("watched")
                per_row = INSTRUCTIONS_PER_ROW_OF.get(name, INSTRUCTIONS_PER_ROW)
                maximum = INSTRUCTIONS + per_row * rows + INSTRUCTIONS_PER_COUNTED_ROW * counted
                assert _instructions(connection, compiled, values) <= maximum


def _user_on_sqlite(connection: sqlite3.Connection, owner: str) -> _User:
    task_id, live, revision = connection.execute(TASK_AND_COUNT.format(owner)).fetchone()
    middle = connection.execute(MIDDLE.format(owner, live // 2)).fetchone()
    trashed_id, trashed = connection.execute(TRASH_AND_COUNT.format(owner)).fetchone()
    middle_of_trash = connection.execute(MIDDLE_OF_TRASH.format(owner, trashed // 2)).fetchone()[0]
    return _User(task_id, live, revision, middle, trashed_id, trashed, middle_of_trash)


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
            connection.execute(statement.format(moment="datetime('now', -n || ' seconds') || '.000000'"))
        for _, _, definition in dropped:
            connection.execute(definition)
        connection.execute("COMMIT")
        yield connection
    url.path.unlink()
