"""Processes, as Linux shows them in /proc."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

IS_THERE = Path("/proc/self/task").exists()
WAIT_SECONDS = 30


def children_of(number: int) -> list[Path]:
    """Returns the child processes, as folders of /proc. There are none where there is no /proc."""
    if not IS_THERE:
        return []
    return [Path("/proc") / child for child in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


def workers_of(number: int) -> list[Path]:
    """Returns the worker processes of `taskwell serve --workers`. Its other child is of Python's multiprocessing."""
    return [child for child in children_of(number) if b"spawn_main" in (child / "cmdline").read_bytes()]


def has_ended(process: Path) -> bool:
    """Returns whether the process has ended, even if nobody has asked for its exit status yet."""
    try:
        return "State:\tZ" in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True


def kill(processes: Iterable[Path]) -> None:
    """Kills processes at once, and waits until they have ended."""
    killed = list(processes)
    for process in killed:
        # It may just have ended.
        with suppress(ProcessLookupError):
            os.kill(int(process.name), signal.SIGKILL)
    deadline = time.monotonic() + WAIT_SECONDS
    while not all(map(has_ended, killed)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
