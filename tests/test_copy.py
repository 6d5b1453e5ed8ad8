"""`taskwell copy` moves everything to another database, or nothing."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from support.process import COMMAND, WAIT_SECONDS, environment
from support.rows import execute
from support.service import Client, Json, running
from taskwell.cli.main import main
from taskwell.database import sqlite
from taskwell.database.urls import SQLiteURL, parse_database_url
from taskwell.migrations.runner import upgrade
from test_growth import DISTRIBUTED

DIRECTIONS = [("sqlite", "postgres"), ("postgres", "sqlite"), ("postgres", "postgres"), ("sqlite", "sqlite")]

MANY = 20_000
MANY_SECONDS = 15
USERS = 3000

POSTGRES_TIME = "YYYY-MM-DD HH24:MI:SS.US"

WRITE = "UPDATE task SET title = 'new', revision = revision + 5 WHERE id = 1"

MakeDatabase = Callable[[str], str]


@pytest.fixture(params=DIRECTIONS, ids="-to-".join)
def databases(request: pytest.FixtureRequest, new_migrated_url: MakeDatabase) -> tuple[str, str]:
    source, target = request.param
    return new_migrated_url(source), new_migrated_url(target)


@dataclass
class Done:
    """The output of a command, and its exit status."""

    status: int
    stdout: str
    stderr: str


def command(source: str, target: str) -> Done:
    """Runs the command in this process, because starting another takes longer than most copies."""
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as error:
        try:
            status = main(["copy", "--from", source, "--to", target])
        except SystemExit as end:
            status = int(str(end.code))
    assert "Traceback" not in error.getvalue()
    return Done(status, out.getvalue(), error.getvalue())


def copy(source: str, target: str) -> str:
    """Copies, and returns what the command prints."""
    done = command(source, target)
    assert (done.status, done.stderr) == (0, "")
    return done.stdout


def refused(source: str, target: str) -> str:
    """Asserts that the copy is refused and the target is unchanged. Returns the message."""
    before = stored(target), owners(target)
    done = command(source, target)
    assert (done.status, done.stdout) == (1, "")
    assert done.stderr.startswith("taskwell copy: ")
    assert (stored(target), owners(target)) == before
    return done.stderr


TIMES = ("created_at", "updated_at", "deleted_at", "erased_at")


def stored(url: str) -> list[tuple[object, ...]]:
    """Returns every value of every task, in one notation for both engines."""
    is_sqlite = url.startswith("sqlite")
    times = TIMES if is_sqlite else [f"to_char({name} AT TIME ZONE 'UTC', '{POSTGRES_TIME}')" for name in TIMES]
    digest = "lower(hex(creation_digest))" if is_sqlite else "coalesce(encode(creation_digest, 'hex'), '')"
    columns = "id, user_id, title, description, CAST(complete AS INTEGER), revision, creation_key"
    return execute(url, f"SELECT {columns}, {', '.join(times)}, {digest} FROM task ORDER BY id")  # noqa: S608 - our own


def owners(url: str) -> list[tuple[object, ...]]:
    return execute(url, "SELECT user_id, revision, epoch FROM owner ORDER BY user_id")


def assert_same(source: str, target: str) -> None:
    assert stored(target) == stored(source)
    assert owners(target) == owners(source)


def fill(url: str, count: int) -> None:
    """Adds rows as a service leaves them: of many users, some deleted, some erased."""
    meaning = parse_database_url(url)
    assert isinstance(meaning, SQLiteURL)
    with closing(sqlite.connect(meaning.path)) as connection:
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO task (user_id, title, description, complete, created_at, updated_at, deleted_at, revision, "
            "creation_key, creation_digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (_row(number) for number in range(count)),
        )
        connection.execute("UPDATE task SET title = '', description = NULL, erased_at = deleted_at WHERE id % 49 = 1")
        connection.execute("COMMIT")


def _row(number: int) -> tuple[object, ...]:
    return (
        f"{'aZü語🧀'[number % 5]} {number % USERS}",
        f"task {number} 🧀",
        "as sent\t" * 20 if number % 2 else None,
        number % 3 == 0,
        "2026-11-21 10:30:00.000001",
        f"2026-11-21 10:30:00.{number:06}",
        "2026-11-21 10:31:00.999999" if number % 7 == 0 else None,
        number // USERS + 1,
        f"key-{number}",
        bytes([number % 256, 0, 255]) if number % 5 else None,
    )


# --- what arrives


def work(alice: Client, bob: Client) -> int:
    """Does what users do. Returns the id of the newest task, which is deleted."""
    alice.create("Käse 🧀 kaufen", description="ein\ttab\r\n\u200d👩\u200d👧 e\u0301 \x7f")
    alice.create("🧀" * 200, description="🧀" * 1000)
    bob.create("x", description="")
    changed = bob.create("Buy milk")
    bob.request("PATCH", changed["id"], json={"title": "Buy oat milk", "complete": True})
    last: int = alice.create("gone")["id"]
    assert alice.request("DELETE", last).status_code == 204
    return last


def responses(*users: Client) -> list[Json]:
    found: list[Json] = []
    for user in users:
        tasks = user.request("GET").json()["tasks"]
        assert [user.request("GET", task["id"]).json() for task in tasks] == tasks
        found += tasks
    return found


def test_a_copy_gives_the_same_responses_as_its_source_and_continues_its_ids(databases: tuple[str, str]) -> None:
    source, target = databases
    with running("source", DATABASE_URL=source) as service:
        deleted = work(service.client("alice"), service.client("bob"))
        before = responses(service.client("alice"), service.client("bob"))
        assert copy(source, target) == "copied 5 tasks of 2 users; verified\n"
    assert_same(source, target)
    with running("target", DATABASE_URL=target) as service:
        alice, bob = service.client("alice"), service.client("bob")
        assert responses(alice, bob) == before
        assert alice.request("GET", deleted).status_code == 404
        assert alice.create("new")["id"] > deleted
        assert bob.request("PATCH", before[-1]["id"], json={"title": "changed"}).status_code == 200
        assert bob.titles() == ["Buy oat milk", "changed"]
    assert [(user, revision) for user, revision, _ in owners(target)] == [("alice", 5), ("bob", 4)]


def test_twenty_thousand_tasks_are_copied_exactly_and_quickly(new_migrated_url: MakeDatabase) -> None:
    first, *others = [new_migrated_url(engine) for engine in ("sqlite", "postgres", "postgres", "sqlite")]
    fill(first, MANY)
    source = first
    for target in others:
        began = time.monotonic()
        assert copy(source, target) == f"copied {MANY} tasks of {USERS} users; verified\n"
        assert time.monotonic() - began < MANY_SECONDS
        assert_same(first, target)
        source = target
    execute(first, "DELETE FROM task WHERE id = 2001")
    assert "--to has task 2001, which --from does not have" in refused(first, source)


def test_an_empty_database_can_be_copied(databases: tuple[str, str]) -> None:
    assert copy(*databases) == "copied 0 tasks of 0 users; verified\n"
    ((first,),) = execute(databases[1], insert("alice"))
    assert first == 1


def insert(user: str, **values: object) -> str:
    """An INSERT as an operator may run it by hand."""
    row = {
        "user_id": user,
        "title": "by hand",
        "created_at": "2026-11-21 10:30:00.000000+00:00",
        "updated_at": "2026-11-21 10:30:00.000000+00:00",
        "revision": 1,
        "creation_key": "by hand",
    } | values
    written = ", ".join(repr(value) for value in row.values())
    return f"INSERT INTO task ({', '.join(row)}) VALUES ({written}) RETURNING id"  # noqa: S608 - our own


@pytest.mark.parametrize("kept", [0, 3])
def test_an_id_used_in_the_source_is_never_reused_in_the_target(databases: tuple[str, str], kept: int) -> None:
    source, target = databases
    for number in range(9):
        ((last,),) = execute(source, insert("alice", creation_key=f"key {number}"))
    execute(source, f"DELETE FROM task WHERE id > {kept}")  # noqa: S608 - our own
    execute(source, "INSERT INTO owner VALUES ('alice', 9, 1) ON CONFLICT (user_id) DO UPDATE SET revision = 9")
    for _ in range(2):
        copy(source, target)
    ((following,),) = execute(target, insert("alice", creation_key="new"))
    assert following == last + 1  # type: ignore[operator]


# --- repeated copies


def test_a_second_copy_brings_what_has_changed_since_the_first(databases: tuple[str, str]) -> None:
    source, target = databases
    with running("source", DATABASE_URL=source) as service:
        alice, carol = service.client("alice"), service.client("carol")
        work(alice, service.client("bob"))
        copy(source, target)
        assert copy(source, target) == "copied 5 tasks of 2 users; verified\n"
        first, second = alice.request("GET").json()["tasks"]
        alice.request("PATCH", first["id"], json={"title": "changed"})
        alice.request("DELETE", second["id"])
        carol.create("new")
        execute(source, "UPDATE task SET title = '', description = NULL, erased_at = deleted_at WHERE title = 'gone'")
        assert copy(source, target) == "copied 6 tasks of 3 users; verified\n"
    assert_same(source, target)


def test_a_copy_made_during_writes_is_one_moment_of_the_source(databases: tuple[str, str]) -> None:
    source, target = databases
    ended = threading.Event()

    def write(client: Client) -> None:
        while not ended.is_set():
            task = client.create("new")
            client.request("PATCH", task["id"], json={"title": "changed"})

    with running("source", DATABASE_URL=source) as service, ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, service.client(f"user-{number}")) for number in range(4)]
        try:
            for _ in range(3):
                copy(source, target)
                # Each of these writes takes one revision. So at any moment some task has its user's revision.
                assert execute(target, REVISIONS) == []
        finally:
            ended.set()
        for writer in writers:
            writer.result()
    copy(source, target)
    assert_same(source, target)


REVISIONS = """
SELECT owner.user_id FROM owner JOIN task ON task.user_id = owner.user_id
GROUP BY owner.user_id, owner.revision HAVING max(task.revision) <> owner.revision
"""


def is_being_written(url: str) -> bool:
    meaning = parse_database_url(url)
    if isinstance(meaning, SQLiteURL):
        log = meaning.path.with_name(f"{meaning.path.name}-wal")
        return log.exists() and log.stat().st_size > 1_000_000
    return bool(execute(url, "SELECT 1 FROM pg_locks WHERE mode = 'RowExclusiveLock' AND relation = 'task'::regclass"))


@pytest.mark.parametrize("engine", ["postgres", "sqlite"])
def test_a_killed_copy_changes_nothing_and_can_be_run_again(
    engine: str, new_migrated_url: MakeDatabase, tmp_path: Path
) -> None:
    source, target = new_migrated_url("sqlite"), new_migrated_url(engine)
    fill(source, MANY)
    arguments = [str(COMMAND), "copy", "--from", source, "--to", target]
    process = subprocess.Popen(arguments, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + WAIT_SECONDS
    while not is_being_written(target) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.communicate()[0] == ""
    assert process.returncode == -signal.SIGKILL
    assert (stored(target), owners(target)) == ([], [])
    assert copy(source, target) == f"copied {MANY} tasks of {USERS} users; verified\n"
    assert_same(source, target)


def test_the_timeouts_of_a_role_do_not_end_a_copy(new_migrated_url: MakeDatabase) -> None:
    source, target = new_migrated_url("postgres"), new_migrated_url("postgres")
    execute(source, insert("alice"))
    execute(source, "INSERT INTO owner VALUES ('alice', 1, 1)")
    # Reading is slow, and then writing is slow, so each side works and idles for longer than its timeouts.
    execute(source, "ALTER TABLE owner RENAME TO fast")
    execute(source, "CREATE VIEW owner AS SELECT fast.* FROM fast, pg_sleep(1)")
    execute(target, SLOW)
    execute(target, "CREATE TRIGGER slow BEFORE INSERT ON task EXECUTE FUNCTION slow()")
    for url in (source, target):
        for name in ("statement_timeout", "idle_in_transaction_session_timeout"):
            execute(url, f'ALTER DATABASE "{urlsplit(url).path[1:]}" SET {name} = 700')
    assert copy(source, target) == "copied 1 tasks of 1 users; verified\n"


SLOW = """
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(1); RETURN NULL; END $$
"""


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_a_connection_lost_during_a_copy_is_named(option: str, new_migrated_url: MakeDatabase) -> None:
    source, target = new_migrated_url("postgres"), new_migrated_url("postgres")
    execute(source, insert("alice"))
    lost = source if option == "--from" else target
    execute(target, ENDING.format(urlsplit(lost).path[1:]))
    execute(target, "CREATE TRIGGER ending BEFORE INSERT ON task EXECUTE FUNCTION ending()")
    assert refused(source, target).startswith(f"taskwell copy: {option}: The database cannot be reached")


ENDING = """
CREATE FUNCTION ending() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}';
    RETURN NULL;
