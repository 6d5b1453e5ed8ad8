"""The units in deploy/vm: systemd accepts them, and the service runs in their sandbox."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from support.ports import free_port
from support.process import COMMAND, WAIT_SECONDS
from support.service import SECRET, Client, use_every_endpoint
from support.unit import UNITS, command, confined, lines, require_systemd_analyze, strict
from taskwell.cli.main import parse
from taskwell.server.run import STOP_SECONDS

SERVICES = ["taskwell.service", "taskwell@migrate.service", "taskwell@purge.service"]

# In tenths; 16 when it was written. A public web service without any of the protections has 94.
MOST_EXPOSED = 20


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder of the units, in which they name a command that exists."""
    for unit in UNITS.glob("taskwell*"):
        text = unit.read_text(encoding="utf-8")
        (tmp_path / unit.name).write_text(text.replace("/opt/taskwell/bin/taskwell", str(COMMAND)))
    return tmp_path


def analyze(*arguments: str, folder: Path) -> str:
    """Returns what systemd-analyze complains about."""
    done = subprocess.run(
        [require_systemd_analyze(), *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stderr if done.returncode == 0 else done.stdout + done.stderr


def test_systemd_accepts_the_units(installed: Path) -> None:
    assert analyze("verify", *(f"./{unit}" for unit in [*SERVICES, "taskwell-purge.timer"]), folder=installed) == ""
    # It would notice a mistake.
    broken = installed / "taskwell.service"
    broken.write_text(broken.read_text().replace("ProtectHome", "ProtectHouse"))
    assert "Unknown key 'ProtectHouse'" in analyze("verify", "./taskwell.service", folder=installed)


def test_the_units_leave_little_exposed(installed: Path) -> None:
    for unit in ("taskwell.service", "taskwell@.service"):
        options = ["--no-pager", "--offline=true", f"--threshold={MOST_EXPOSED}"]
        assert analyze("security", *options, f"./{unit}", folder=installed) == ""


def test_commands_run_with_the_protections_of_the_service() -> None:
    texts = [(UNITS / unit).read_text(encoding="utf-8") for unit in ("taskwell.service", "taskwell@.service")]
    sandboxes = [
        re.findall(r"^StateDirectory=.*^SystemCallErrorNumber=\w+$", text, re.DOTALL | re.MULTILINE) for text in texts
    ]
    assert len(sandboxes[0]) == 1
    assert sandboxes[0] == sandboxes[1]


def test_every_command_of_the_units_exists() -> None:
    for unit in SERVICES:
        parse(command(unit)[1:])


def test_a_stop_leaves_the_requests_in_flight_their_time() -> None:
    assert int(lines("taskwell.service", "TimeoutStopSec")[0]) > STOP_SECONDS


def _environment(database: str) -> dict[str, str]:
    """The variables that systemd passes on."""
    return {"PATH": os.environ["PATH"], "DATABASE_URL": database, "BETTER_AUTH_SECRET": SECRET}


def _migrate(folder: Path, database: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        strict(folder, command("taskwell@migrate.service")),
        env=_environment(database),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=confined(),
    )


@contextmanager
def _service(folder: Path, database: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    port = str(free_port())
    arguments = [port if word == "8000" else word for word in command("taskwell.service")]
    assert arguments != command("taskwell.service")
    process = subprocess.Popen(
        strict(folder, arguments), env=_environment(database), preexec_fn=confined(), start_new_session=True
    )
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(http: httpx2.Client) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            assert http.get("/health/ready").status_code == 200
            return
        except httpx2.TransportError:
            time.sleep(0.1)
    raise AssertionError("the service does not start")


def test_the_service_runs_on_sqlite_in_its_sandbox_and_stops_when_systemd_says_so(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/state/taskwell.db"
    migrated = _migrate(tmp_path, database)
    assert migrated.returncode == 0, migrated.stderr
    with _service(tmp_path, database) as (process, url), httpx2.Client(base_url=url, timeout=15) as http:
        _wait_until_ready(http)
        use_every_endpoint(Client(http))
        # systemd sends the signal to every process of the service.
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir()} == {0}


def test_an_sqlite_database_outside_of_the_state_directory_is_refused(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path}/taskwell.db"
    migrated = _migrate(tmp_path, database)
    assert migrated.returncode == 1
    assert "Traceback" not in migrated.stderr
