"""The CPU time of PostgreSQL for Taskwell's statements when pgbench sends them: the least that they can cost."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import cache

from accounting import cpu_seconds
from database import Postgres, Size
from statements import for_pgbench
from support import postgres
from users import FIRST_USER

CONNECTIONS = 20
READERS = 100
SETTLE_SECONDS = 0.3
# A run with one transaction per connection shows the time that connecting takes.
ONE_EACH = ["--transactions=1"]


@cache
def program() -> str | None:
    """Returns the path of pgbench, if it is installed. The wheel does not include it."""
    system = postgres.find_system_binaries()
    return shutil.which("pgbench", path=str(system) if system else None) or shutil.which("pgbench")


def scripts(size: Size) -> dict[str, str]:
    """Returns a script for each workload that sends the same statements."""
    readers = min(READERS, size.users)
    some_user = (f"number random(0, {readers - 1})", f"owner {FIRST_USER} + :number")
    some_task = (f"place random(0, {size.tasks - 1})", f"id 1 + :number + {size.users} * :place")
    new = ("title random(1, 1000000000)", "creation_key random(1, 1000000000000000000)", "complete false")
    page = ("limit 50", "offset 0")
    # The description is as long as in the workload. A parameter that the workload does not set is NULL.
    description = "'Oat, two litres, number 12345'"
    unset = {"sets_description": "false", "description": "NULL", "complete": "NULL", "if_match": "NULL"}
    unset |= {"if_none_match": "NULL"}
    return {
        "get": _script([*some_user, *some_task], for_pgbench("get_task")),
        "list": _script([*some_user, *page], for_pgbench("list_tasks")),
        "post": _script(
            [*some_user, *new], for_pgbench("create_task", description=description, creation_digest="NULL")
        ),
        "patch": _script([*some_user, *some_task, *new], for_pgbench("change_task", **unset)),
    }


def _script(variables: Iterable[str], statement: str) -> str:
    return "".join(f"\\set {variable}\n" for variable in variables) + statement


def cpu_milliseconds(database: Postgres, script: str, seconds: float) -> float:
    """Returns PostgreSQL's CPU time per run of the script."""
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
        file.write(script)
        file.flush()
        spend = _spender(database, file.name)
        connecting, _ = spend(ONE_EACH)
        used, transactions = spend([f"--time={max(1, round(seconds))}"])
    return (used - connecting) * 1000 / (transactions - CONNECTIONS)


def _spender(database: Postgres, file: str) -> Callable[[list[str]], tuple[float, int]]:
    options = ["--no-vacuum", "--protocol=prepared", f"--client={CONNECTIONS}", f"--file={file}"]

    def spend(length: list[str]) -> tuple[float, int]:
        before = cpu_seconds(database.pid)
        done = subprocess.run(
            [str(program()), *options, *length, database.url], capture_output=True, text=True, check=False
        )
        # The server's processes end a little later than pgbench.
        time.sleep(SETTLE_SECONDS)
        found = re.search(r"actually processed: (\d+)", done.stdout)
        if done.returncode or not found:
            raise RuntimeError(f"pgbench failed: {done.stderr}")
        return cpu_seconds(database.pid) - before, int(found[1])

    return spend
