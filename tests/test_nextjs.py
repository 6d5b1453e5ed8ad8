"""examples/nextjs in a real Chromium, built for production, with Taskwell and its own Better Auth."""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.better_auth import PASSWORD, SECRET
from support.browser import require_browser, run_scenario
from support.client_package import installed
from support.documents import ROOT
from support.npm import require_packages
from support.ports import free_port
from support.process import COMMAND, environment

EXAMPLE = ROOT / "examples" / "nextjs"
START_SECONDS = 120
MAX_SCRIPT_BYTES = 270_000

pytestmark = pytest.mark.slow


@contextmanager
def started(folder: Path) -> Iterator[tuple[str, str]]:
    """Builds and starts the example as `make example` does, and yields the addresses of the app and of Taskwell."""
    log = folder / "log"
    settings = {"DATA": str(folder), "TASKWELL": str(COMMAND), "BETTER_AUTH_SECRET": SECRET}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["node", "start.mjs"], cwd=EXAMPLE, env=environment(**settings), stdout=output, stderr=output
        )
    try:
        yield _announced(process, log, r"Open (\S+) in a browser. Taskwell serves at (\S+)\.")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(START_SECONDS)


def _announced(process: "subprocess.Popen[bytes]", log: Path, pattern: str) -> tuple[str, str]:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(pattern, log.read_text(encoding="utf-8")):
            return found[1], found[2]
        time.sleep(0.05)
    raise AssertionError(log.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The results of tests/browser/nextjs.mjs. It runs once; all workers of a test run read them."""
    require_browser()
    package = installed() / "node_modules" / "@taskwell" / "client"
    require_packages(EXAMPLE)
    folder = tmp_path_factory.getbasetemp()
    result = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "nextjs.json"
    # The other workers wait here, because there is one folder for the build.
    with (EXAMPLE / "package.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not result.exists():
            _install_client(package)
            result.write_text(json.dumps(_used(tmp_path_factory.mktemp("nextjs"))), encoding="utf-8")
    seen: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return seen


def _install_client(package: Path) -> None:
    """Replaces the copy of the client that npm has made, which may be an older one."""
    copy = EXAMPLE / "node_modules" / "@taskwell" / "client"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(package, copy)


def _used(folder: Path) -> object:
    """Runs the scenario. Its screenshots are in the folder."""
    with started(folder) as (app, taskwell):
        return run_scenario("nextjs.mjs", app=app, api=taskwell, folder=str(folder))


def test_it_lists_searches_filters_and_sorts_what_the_user_adds_completes_and_edits(seen: dict[str, Any]) -> None:
    assert seen["open"] == ["Call Ada", "Buy oat milk"]
    assert seen["done"] == ["Water the plants"]
    assert seen["sorted"] == ["Buy oat milk", "Call Ada", "Water the plants"]
    assert seen["found"] == ["Buy oat milk"]


def test_the_server_renders_the_tasks(seen: dict[str, Any]) -> None:
    assert seen["rendered"] == [True, True, True]


def test_a_deletion_can_be_undone(seen: dict[str, Any]) -> None:
    assert seen["isSameAfterUndo"]


def test_changes_without_a_network_arrive_once(seen: dict[str, Any]) -> None:
    assert sorted(seen["afterOffline"]) == [
        ["Buy oat milk", False],
        ["Call Ada today", False],
        ["In both tabs", True],
        ["Water the plants", True],
        ["Written offline", False],
    ]
    # The first tab sorts by title.
    assert seen["bothTabs"] == [
        ["Buy oat milk", "Call Ada today", "Written offline"],
        ["Written offline", "Call Ada today", "Buy oat milk"],
    ]


def test_a_conflict_is_shown_and_the_user_decides(seen: dict[str, Any]) -> None:
    assert seen["conflict"] == ["Call Ada at nine · open", "Call Ada at ten · open"]
    assert "Call Ada at nine" in seen["afterConflict"]


def test_another_user_of_the_same_browser_sees_nothing_of_the_first(seen: dict[str, Any]) -> None:
    assert seen["ofBob"] == ["Of Bob"]
    assert seen["leftOfAlice"] == 0


def test_everyone_can_use_it(seen: dict[str, Any]) -> None:
    assert seen["findings"] == []
    assert seen["complaints"] == []
    assert seen["focusAfterEdit"] == "Edit Buy oat milk"


def test_its_scripts_are_small(seen: dict[str, Any]) -> None:
    assert seen["sizes"]["account"] < seen["sizes"]["tasks"] < MAX_SCRIPT_BYTES


@pytest.mark.usefixtures("seen")
def test_one_variable_moves_better_auth_to_postgresql(new_database_url: Callable[[str], str]) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = {"DATABASE_URL": new_database_url("postgres"), "BETTER_AUTH_URL": url, "BETTER_AUTH_SECRET": SECRET}
    command = ["node", "node_modules/next/dist/bin/next", "start", "--hostname", "127.0.0.1", "--port", str(port)]
    account = {"name": "Alice", "email": "alice@example.org", "password": PASSWORD}
    with subprocess.Popen(command, cwd=EXAMPLE, env=environment(**settings), stdout=subprocess.DEVNULL) as process:
        try:
            _wait_for(url)
            signed_up = httpx2.post(f"{url}/api/auth/sign-up/email", json=account, verify=False)
            assert signed_up.status_code == 200, signed_up.text
        finally:
            process.terminate()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            httpx2.get(f"{url}/sign-in", verify=False)
            return
        time.sleep(0.05)
