"""The schema, as the database itself keeps it."""

import asyncio
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

import taskwell.migrations
from process import COMMAND, WAIT_SECONDS, environment, run
from rows import Refused, execute
from taskwell.database import sqlite
from taskwell.database.urls import parse_database_url
from taskwell.migrations import HEAD, runner

NOW = "'2026-11-21 10:30:00.000000'"


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


def test_the_tables_are_the_ones_the_code_declares(migrated: str) -> None:
    runner.run(parse_database_url(migrated), command.check)


def test_migrating_again_changes_nothing(migrated: str, tmp_path: Path) -> None:
    execute(migrated, insert())
    done = run(tmp_path, "migrate", DATABASE_URL=migrated)
    assert (done.returncode, done.stderr) == (0, "")
    assert HEAD in done.stdout
    assert execute(migrated, "SELECT title FROM task") == [("Buy milk",)]


def test_every_migration_can_be_undone_and_done_again(migrated: str) -> None:
    url = parse_database_url(migrated)
    runner.run(url, lambda config: command.downgrade(config, "base"))
    with pytest.raises(Exception, match="task"):
        execute(migrated, "SELECT * FROM task")
    runner.upgrade(url)
    runner.run(url, command.check)
    execute(migrated, insert())


def test_the_head_written_down_is_alembics() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(taskwell.migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def start_migrating(url: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [COMMAND, "migrate"],
        cwd=folder,
        env=environment(DATABASE_URL=url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_migrations_at_once_all_succeed(empty: str, tmp_path: Path) -> None:
    processes = [start_migrating(empty, tmp_path) for _ in range(8)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 8
    execute(empty, insert())


def test_a_new_file_that_many_open_at_once_opens_for_each(tmp_path: Path) -> None:
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


def test_migrations_that_wait_for_the_same_thing_all_succeed(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_database_url("postgres")
    processes = asyncio.run(_start_and_release_together(url, tmp_path))
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 2


async def _start_and_release_together(url: str, folder: Path) -> list["subprocess.Popen[str]"]:
    """Two that have both begun before either can make its first table."""
    holder, observer = await asyncpg.connect(url), await asyncpg.connect(url)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    async with asyncio.timeout(WAIT_SECONDS):
        await holder.execute("BEGIN; CREATE TABLE alembic_version ()")
        processes = [start_migrating(url, folder) for _ in range(2)]
        while await observer.fetchval(waiting) < len(processes):  # noqa: ASYNC110 - other processes are waited for
            await asyncio.sleep(0.05)
        await holder.execute("ROLLBACK")
    await holder.close()
    await observer.close()
    return processes


@pytest.mark.parametrize(
    "values",
    [
        {"title": "''"},
        {"title": f"'{'x' * 201}'"},
        {"title": "NULL"},
        {"description": f"'{'x' * 1001}'"},
        {"complete": "NULL"},
        {"user_id": "NULL"},
        {"created_at": "NULL"},
        {"updated_at": "NULL"},
        {"revision": "NULL"},
        {"creation_key": "NULL"},
    ],
    ids=str,
)
def test_the_database_itself_refuses_what_is_no_task(migrated: str, values: dict[str, str]) -> None:
    with pytest.raises(Refused):
        execute(migrated, insert(**values))


def test_the_database_takes_the_longest_task(migrated: str) -> None:
    execute(migrated, insert(title=f"'{'🧀' * 200}'", description=f"'{'🧀' * 1000}'"))


def test_one_key_makes_one_task_for_each_user(migrated: str) -> None:
    execute(migrated, insert(creation_key="'key'"))
    execute(migrated, insert(creation_key="'key'", user_id="'bob'"))
    with pytest.raises(Refused):
        execute(migrated, insert(creation_key="'key'"))


def test_an_id_never_comes_again_even_after_the_newest_row_is_gone(migrated: str) -> None:
    ((first,),) = execute(migrated, insert())
    execute(migrated, "DELETE FROM task")
    ((second,),) = execute(migrated, insert())
    assert isinstance(first, int)
    assert isinstance(second, int)
    assert second > first


def test_a_database_that_refuses_is_no_traceback(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    url = new_database_url("postgres")
    execute(url, f'ALTER DATABASE "{url.rpartition("/")[2]}" SET default_transaction_read_only = on')
    done = run(tmp_path, "migrate", DATABASE_URL=url)
    assert done.returncode == 1
    assert "read-only" in done.stderr
    assert "Traceback" not in done.stderr
