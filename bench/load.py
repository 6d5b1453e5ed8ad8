"""Load from wrk: each of a number of open connections sends its next request as soon as it has a response."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from database import LoadUser
from users import Auth

CONNECTIONS = 32
TIMEOUT_SECONDS = 15
SCRIPT = Path(__file__).with_name("requests.lua")

# Each run gets a new seed, so that no title of an earlier run comes again.
_seeds = count(1)


@dataclass(frozen=True)
class Result:
    """Results of a run, as wrk reports them. The percentiles are in milliseconds."""

    completed: int
    sent: int
    seconds: float
    bad_status: int
    failed: int
    p50: float
    p95: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.completed / self.seconds


class LoadFailed(Exception):
    """Some requests got no response or a wrong one, so there is nothing to measure."""


def require_wrk() -> None:
    if not shutil.which("wrk"):
        sys.exit("make bench needs wrk: apt-get install wrk")


def write_users(path: Path, auth: Auth, users: Iterable[LoadUser]) -> Path:
    """Writes the file from which `requests.lua` reads its users, and returns its path."""
    lines = [
        f"{user.role} {user.name} {user.first_id} {user.step} {user.tasks} {auth.token(user.name)}\n" for user in users
    ]
    path.write_text("".join(lines))
    return path


def run(workload: str, url: str, users: Path, seconds: float, connections: int = CONNECTIONS) -> Result:
    """Sends requests for `seconds`.

    Raises:
        LoadFailed: a status was not 2xx, or a connection failed.
    """
    # wrk accepts only whole seconds.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_SECONDS}s"]
    command += ["-s", str(SCRIPT), url, "--", workload, str(users), str(next(_seeds))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadFailed(f"wrk failed: {done.stderr or done.stdout}")
    result = Result(**json.loads(line.removeprefix("RESULT ")))
    if result.bad_status or result.failed or not result.completed:
        raise LoadFailed(f"{workload} at {url}: {result}")
    return result
