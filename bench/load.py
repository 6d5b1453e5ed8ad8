"""Load by wrk: as many requests as are answered, over a number of connections that are kept open."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from database import Asker
from users import Auth

CONNECTIONS = 32
TIMEOUT_SECONDS = 15
SCRIPT = Path(__file__).with_name("requests.lua")

# Of each run another one, so that no title of an earlier run comes again.
_seeds = count(1)


@dataclass(frozen=True)
class Answers:
    """What wrk says of a run; the percentiles are milliseconds."""

    answered: int
    sent: int
    seconds: float
    bad_status: int
    failed: int
    p50: float
    p95: float
    p99: float

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds


class LoadFailed(Exception):
    """Some requests were not answered, or not as they should be: there is nothing to measure."""


def require_wrk() -> None:
    if not shutil.which("wrk"):
        sys.exit("make bench needs wrk: apt-get install wrk")


def write_users(path: Path, auth: Auth, askers: Iterable[Asker]) -> Path:
    """The file that tells the script who asks for what."""
    lines = [
        f"{asker.does} {asker.user} {asker.first_id} {asker.step} {asker.tasks} {auth.token(asker.user)}\n"
        for asker in askers
    ]
    path.write_text("".join(lines))
    return path


def run(workload: str, url: str, users: Path, seconds: float, connections: int = CONNECTIONS) -> Answers:
    """Sends requests for so many seconds.

    Raises:
        LoadFailed: a status was not 2xx, or a connection failed.
    """
    # wrk takes whole seconds only.
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", f"--timeout={TIMEOUT_SECONDS}s"]
    command += ["-s", str(SCRIPT), url, "--", workload, str(users), str(next(_seeds))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise LoadFailed(f"wrk failed: {done.stderr or done.stdout}")
    answers = Answers(**json.loads(line.removeprefix("RESULT ")))
    if answers.bad_status or answers.failed or not answers.answered:
        raise LoadFailed(f"{workload} at {url}: {answers}")
    return answers
