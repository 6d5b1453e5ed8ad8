"""Runs the installed command as a process, as an operator does."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from support.service import SECRET, Client

COMMAND = Path(sys.executable).with_name("taskwell")
WAIT_SECONDS = 60


def environment(**settings: str) -> dict[str, str]:
    """Returns an environment with `settings` and what every process needs, without the test run's own variables."""
    needed = {name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")}
    # Most tests that read the log look for lines of text.
    return needed | {"PYTHONWARNINGS": "error", "TASKWELL_LOG_FORMAT": "text"} | settings


def run(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Runs `taskwell` in `folder` until it exits."""
    return run_after(None, folder, *arguments, **settings)


def run_after(
    prepare: Callable[[], None] | None, folder: Path, *arguments: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Runs `taskwell` in `folder` until it exits. The new process first calls `prepare`."""
    return subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        preexec_fn=prepare,
    )


@dataclass
class Server:
    """A running `taskwell serve` or `taskwell dev`."""

    process: "subprocess.Popen[bytes]"
    url: str
    http: httpx2.Client
    output: Path
    log: Path

    def client(self, user: str) -> Client:
        return Client(self.http, user)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Sends a signal, waits until the process exits, and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(WAIT_SECONDS)

    def line_about(self, request_id: str, logger: str) -> str:
        """Returns the line of a logger about a request. The access log is written every tenth of a second."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if f" {logger} request_id={request_id} " in line:
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no line of {logger} about {request_id}")


@contextmanager
def serving(folder: Path, *arguments: str, **settings: str) -> Iterator[Server]:
    """Starts `taskwell serve`, or the given command, on a free port and waits until it serves."""
    output, log = folder / "stdout", folder / "stderr"
    with output.open("wb") as out, log.open("wb") as error:
        process = subprocess.Popen(
            [COMMAND, *(arguments or ["serve"]), "--port", "0"],
            cwd=folder,
            env=environment(**settings),
            stdout=out,
            stderr=error,
        )
    try:
        url = _announced(process, output, log)
        with httpx2.Client(base_url=url, timeout=15, verify=False) as http:
            yield Server(process, url, http, output, log)
    finally:
        process.kill()
        process.wait()


def _announced(process: "subprocess.Popen[bytes]", *outputs: Path) -> str:
    deadline = time.monotonic() + WAIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        for output in outputs:
            if found := re.search(r'(?:running|serving) at (http://[^\s"]+)', output.read_text()):
                return found[1]
        time.sleep(0.02)
    raise AssertionError(f"the process does not serve:\n{outputs[-1].read_text()}")


def production(url: str) -> dict[str, str]:
    """Returns the settings of a service that uses the database at `url`."""
    return {"DATABASE_URL": url, "BETTER_AUTH_SECRET": SECRET, "TASKWELL_POOL_MIN": "1"}
