"""Runs the scenarios of tests/browser in a real Chromium."""

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from support.npm import require_packages

SCENARIOS = Path(__file__).parents[1] / "browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")
SCENARIO_SECONDS = 120


def require_browser() -> str:
    """Returns the path of a Chromium. Without one the test is skipped, or fails in continuous integration."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser: install one of {', '.join(NAMES)}")
    return found


def run_scenario(name: str, **arguments: object) -> Any:
    """Runs `name` in Chromium with `arguments` and returns its result. In Chromium, *.taskwell.test is this machine."""
    require_packages(SCENARIOS)
    text = json.dumps(arguments | {"executablePath": require_browser()})
    done = subprocess.run(
        ["node", SCENARIOS / name, text], capture_output=True, text=True, check=False, timeout=SCENARIO_SECONDS
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class _QuietHandler(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving_pages(folder: Path) -> Iterator[int]:
    """Serves the files of `folder` under every host of this machine, and yields the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