END $$
"""


@pytest.mark.parametrize("side", ["--from", "--to"])
def test_tasks_distributed_by_user_are_copied_and_updated(side: str, new_migrated_url: MakeDatabase) -> None:
    source, target = new_migrated_url("postgres"), new_migrated_url("postgres")
    execute(source if side == "--from" else target, DISTRIBUTED)
    execute(source, insert("alice"))
    execute(source, "INSERT INTO owner VALUES ('alice', 1, 1)")
    copy(source, target)
    execute(source, WRITE)
    assert copy(source, target) == "copied 1 tasks of 1 users; verified\n"
    assert_same(source, target)


# --- refusals


@pytest.mark.parametrize(
    ("to_source", "to_target", "reason"),
    [
        ([], [insert("mallory")], "--to has task 3, which --from does not have"),
        ([], ["INSERT INTO owner VALUES ('mallory', 1, 1)"], "--to has owner 'mallory', which --from does not have"),
        ([], [WRITE], "--to and --from have different versions of task 1"),
        ([WRITE], [WRITE.replace("new", "newer")], "--to and --from have different versions of task 1"),
        ([], ["UPDATE owner SET revision = 9"], "--to and --from have different versions of owner 'alice'"),
        ([], ["UPDATE owner SET epoch = 9"], "--to and --from have different versions of owner 'alice'"),
        (
            [WRITE],
            ["UPDATE task SET user_id = 'mallory' WHERE id = 1"],
            "--to and --from have different versions of task 1",
        ),
        (
            [WRITE],
            ["UPDATE task SET updated_at = '2099-01-01 00:00:00.000000+00:00'"],
            "--to and --from have different versions of task 1",
        ),
        (
            [insert("alice")],
            [insert("mallory", creation_key="other")],
            "--to and --from have different versions of task 3",
        ),
        (["DELETE FROM task WHERE id = 1"], [], "--to has task 1, which --from does not have"),
        (["DELETE FROM task", "DELETE FROM owner"], [], "--to has task 1, which --from does not have"),
    ],
)
def test_data_that_is_not_from_the_source_is_neither_overwritten_nor_mixed(
    databases: tuple[str, str], to_source: list[str], to_target: list[str], reason: str
) -> None:
    source, target = databases
    for number in range(2):
        execute(source, insert("alice", creation_key=f"key {number}"))
    execute(source, "INSERT INTO owner VALUES ('alice', 2, 1) ON CONFLICT (user_id) DO UPDATE SET revision = 2")
    copy(source, target)
    for url, statements in ((source, to_source), (target, to_target)):
        for statement in statements:
            execute(url, statement)
    message = refused(source, target)
    assert reason in message
    assert "Nothing was changed. Copy to a new database: create it, and run: taskwell migrate" in message


def test_a_task_that_the_target_has_under_another_id_is_refused(
    databases: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = databases
    execute(source, insert("alice"))
    execute(target, insert("alice", creation_key="other"))
    execute(target, "DELETE FROM task")
    execute(target, insert("alice"))
    assert "--to has task 2, which --from does not have" in refused(source, target)
    # The other task may be on a later page of the comparison.
    monkeypatch.setattr("taskwell.cli.copy.copying.ROWS_AT_ONCE", 1)
    message = refused(source, target)
    assert message.startswith("taskwell copy: --to does not accept a task from 1 to 1 as --from has it (")
    assert "Nothing was changed. Correct it in --from, or copy to a new database." in message


def by_hand(url: str, sql: str) -> None:
    """Breaks a rule of the schema, as SQLite allows anyone who edits the file."""
    meaning = parse_database_url(url)
    assert isinstance(meaning, SQLiteURL)
    with closing(sqlite.connect(meaning.path)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(sql)


TOO_LONG = f"UPDATE task SET title = '{'secret' * 100}' WHERE id = 2"  # noqa: S608 - our own


@pytest.mark.parametrize(
    ("target", "edit", "rows", "reason"),
    [
        ("sqlite", TOO_LONG, "task from 1 to 3", "task_title_length"),
        ("postgres", TOO_LONG, "task from 1 to 3", "task_title_length"),
        ("postgres", "UPDATE task SET title = 'secret' || char(0) WHERE id = 2", "task from 1 to 3", "0x00"),
        ("postgres", "UPDATE task SET title = x'736563726574' WHERE id = 2", "task from 1 to 3", "got bytes"),
        ("postgres", "UPDATE owner SET epoch = 1 << 40", "owner from 'alice' to 'alice'", "int32"),
    ],
)
def test_a_row_that_the_target_refuses_is_named_without_its_content(
    target: str, edit: str, rows: str, reason: str, new_migrated_url: MakeDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    source = new_migrated_url("sqlite")
    for number in range(3):
        execute(source, insert("alice", creation_key=f"key {number}", title="secret"))
    by_hand(source, edit)
    message = refused(source, new_migrated_url(target))
    assert message.startswith(f"taskwell copy: --to does not accept a {rows} as --from has it (")
    assert reason in message
    assert "Nothing was changed. Correct it in --from" in message
    assert "secret" not in message + caplog.text
    assert (message.count("\n"), caplog.records) == (1, [])


@pytest.mark.parametrize("time", ["'yesterday'", "5"])
def test_a_row_that_cannot_be_read_is_named(time: str, new_migrated_url: MakeDatabase) -> None:
    source, target = new_migrated_url("sqlite"), new_migrated_url("sqlite")
    execute(source, insert("alice"))
    by_hand(source, f"UPDATE task SET created_at = {time}")  # noqa: S608 - our own
    message = refused(source, target)
    assert "--from has a task after 0 that cannot be read (created_at has another format)" in message


@pytest.fixture
def as_service() -> Iterator[MakeDatabase]:
    """Makes roles with the rights of the service, and returns a database's URL with such a role."""
    made: list[tuple[str, str]] = []

    def make(url: str) -> str:
        role = f"service_{uuid4().hex}"
        made.append((url, role))
        execute(url, f"CREATE ROLE {role} LOGIN")
        execute(url, f"GRANT USAGE ON SCHEMA taskwell TO {role}")
        execute(url, f"GRANT SELECT, INSERT, UPDATE ON task, owner TO {role}")
        execute(url, f"GRANT SELECT ON alembic_version TO {role}")
        return urlsplit(url)._replace(netloc=f"{role}@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()

    yield make
    for url, role in made:
        execute(url, f"DROP OWNED BY {role}")
        execute(url, f"DROP ROLE {role}")


@pytest.mark.parametrize("option", ["--from", "--to"])
def test_the_role_of_the_service_is_refused_at_once(
    option: str, new_migrated_url: MakeDatabase, as_service: MakeDatabase
) -> None:
    source, target = new_migrated_url("postgres"), new_migrated_url("postgres")
    # The comparison would find this row, but the role is checked first.
    execute(target, insert("mallory"))
    if option == "--from":
        source = as_service(source)
    else:
        target = as_service(target)
    message = refused(source, target)
    assert message == (
        f"taskwell copy: {option}: The role lacks a right (permission denied for sequence task_id_seq). "
        "Nothing was changed. Name the role that owns the tables.\n"
    )


def test_a_row_that_the_copy_misses_is_an_error(databases: tuple[str, str]) -> None:
    source, target = databases
    execute(source, "INSERT INTO owner VALUES ('', 1, 1)")
    assert "The owner rows read back from --to differ from --from" in refused(source, target)


@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_database_with_another_schema_is_refused_with_a_remedy(
    option: str, engine: str, new_migrated_url: MakeDatabase, new_database_url: MakeDatabase
) -> None:
    bad, good = new_database_url(engine), new_migrated_url("sqlite")
    source, target = (bad, good) if option == "--from" else (good, bad)
    done = command(source, target)
    assert done.status == 1
    message = (
        f"taskwell copy: {option}: The database schema does not match this version of Taskwell. Run: taskwell migrate"
    )
    assert done.stderr.startswith(message)
    if engine == "sqlite":
        assert not Path(bad.removeprefix("sqlite:///")).exists()
    upgrade(parse_database_url(bad))
    execute(bad, "UPDATE alembic_version SET version_num = '9999'")
    assert "Run the newer version" in command(source, target).stderr


def test_an_unreachable_server_is_named_without_the_password(new_migrated_url: MakeDatabase) -> None:
    source = new_migrated_url("sqlite")
    done = command(source, "postgresql://taskwell:hunter2@127.0.0.1:1/postgres")
    assert done.status == 1
    assert done.stderr.startswith("taskwell copy: --to: The database cannot be reached")
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("sqlite:///a.db", "sqlite:///a.db", "--to: names the same database as --from; name another one"),
        ("", "sqlite:///a.db", "--from: must begin with postgresql:// or sqlite:///"),
        ("sqlite:///a.db", "postgres://taskwell:hun/ter2@host/db", "--to: has "),
    ],
)
def test_an_unusable_url_is_wrong_usage(
    source: str, target: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = command(source, target)
    assert (done.status, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "ter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []
