"""`taskwell migrate`, and the schema as the database describes it."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Barrier, Event
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import taskwell.migrations
from support.process import COMMAND, WAIT_SECONDS, environment, run
from support.rows import execute
from support.service import SECRET
from taskwell.database import sqlite
from taskwell.database.schema import FUNCTIONS_SCHEMA, SCHEMA
from taskwell.database.urls import SQLiteURL, parse_database_url
from taskwell.errors import DatabaseError
from taskwell.migrations import HEAD, runner

NOW = "'2026-11-21 10:30:00.000000'"
MIGRATED = f"Migrated the database to revision {HEAD}.\n"
ALREADY = f"The database is already at revision {HEAD}.\n"
WAITING = "The database is locked, most likely by another migration; waiting for it.\n"

DEFINITIONS = {
    "sqlite": "SELECT replace(sql, char(9), '    ') FROM sqlite_master ORDER BY 1",
    "postgresql": """
        SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default, identity_generation,
            collation_name) FROM information_schema.columns WHERE table_schema = 'taskwell'
        UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = to_regnamespace('taskwell')
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'taskwell'
        UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = to_regnamespace('taskwell')
        UNION ALL SELECT concat_ws(' ', relname, reloptions) FROM pg_class WHERE relnamespace = to_regnamespace('taskwell')
        ORDER BY 1""",
}


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> str:
    return new_database_url(request.param)


@pytest.fixture
def migrated(empty: str) -> str:
    runner.upgrade(parse_database_url(empty))
    return empty


def insert(**values: str) -> str:
    row = {
        "user_id": "'alice'",
        "title": "'Buy milk'",
        "created_at": NOW,
        "updated_at": NOW,
        "revision": "1",
        "creation_key": f"'{uuid4()}'",
    } | values
    return f"INSERT INTO task ({', '.join(row)}) VALUES ({', '.join(row.values())}) RETURNING id"  # noqa: S608 - our own


# The indexes `task_by_newest` and `task_trash_by_id` on SQLite, whose definitions other tests compare.
@pytest.mark.filterwarnings("ignore:Skipped unsupported reflection of expression-based index")
def test_the_migrated_tables_are_those_that_the_code_declares(migrated: str) -> None:
    runner.run(parse_database_url(migrated), command.check)


def definitions(url: str) -> list[tuple[object, ...]]:
    return execute(url, DEFINITIONS[urlsplit(url).scheme])


def test_migrating_again_changes_nothing(empty: str, tmp_path: Path) -> None:
    outcomes = []
    for _ in range(2):
        done = run(tmp_path, "migrate", DATABASE_URL=empty)
        outcomes.append((done.returncode, done.stderr, done.stdout))
        execute(empty, insert())
    assert outcomes == [(0, "", MIGRATED), (0, "", ALREADY)]
    assert execute(empty, "SELECT title FROM task") == [("Buy milk",)] * 2


def fill(url: str) -> None:
    """Adds a live, a deleted and an erased task, and their owners."""
    execute(url, insert())
    execute(url, insert(user_id="'bob'", description="'two litres'", complete="true", deleted_at=NOW))
    execute(url, insert(user_id="'bob'", title="''", revision="2", deleted_at=NOW, erased_at=NOW))
    for user in ("alice", "bob"):
        # On SQLite the triggers have already added them.
        execute(url, f"INSERT INTO owner VALUES ('{user}', 2, 7) ON CONFLICT DO NOTHING")  # noqa: S608 - our own


@pytest.mark.parametrize("to", ["-1", "base"])
@pytest.mark.parametrize("content", [None, fill], ids=["empty", "filled"])
def test_a_migration_can_be_undone_and_done_again(
    migrated: str, content: Callable[[str], None] | None, to: str
) -> None:
    url, before = parse_database_url(migrated), definitions(migrated)
    if content:
        content(migrated)
    runner.run(url, lambda config: command.downgrade(config, to))
    assert definitions(migrated) != before
    assert runner.upgrade(url)
    assert definitions(migrated) == before
    execute(migrated, insert())


def test_the_printed_script_creates_the_same_schema_without_connecting(
    migrated: str, new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    kind = urlsplit(migrated).scheme
    nowhere = {"sqlite": "sqlite:///nowhere.db", "postgresql": "postgresql://app@192.0.2.1/tasks"}[kind]
    printed = run(tmp_path, "migrate", "--sql", DATABASE_URL=nowhere)
    assert (printed.returncode, printed.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    by_hand = new_database_url(kind.removesuffix("ql"))
    run_script(by_hand, printed.stdout)
    assert definitions(by_hand) == definitions(migrated)
    assert not runner.upgrade(parse_database_url(by_hand))


def run_script(url: str, script: str) -> None:
    """Runs a script as `psql` and `sqlite3` do."""
    meaning = parse_database_url(url)
    if isinstance(meaning, SQLiteURL):
        with closing(sqlite3.connect(meaning.path, isolation_level=None)) as connection:
            connection.executescript(script)
        return

    async def send() -> None:
        connection = await asyncpg.connect(url, server_settings={"search_path": f"{SCHEMA}, public"})
        await connection.execute(script)
        await connection.close()

    asyncio.run(send())


def test_the_revision_in_the_code_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(taskwell.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def start_migrating(url: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [COMMAND, "migrate"],
        cwd=folder,
        env=environment(DATABASE_URL=url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_of_eight_migrations_at_once_one_does_the_work(
    engine: str, new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    empty = new_database_url(engine)
    processes = [start_migrating(empty, tmp_path) for _ in range(8)]
    outputs = [process.communicate(timeout=WAIT_SECONDS) for process in processes]
    assert [process.returncode for process in processes] == [0] * 8
    assert sorted(output for output, _ in outputs) == [MIGRATED] + [ALREADY] * 7
    assert {complaint for _, complaint in outputs} <= {"", WAITING}
    execute(empty, insert())


@contextmanager
def migration_under_way(url: str) -> Iterator[None]:
    """A migration that has done its work and commits when the block ends."""
    done, end = Event(), Event()

    def slowly(config: Config) -> None:
        command.upgrade(config, "head")
        done.set()
        assert end.wait(WAIT_SECONDS)

    with ThreadPoolExecutor(1) as threads:
        migration = threads.submit(runner.run, parse_database_url(url), slowly)
        migration.add_done_callback(lambda _: done.set())
        try:
            assert done.wait(WAIT_SECONDS)
            assert not migration.done(), migration.exception()
            yield
        finally:
            end.set()
        migration.result()


def started_and_waiting(url: str, folder: Path) -> "subprocess.Popen[str]":
    process = start_migrating(url, folder)
    assert process.stderr
    assert process.stderr.readline() == WAITING
    return process


@pytest.mark.parametrize("engine", ["sqlite", "postgres", "postgres-pooler"])
def test_a_migration_waits_for_another_that_takes_long(
    engine: str, new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    empty = new_database_url(engine)
    with migration_under_way(empty):
        process = started_and_waiting(empty, tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    assert process.communicate(timeout=WAIT_SECONDS) == (ALREADY, "")
    assert process.returncode == 0


def test_a_waiting_migration_does_not_block_create_index_concurrently(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database_url("postgres")
    process = asyncio.run(_make_an_index_while_one_waits(url, tmp_path))
    assert process.communicate(timeout=WAIT_SECONDS) == (MIGRATED, "")


async def _make_an_index_while_one_waits(url: str, folder: Path) -> "subprocess.Popen[str]":
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE other (id integer); SELECT pg_advisory_lock(x'7461736b'::integer, 1)")
        process = await asyncio.to_thread(started_and_waiting, url, folder)
        await connection.execute("CREATE INDEX CONCURRENTLY ON other (id)", timeout=20)
        return process
    finally:
        await connection.close()


def test_a_migration_does_not_wait_forever(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "WAIT_SECONDS", 0)
    with migration_under_way(empty), pytest.raises(DatabaseError, match=r"nothing was changed\. .* run this again"):
        runner.upgrade(parse_database_url(empty))


def test_a_migration_gives_up_soon_when_another_transaction_holds_a_lock(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database_url("postgres")
    done = asyncio.run(_migrate_while(url, "CREATE SCHEMA taskwell", tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing was changed. Run this again" in done.stderr
    assert "lock timeout" in done.stderr
    assert "Traceback" not in done.stderr
    assert run(tmp_path, "migrate", DATABASE_URL=url).stdout == MIGRATED


async def _migrate_while(url: str, held: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"BEGIN; {held}")
        return await asyncio.to_thread(run, folder, "migrate", DATABASE_URL=url)
    finally:
        await connection.close()


def test_the_timeouts_of_a_role_do_not_apply_to_a_migration(
    new_database_url: Callable[[str], str],
) -> None:
    url = new_database_url("postgres")
    for setting, value in (("statement_timeout", "1s"), ("lock_timeout", "10ms")):
        execute(url, f"ALTER ROLE CURRENT_USER IN DATABASE \"{url.rpartition('/')[2]}\" SET {setting} = '{value}'")

    def slowly(config: Config) -> object:
        command.upgrade(config, "head")
        connection = config.attributes["connection"]
        connection.exec_driver_sql("SELECT pg_sleep(1.2)")
        return connection.exec_driver_sql("SHOW lock_timeout").scalar_one()

    assert runner.run(parse_database_url(url), slowly) == "5s"
    execute(url, insert())


@pytest.mark.parametrize("name", ["owner", "task_revision"])
def test_a_name_that_is_taken_is_left_as_it_is(empty: str, name: str, tmp_path: Path) -> None:
    if empty.startswith("postgresql"):
        execute(empty, "CREATE SCHEMA taskwell")
    execute(empty, f"CREATE TABLE {name} (theirs integer)")
    before = definitions(empty)
    done = run(tmp_path, "migrate", DATABASE_URL=empty)
    assert (done.returncode, done.stdout) == (1, "")
    assert "nothing was changed. If it belongs to another program, rename it" in done.stderr
    assert name in done.stderr
    assert done.stderr.count("\n") == 1
    assert "CREATE" not in done.stderr
    assert definitions(empty) == before


def test_a_role_without_the_right_is_told_which_role_to_use(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    owners = new_database_url("postgres")
    role = f"role_{uuid4().hex}"
    execute(owners, f"CREATE ROLE {role} LOGIN")
    address = urlsplit(owners)
    theirs = address._replace(netloc=f"{role}@{address.netloc.rpartition('@')[2]}").geturl()
    done = run(tmp_path, "migrate", DATABASE_URL=theirs)
    assert done.returncode == 1
    assert (
        "nothing was changed. Grant it the right, or name the role that owns the tables in MIGRATION_DATABASE_URL"
        in done.stderr
    )
    done = run(tmp_path, "migrate", DATABASE_URL=theirs, MIGRATION_DATABASE_URL=owners)
    assert (done.returncode, done.stdout) == (0, MIGRATED)


def test_a_connection_lost_during_a_migration_is_reported_without_a_traceback(
    new_database_url: Callable[[str], str],
) -> None:
    url = new_database_url("postgres")

    def unlucky(config: Config) -> None:
        command.upgrade(config, "head")
        config.attributes["connection"].exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(DatabaseError, match="cannot be reached"):
        runner.run(parse_database_url(url), unlucky)
    assert runner.upgrade(parse_database_url(url))


def test_many_can_open_a_new_file_at_once(tmp_path: Path) -> None:
    many = 16
    for number in range(20):
        together = Barrier(many)

        def open_and_close(path: Path = tmp_path / f"{number}.db", together: Barrier = together) -> None:
            together.wait()
            with closing(sqlite.connect(path)) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS task (id)")

        with ThreadPoolExecutor(many) as threads:
            for one in [threads.submit(open_and_close) for _ in range(many)]:
                one.result()


def test_an_id_is_never_reused_even_after_the_newest_row_is_gone(migrated: str) -> None:
    ((first,),) = execute(migrated, insert())
    execute(migrated, "DELETE FROM task")
    ((second,),) = execute(migrated, insert())
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert second > first


def test_a_refusing_database_is_reported_without_a_traceback(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database_url("postgres")
    execute(url, f'ALTER DATABASE "{url.rpartition("/")[2]}" SET default_transaction_read_only = on')
    done = run(tmp_path, "migrate", DATABASE_URL=url)
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE alembic_version SET version_num = '9999'", "Run the newer version that migrated it"),
        ("UPDATE alembic_version SET version_num = 'a1b2c3d4'", "a revision that is not Taskwell's"),
        ("UPDATE alembic_version SET version_num = '0000'", "a revision that is not Taskwell's"),
        ("INSERT INTO alembic_version VALUES ('0001')", "a revision that is not Taskwell's"),
        ("DELETE FROM alembic_version", "restore the table alembic_version"),
    ],
)
def test_a_version_table_that_does_not_fit_is_explained(
    migrated: str, change: str, message: str, tmp_path: Path
) -> None:
    execute(migrated, change)
    before = execute(migrated, "SELECT version_num FROM alembic_version")
    done = run(tmp_path, "migrate", DATABASE_URL=migrated)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert message in done.stderr
    assert execute(migrated, "SELECT version_num FROM alembic_version") == before
    if migrated.startswith("postgres"):
        # With its functions, a version could serve on the schema of a newer one.
        execute(migrated, f"DROP SCHEMA {FUNCTIONS_SCHEMA} CASCADE")
    served = run(tmp_path, "serve", "--port", "0", DATABASE_URL=migrated, BETTER_AUTH_SECRET=SECRET)
    assert served.returncode == 1
    assert ("Run: taskwell migrate" if "DELETE" in change else message) in served.stderr
