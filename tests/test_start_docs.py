"""The commands and code of docs/index.md and docs/front-end.md work as written, but on free ports."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from support.better_auth import EXAMPLE
from support.browser import run_scenario
from support.client_package import TOOLS, installed, run
from support.documents import ROOT, blocks
from support.npm import require_packages
from support.ports import free_port
from support.process import WAIT_SECONDS, environment

END = "--- end of the block"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder in which the commands find what they need from a clone of the repository, with its environment."""
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    shutil.copytree(EXAMPLE, tmp_path / "examples" / "better-auth", ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


@contextmanager
def terminal(clone: Path, code: str, ready: str, **variables: str) -> Iterator[str]:
    """Runs a block that keeps running, until its output matches `ready`, and yields what `ready` captured."""
    log = clone / f"{free_port()}.log"
    # The environment is set up, and tests that run meanwhile use it.
    settings = variables | {"MAKEFLAGS": f" -- UV={shutil.which('true')}", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["sh", "-eu", "-c", code],
            cwd=clone,
            env=environment(**settings),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield _captured(process, log, ready)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(WAIT_SECONDS)


def _captured(process: "subprocess.Popen[bytes]", log: Path, ready: str) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if found := re.search(ready, log.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(log.read_text(encoding="utf-8"))


def _without_times_and_ids(text: str) -> str:
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z|(?<=date: ).*", "TIME", text.replace("\r", ""))
    return re.sub(r"\b[0-9A-Z]{26}\b", "ID", text).strip()


def test_the_first_requests_get_the_documented_responses(clone: Path) -> None:
    start, token, *requests = blocks("docs/index.md", "sh")
    with terminal(clone, start, r"running at (http://\S+)", ARGS="--port 0") as url:
        script = token + "".join(f"{request}echo; echo '{END}'\n" for request in requests)
        done = subprocess.run(
            ["sh", "-eu", "-c", script.replace("http://127.0.0.1:8000", url)],
            cwd=clone,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=WAIT_SECONDS,
        )
    received = done.stdout.split(END)[:-1]
    assert [_without_times_and_ids(each) for each in received] == [
        _without_times_and_ids(each) for each in blocks("docs/index.md", "http", "json")
    ]


def _moved(code: str, ports: Mapping[str, int]) -> str:
    for documented, port in ports.items():
        code = re.sub(rf"\b{documented}\b", str(port), code)
    # The packages are installed once for all tests.
    return code.replace("npm ci", ":")


def _bundled(code: str, page: Path) -> None:
    """Bundles the code into a page, as a front end does."""
    source = page.with_suffix(".ts")
    source.write_text(code, encoding="utf-8")
    (page.parent / "node_modules").symlink_to(installed() / "node_modules", target_is_directory=True)
    run(TOOLS / "esbuild", source, "--bundle", "--format=esm", f"--outfile={page}", folder=page.parent)


@pytest.mark.slow
@pytest.mark.parametrize("has_package", [False, True], ids=["without the package", "with the package"])
def test_the_page_shows_each_user_their_own_tasks(clone: Path, has_package: bool) -> None:  # noqa: FBT001
    require_packages(EXAMPLE)
    (clone / "examples/better-auth/node_modules").symlink_to(EXAMPLE / "node_modules", target_is_directory=True)
    ports = {"3000": free_port(), "8000": free_port(), "5173": free_port()}
    auth, taskwell, prepare, serve = [_moved(code, ports) for code in blocks("docs/front-end.md", "sh")]
    subprocess.run(["sh", "-eu", "-c", prepare], cwd=clone, check=True)
    for name, language in (("index.html", "html"), ("page.mjs", "js")):
        (code,) = blocks("docs/front-end.md", language)
        (clone / "page" / name).write_text(_moved(code, ports), encoding="utf-8")
    if has_package:
        code, *_ = blocks("docs/front-end.md", "ts")
        _bundled(_moved(code, ports), clone / "page" / "page.mjs")
    with (
        terminal(clone, auth, r"listens on (\S+)", PORT=str(ports["3000"])),
        terminal(clone, taskwell, r"serving at (\S+)"),
        terminal(clone, serve, r"Serving HTTP on (\S+)"),
    ):
        seen = run_scenario("front-end.mjs", url=f"http://localhost:{ports['5173']}")
    assert seen == {"alice": ["<b>Water</b> the plants", "Buy milk"], "bob": []}
