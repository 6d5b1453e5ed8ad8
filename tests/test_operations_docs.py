"""The instructions of docs/operations.md work."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import asyncpg
import pytest

from support.changes import changes
from support.postgres import find_binaries
from support.process import COMMAND, run
from support.rows import execute
from support.service import running, use_every_endpoint
from taskwell.cli.main import COMMANDS, parse
from taskwell.database import sqlite
from taskwell.database.urls import parse_database_url
from taskwell.errors import DatabaseError
from taskwell.migrations.runner import upgrade
from test_migrations import run_script
from test_schema import REVISION_0001, objects

DOCUMENT = (Path(__file__).parents[1] / "docs/operations.md").read_text(encoding="utf-8")

MakeDatabase = Callable[[str], str]


def block(beginning: str) -> str:
    """Returns the code block of the document that begins this way."""
    (found,) = [
        code for code in re.findall(r"```\w+\n(.*?)```", DOCUMENT, re.DOTALL) if code.lstrip().startswith(beginning)
    ]
    return str(found)


def in_shell(code: str, folder: Path, **variables: str) -> None:
    """Runs code as an operator does, with the programs of PostgreSQL and Taskwell in the PATH."""
    programs = [str(COMMAND.parent), str(find_binaries()), os.environ["PATH"]]
    done = subprocess.run(
        ["sh", "-eu", "-c", code],
        cwd=folder,
        env={"PATH": ":".join(programs), "HOME": str(folder), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def role(new_migrated_url: MakeDatabase) -> Iterator[str]:
    """The URL of a database, with a role that was made as the document says. Roles belong to the whole server."""
    url, name = new_migrated_url("postgres"), f"service_{uuid4().hex}"
    for statement in block("CREATE ROLE taskwell_service").replace("taskwell_service", name).split(";")[:-1]:
        execute(url, statement)
    yield urlsplit(url)._replace(netloc=f"{name}@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    execute(url, f"DROP OWNED BY {name}")
    execute(url, f"DROP ROLE {name}")


def test_the_documented_role_has_the_rights_that_the_service_needs_and_no_others(role: str) -> None:
    with running("postgres", migrate=False, DATABASE_URL=role) as service:
        use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200
    for statement in (
        "INSERT INTO taskwell.owner VALUES ('a', 1, 1)",
        "UPDATE taskwell.task SET title = 'x'",
        "DELETE FROM taskwell.task",
        "TRUNCATE taskwell.owner",
        "DROP TABLE taskwell.task",
        "UPDATE taskwell.alembic_version SET version_num = 1",
        "CREATE TABLE taskwell.other ()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(role, statement)
    assert [execute(role, f"SHOW {name}") for name in ("statement_timeout", "lock_timeout")] == [[("5s",)], [("4s",)]]
    assert execute(role, "SHOW idle_in_transaction_session_timeout") == [("10s",)]


def test_a_role_can_have_its_rights_before_the_first_migration(new_database_url: MakeDatabase) -> None:
    url, name = new_database_url("postgres"), f"early_{uuid4().hex}"
    execute(url, f"CREATE ROLE {name} LOGIN")
    for statement in block("ALTER DEFAULT PRIVILEGES").replace("taskwell_service", name).split(";")[:-1]:
        execute(url, statement)
    upgrade(parse_database_url(url))
    role = urlsplit(url)._replace(netloc=f"{name}@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    with running("postgres", migrate=False, DATABASE_URL=role) as service:
        use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        execute(role, "DELETE FROM taskwell.task")
    execute(url, f"DROP OWNED BY {name}")
    execute(url, f"DROP ROLE {name}")


@pytest.mark.parametrize("way", ["sqlite3 taskwell.db", "python3 -c"])
def test_a_backup_of_sqlite_made_during_writes_is_complete(way: str, tmp_path: Path) -> None:
    if way.startswith("sqlite3") and subprocess.run(["sh", "-c", "command -v sqlite3"], check=False).returncode:
        pytest.skip("no sqlite3 on this machine")
    url = f"sqlite:///{tmp_path}/taskwell.db"
    with running("sqlite", DATABASE_URL=url) as service:
        alice = service.client("alice")
        alice.create("before")
        # While the service runs, the new task is in the log beside the file.
        assert (tmp_path / "taskwell.db-wal").stat().st_size > 0
        in_shell(block(way), tmp_path)
        alice.create("after")
        lost = changes(alice).json()["since"]
    (tmp_path / "taskwell.db-wal").write_bytes(b"of the old file")
    in_shell(block("rm -f taskwell.db-wal"), tmp_path)
    with closing(sqlite.connect(tmp_path / "taskwell.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.executescript(block("UPDATE sqlite_sequence"))
    with running("sqlite", DATABASE_URL=url) as service:
        alice = service.client("alice")
        assert alice.titles() == ["before"]
        assert alice.create("new")["id"] > 1_000_000
        assert changes(alice, since=lost).status_code == 410


@pytest.mark.parametrize("ours_alone", [False, True])
def test_a_dump_of_postgresql_can_be_restored_and_served(
    new_migrated_url: MakeDatabase, new_database_url: MakeDatabase, tmp_path: Path, *, ours_alone: bool
) -> None:
    if not (Path(str(find_binaries())) / "pg_dump").exists():
        pytest.skip("no pg_dump on this machine")
    old, new = new_migrated_url("postgres"), new_database_url("postgres")
    with running("postgres", DATABASE_URL=old) as service:
        alice = service.client("alice")
        alice.create("before")
        token = changes(alice).json()["since"]
    (before,) = execute(old, "SELECT user_id, revision, epoch FROM owner")
    (option,) = re.findall(r"add `(--schema=[^`]+)`", DOCUMENT)
    execute(old, "CREATE TABLE public.of_another_program ()")
    in_shell(f"{block('pg_dump').strip()} {option if ours_alone else ''}", tmp_path, DIRECT_URL=old)
    in_shell(block("pg_restore"), tmp_path, NEW_URL=new)
    assert execute(new, "SELECT user_id, revision, epoch FROM owner") == [before]
    assert execute(new, "SELECT to_regclass('public.of_another_program') IS NULL") == [(ours_alone,)]
    for statement in block("SELECT setval").split(";")[:-1]:
        execute(new, statement)
    with running("postgres", migrate=False, DATABASE_URL=new) as service:
        alice = service.client("alice")
        assert alice.titles() == ["before"]
        assert alice.create("new")["id"] > 1_000_000
        assert changes(alice, since=token).status_code == 410
        use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200
    assert execute(new, "SELECT epoch FROM owner WHERE user_id = 'alice'") != [(before[2],)]


def test_two_commands_move_from_sqlite_to_postgresql(new_database_url: MakeDatabase, tmp_path: Path) -> None:
    url = new_database_url("postgres")
    with running("sqlite", DATABASE_URL=f"sqlite:///{tmp_path}/taskwell.db") as service:
        service.client("alice").create("before")
    in_shell(block('DATABASE_URL="$NEW_URL"').replace("/var/lib/taskwell", str(tmp_path)), tmp_path, NEW_URL=url)
    with running("postgres", migrate=False, DATABASE_URL=url) as service:
        assert service.client("alice").titles() == ["before"]


def test_the_names_left_in_public_can_be_dropped(new_database_url: MakeDatabase) -> None:
    url = new_database_url("postgres")
    run_script(url, f"SET search_path = public; {REVISION_0001}")
    upgrade(parse_database_url(url))
    for statement in block("DROP VIEW").split(";")[:-1]:
        execute(url, statement)
    assert {name for name in objects(url) if name.startswith("public.")} == set()
    with running("postgres", migrate=False, DATABASE_URL=url) as service:
        use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200


def test_a_role_without_the_right_to_create_schemas_can_migrate_into_its_own(new_database_url: MakeDatabase) -> None:
    url, name = new_database_url("postgres"), f"migrates_{uuid4().hex}"
    (statement,) = re.findall(r"`(CREATE SCHEMA [^`]+)`", DOCUMENT)
    execute(url, f"CREATE ROLE {name} LOGIN")
    theirs = urlsplit(url)._replace(netloc=f"{name}@{urlsplit(url).netloc.rpartition('@')[2]}").geturl()
    try:
        with pytest.raises(DatabaseError, match="The role lacks a right"):
            upgrade(parse_database_url(theirs))
        for part in statement.replace("the_role", name).split(";"):
            execute(url, part)
        assert upgrade(parse_database_url(theirs))
        with running("postgres", migrate=False, DATABASE_URL=theirs) as service:
            use_every_endpoint(service.client())
    finally:
        execute(url, f"DROP OWNED BY {name}")
        execute(url, f"DROP ROLE {name}")


def test_a_password_can_stay_off_the_command_line(new_migrated_url: MakeDatabase, tmp_path: Path) -> None:
    url, empty = new_migrated_url("postgres-tls"), new_migrated_url("sqlite")
    place = urlsplit(url)
    parts = [str(place.hostname), str(place.port), place.path[1:], str(place.username), unquote(str(place.password))]
    passwords = tmp_path / ".pgpass"
    passwords.write_text(":".join(parts))
    passwords.chmod(0o600)
    without = place._replace(netloc=f"{place.username}@{place.hostname}:{place.port}").geturl()
    done = run(tmp_path, "copy", "--from", empty, "--to", without, HOME=str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_document_names_only_commands_and_options_that_exist() -> None:
    said = re.findall(r"(?:^|[ /`'])taskwell ([a-z]+)( --[^`\n…]*)?", DOCUMENT, re.MULTILINE)
    named = [[command, *shlex.split(options)] for command, options in said if options]
    assert len(named) >= 3
    for arguments in named:
        parse(arguments)
    assert {command for command, _ in said} <= set(COMMANDS)
