"""The installed command, run in an empty folder for each test."""

import errno
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import jwt
import pytest

from support.daemon import can_unshare, enter_user_namespace
from support.process import COMMAND, WAIT_SECONDS, environment, production, run, run_after, serving
from support.rows import execute
from support.service import SECRET
from taskwell.cli.development import development_secret
from taskwell.cli.main import parse
from taskwell.database.schema import FUNCTIONS_SCHEMA
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.server.run import listen, url_of

ROOT = Path(__file__).parents[1]
COMMANDS = ["serve", "dev", "migrate", "distribute", "purge", "copy", "import", "token", "openapi", "doctor"]


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> str:
    url = new_database_url(request.param)
    upgrade(parse_database_url(url))
    return url


@pytest.fixture
def sqlite_database(new_database_url: Callable[[str], str]) -> str:
    url = new_database_url("sqlite")
    upgrade(parse_database_url(url))
    return url


# --- help


def test_help_does_not_load_a_web_framework(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", COMMAND, "--help"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        check=True,
    )
    assert done.stdout.startswith("usage: taskwell")
    assert "argparse" in done.stderr
    assert re.findall(r"\b(?:fastapi|sqlalchemy|pydantic|uvicorn|alembic|jwt)\b", done.stderr) == []


def test_help_lists_every_command(tmp_path: Path) -> None:
    text = run(tmp_path, "--help").stdout
    assert re.findall(r"^    ([a-z]+)(?: |$)", text, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["server"], "invalid choice: 'server'"),
        (["serve", "--port", "http"], "argument --port: 'http' is not a number from 0 to 65535"),
        (["serve", "--port", "65536"], "argument --port: '65536' is not a number from 0 to 65535"),
        (["dev", "--port", "-1"], "argument --port: '-1' is not a number from 0 to 65535"),
        (["serve", "--workers", "0"], "argument --workers: '0' is not a number from 1 to 256"),
        (["serve", "--workers", "1.5"], "argument --workers: '1.5' is not a number"),
        (["token"], "the following arguments are required: --user"),
        (["token", "--user", "a", "--ttl", "0"], "argument --ttl: '0' is not a number from 1 to"),
        (["token", "--user", "a", "--ttl", "9" * 5000], "is not a number from 1 to"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_wrong_use_is_explained(arguments: list[str], reason: str, tmp_path: Path) -> None:
    done = run(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")
def test_make_without_a_target_lists_the_targets() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("dev", "test", "lint", "types", "suite", "format"):
        assert re.search(rf"^  make {target} +\S", listed, re.MULTILINE)


# --- dev


def _run_curl(curl: str) -> httpx2.Response:
    """Sends the request of a curl command and returns the response."""
    words = shlex.split(curl.replace("\\\n", " "))
    assert words[:3] == ["curl", "-X", "POST"]
    options = list(zip(words[4::2], words[5::2], strict=True))
    headers = dict(value.split(": ", 1) for flag, value in options if flag == "-H")
    return httpx2.post(words[3], headers=headers, content=dict(options)["-d"], timeout=15, verify=False)


def test_dev_needs_no_settings_and_the_curl_command_it_prints_creates_a_task(tmp_path: Path) -> None:
    with serving(tmp_path, "dev") as server:
        text = server.output.read_text()
        (curl,) = re.findall(r"curl (?:.*\\\n)+.*", text)
        response = _run_curl(curl)
        assert (response.status_code, response.json()["title"]) == (201, "Buy milk")
        documentation = re.search(r"documentation: +(\S+)", text)
        assert documentation
        assert server.http.get(documentation[1]).status_code == 200


def test_starting_dev_again_keeps_the_tasks_and_the_secret(tmp_path: Path) -> None:
    tasks, secrets = [], set()
    for _ in range(2):
        with serving(tmp_path, "dev") as server:
            secrets.add((tmp_path / ".taskwell/development-secret").read_text())
            token = run(tmp_path, "token", "--user", "demo").stdout.strip()
            headers = {"Authorization": f"Bearer {token}"}
            server.http.post("/api/demo/tasks", headers=headers, json={"title": "Buy milk"}).raise_for_status()
            tasks.append(server.http.get("/api/demo/tasks", headers=headers).json()["tasks"])
            assert server.end() == 0
    assert len(secrets) == 1
    assert tasks[1][1:] == tasks[0]


def test_only_its_owner_can_read_the_development_secret(tmp_path: Path) -> None:
    run(tmp_path, "token", "--user", "demo")
    files = list((tmp_path / ".taskwell").iterdir())
    assert [file.name for file in files] == ["development-secret"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (files[0], files[0].parent)] == [0o600, 0o700]
    assert ".taskwell/" in (ROOT / ".gitignore").read_text().splitlines()


def test_commands_started_at_the_same_time_use_one_secret(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda user: run(tmp_path, "token", "--user", user), "abc"))
    secret = (tmp_path / ".taskwell/development-secret").read_text()
    assert [jwt.decode(one.stdout.strip(), secret, ["HS256"])["sub"] for one in done] == ["a", "b", "c"]


def test_the_development_secret_needs_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def not_supported(*paths: object, **options: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP), *paths)

    monkeypatch.setattr("os.link", not_supported)
    monkeypatch.chdir(tmp_path)
    secret = development_secret()
    assert len(secret) > 60
    assert development_secret() == secret


