"""What a server has used: the CPU time and the memory of its processes, as Linux counts them."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# proc_pid_stat(5), counted from the state on, which follows the last parenthesis: the name before it may hold anything.
UTIME, CSTIME, RSS = 11, 14, 21


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, of all that it has started, and of those among them that have ended."""
    while True:
        try:
            ticks = sum(int(field) for process in _tree(pid) for field in _fields(process)[UTIME : CSTIME + 1])
        except (FileNotFoundError, ProcessLookupError):
            # One ended meanwhile. Its time is its parent's now.
            continue
        return ticks / TICKS_PER_SECOND


def resident_megabytes(pid: int) -> float:
    """What the process and all that it has started hold in memory; what they share is counted for each."""
    return sum(int(_fields(process)[RSS]) for process in _tree(pid)) * PAGE_BYTES / 1e6


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