def test_a_secret_that_another_process_is_about_to_write_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".taskwell/development-secret"
    file.parent.mkdir()
    file.touch()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(development_secret)
        time.sleep(0.2)
        file.write_text(SECRET)
        assert waiting.result() == SECRET


def test_an_incomplete_development_secret_is_named(tmp_path: Path) -> None:
    (tmp_path / ".taskwell").mkdir()
    (tmp_path / ".taskwell/development-secret").touch()
    done = run(tmp_path, "token", "--user", "demo")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("taskwell token: .taskwell/development-secret does not contain a complete secret; ")


@pytest.mark.parametrize("closed", ["at once", "after a line"])
def test_dev_ends_without_a_traceback_when_nobody_reads_its_output(closed: str, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [COMMAND, "dev", "--port", "0"],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    with process:
        if closed == "after a line":
            process.stdout.readline()
            process.stdout.readline()
            process.stdout.close()
            process.terminate()
        else:
            process.stdout.close()
        log = process.stderr.read().decode()
        assert process.wait(WAIT_SECONDS) == 0
    assert "Application shutdown complete" in log
    assert "Traceback" not in log
    assert "Broken pipe" not in log


def test_a_command_whose_output_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [COMMAND, "openapi"], cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.close()
    _, log = process.communicate(timeout=WAIT_SECONDS)
    assert (process.returncode, log) == (128 + signal.SIGPIPE, b"")


def test_production_refuses_the_development_secret(tmp_path: Path, sqlite_database: str) -> None:
    run(tmp_path, "token", "--user", "demo")
    secret = (tmp_path / ".taskwell/development-secret").read_text()
    done = run(tmp_path, "serve", DATABASE_URL=sqlite_database, BETTER_AUTH_SECRET=secret)
    assert done.returncode == 2
    assert "BETTER_AUTH_SECRET: is the development secret" in done.stderr
    assert secret not in done.stderr


def test_in_development_an_empty_setting_counts_as_unset(tmp_path: Path) -> None:
    with serving(tmp_path, "dev", DATABASE_URL="", BETTER_AUTH_SECRET=""):
        assert (tmp_path / "taskwell.db").exists()


# --- serve


def test_production_names_all_missing_and_wrong_settings_at_once(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", BETTER_AUTH_SECRET="hunter2", TASKWELL_POOLMAX="7")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == """taskwell serve: the settings cannot be used:
  TASKWELL_POOLMAX: is not a setting; did you mean TASKWELL_POOL_MAX?
  DATABASE_URL: is missing; set it to postgresql://user:password@host/database or sqlite:///taskwell.db
  BETTER_AUTH_SECRET: is shorter than 32 bytes; make one with `openssl rand -base64 32` and set it on the auth server too
"""
    )
    assert list(tmp_path.iterdir()) == []


def test_settings_can_be_in_a_dotenv_file_and_the_environment_wins(tmp_path: Path, sqlite_database: str) -> None:
    (tmp_path / ".env").write_text(f'DATABASE_URL="{sqlite_database}"\nBETTER_AUTH_SECRET={SECRET}\n')
    with serving(tmp_path) as server:
        assert server.http.get("/health/ready").status_code == 200
    done = run(tmp_path, "serve", BETTER_AUTH_SECRET="hunter2")
    assert "BETTER_AUTH_SECRET: is shorter" in done.stderr


@pytest.mark.parametrize(
    ("sql", "remedy"),
    [
        ("DROP TABLE alembic_version", "Run: taskwell migrate"),
        ("UPDATE alembic_version SET version_num = '0001'", "Run: taskwell migrate"),
        ("UPDATE alembic_version SET version_num = 'a1b2c3d4'", "a revision that is not Taskwell's"),
        ("UPDATE alembic_version SET version_num = '9999'", "Run the newer version"),
    ],
)
def test_serve_refuses_another_schema_and_says_what_to_do(database: str, sql: str, remedy: str, tmp_path: Path) -> None:
    execute(database, sql)
    if database.startswith("postgres"):
        # With its functions, a version can serve on the schema of a newer one.
        execute(database, f"DROP SCHEMA {FUNCTIONS_SCHEMA} CASCADE")
    done = run(tmp_path, "serve", **production(database))
    assert done.returncode == 1
    assert remedy in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["migrate", "dev"])
def test_no_command_downgrades_a_newer_schema(sqlite_database: str, command: str, tmp_path: Path) -> None:
    execute(sqlite_database, "UPDATE alembic_version SET version_num = '9999'")
    options = ["--port", "0"] if command == "dev" else []
    done = run(tmp_path, command, *options, DATABASE_URL=sqlite_database)
    assert done.returncode == 1
    assert "Run the newer version that migrated it" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_does_not_create_a_database_at_a_mistyped_path(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", **production("sqlite:///taskwel.db"))
    assert done.returncode == 1
    assert "Run: taskwell migrate (there is no file taskwel.db)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def _run_without_rights_of_root(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return run_after(enter_user_namespace if os.geteuid() == 0 else None, folder, *arguments, **settings)


@pytest.mark.parametrize("command", ["serve", "migrate", "doctor"])
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no/taskwell.db", "the folder {here}/no does not exist"),
        ("folder", "{here}/folder is a folder"),
        ("notes.txt", "{here}/notes.txt is not an SQLite database"),
    ],
)
def test_an_unusable_database_file_is_explained(command: str, path: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("Buy milk. " * 200)
    done = run(tmp_path, command, **production(f"sqlite:///{path}"))
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert reason.format(here=tmp_path) in said
    assert "Traceback" not in said
    assert "cannot be reached" not in said


@pytest.mark.skipif(os.geteuid() == 0 and not can_unshare(), reason="root can write everywhere")
@pytest.mark.parametrize("command", ["serve", "migrate", "doctor"])
@pytest.mark.parametrize("read_only", ["folder", "file"])
def test_a_read_only_database_is_named(command: str, read_only: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    upgrade(parse_database_url(f"sqlite:///{folder}/taskwell.db"))
    locked = folder if read_only == "folder" else folder / "taskwell.db"
    locked.chmod(0o500)
    done = _run_without_rights_of_root(tmp_path, command, **production("sqlite:///folder/taskwell.db"))
    locked.chmod(0o700)
    assert done.returncode == 1
    assert f"{locked} cannot be written" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["serve", "dev"])
def test_a_port_in_use_gives_one_line_and_status_1(command: str, sqlite_database: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(tmp_path, command, "--port", str(port), **production(sqlite_database))
    assert (done.returncode, done.stdout) == (1, "")
    reason = f"cannot listen on 127.0.0.1:{port}: Address already in use; choose another --host or --port"
    assert done.stderr == f"taskwell {command}: {reason}\n"


@pytest.mark.parametrize(
    ("host", "address"), [("192.0.2.1", "192.0.2.1:8000"), ("2001:db8::1", "[2001:db8::1]:8000"), ("x" * 64, "x" * 64)]
)
def test_a_host_that_is_not_on_this_machine_is_named(host: str, address: str) -> None:
    with pytest.raises(OSError, match=rf"^cannot listen on {re.escape(address)}.*; choose another --host or --port$"):
        listen(host, 8000)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - closed at once
def test_the_printed_address_works_in_a_browser(host: str) -> None:
    with listen(host, 0) as listener:
        assert url_of(listener) == f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_two_worker_processes_act_as_one_service(database: str, tmp_path: Path) -> None:
    with serving(tmp_path, "serve", "--workers", "2", **production(database)) as server:
        alice = server.client("alice")
        with ThreadPoolExecutor(8) as pool:
            created = list(pool.map(lambda number: alice.create(f"task {number}"), range(80)))
        assert len({task["id"] for task in created}) == 80
        assert sorted(alice.titles()) == sorted(task["title"] for task in created)
        assert server.end() == 0
        assert server.log.read_text().count("Started server process") == 2
        assert "Traceback" not in server.log.read_text()
    ((revisions,),) = execute(database, "SELECT count(DISTINCT revision) FROM task")
    assert revisions == 80


def test_all_addresses_are_those_of_ipv6_and_of_ipv4() -> None:
    with listen("::", 0) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, port), timeout=5).close()


@pytest.mark.parametrize(
    ("arguments", "variable", "port"),
    [([], None, 8000), ([], "", 8000), ([], "4000", 4000), (["--port", "5000"], "4000", 5000)],
)
def test_the_platforms_port_is_the_default(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str | None, port: int
) -> None:
    monkeypatch.delenv("PORT", raising=False)
    if variable is not None:
        monkeypatch.setenv("PORT", variable)
    assert parse(["serve", *arguments]).port == port


def test_a_port_of_the_platform_that_is_not_a_number_is_refused(tmp_path: Path) -> None:
    done = run(tmp_path, "serve", PORT="http")
    assert (done.returncode, "argument --port: 'http' is not a number from 0 to 65535" in done.stderr) == (2, True)


@pytest.mark.parametrize(("command", "number"), [("serve", signal.SIGTERM), ("dev", signal.SIGINT)])
def test_a_stop_signal_ends_a_server_with_status_0(
    command: str, number: signal.Signals, sqlite_database: str, tmp_path: Path
) -> None:
    with serving(tmp_path, command, **production(sqlite_database)) as server:
        assert server.http.get("/health").status_code == 200
        assert server.end(number) == 0
        assert "Traceback" not in server.log.read_text()


# --- other commands


def test_a_token_gives_access_to_the_tasks_of_its_user_only(sqlite_database: str, tmp_path: Path) -> None:
    settings = production(sqlite_database) | {"JWT_ISSUER": "https://auth.example", "JWT_AUDIENCE": "a,b"}
    done = run(tmp_path, "token", "--user", "größe/1", "--ttl", "60", **settings)
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    with serving(tmp_path, **settings) as server:
        assert server.http.get("/api/gr%C3%B6%C3%9Fe%2F1/tasks", headers=headers).status_code == 200
        assert server.http.get("/api/demo/tasks", headers=headers).status_code == 403


@pytest.mark.parametrize("name", ["BETTER_AUTH_SECRET", "JWT_SECRET_KEY"])
def test_token_says_which_setting_signed_it(name: str, tmp_path: Path) -> None:
    done = run(tmp_path, "token", "--user", "demo", **{name: SECRET})
    assert jwt.decode(done.stdout.strip(), SECRET, ["HS256"])["sub"] == "demo"
    assert done.stderr == f"taskwell token: signed with {name}\n"


def test_token_says_which_file_signed_it_and_warns_when_it_has_created_the_file(tmp_path: Path) -> None:
    first, second = (run(tmp_path, "token", "--user", "demo").stderr.splitlines() for _ in range(2))
    assert second == [f"taskwell token: signed with the development secret in {tmp_path}/.taskwell/development-secret"]
    assert first[:1] == second
    assert first[1].startswith(
        "taskwell token: warning: this folder had no development secret, so a new one was created"
    )


@pytest.mark.parametrize("user", ["", "x" * 256, "a\nb", "\x85"], ids=ascii)
def test_token_refuses_a_user_id_that_the_service_would_refuse(user: str, tmp_path: Path) -> None:
    done = run(tmp_path, "token", "--user", user)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "taskwell token: --user must be 1 to 255 characters long and must not contain control characters\n"
    )


def test_dev_and_migrate_use_the_same_migration_url(tmp_path: Path) -> None:
    urls = {"DATABASE_URL": "sqlite:///served.db", "MIGRATION_DATABASE_URL": "sqlite:///migrated.db"}
    with serving(tmp_path, "dev", **urls):
        assert run(tmp_path, "migrate", **urls).stdout.startswith("The database is already at")


def test_migrate_without_a_database_url_says_what_to_set(tmp_path: Path) -> None:
    done = run(tmp_path, "migrate")
    assert done.returncode == 2
    assert "DATABASE_URL: is missing; set it to" in done.stderr


def test_openapi_prints_the_document_that_is_served(sqlite_database: str, tmp_path: Path) -> None:
    printed = run(tmp_path, "openapi").stdout
    assert run(tmp_path, "openapi", "--output", "openapi.json").stdout == ""
    assert (tmp_path / "openapi.json").read_text(encoding="utf-8") == printed
    with serving(tmp_path, **production(sqlite_database)) as server:
        assert server.http.get("/openapi.json").json() == httpx2.Response(200, text=printed).json()


def test_an_output_file_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "openapi", "--output", "no/such/folder.json")
    assert done.returncode == 1
    assert done.stderr == "taskwell openapi: No such file or directory: no/such/folder.json\n"
