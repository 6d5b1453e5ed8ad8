"""The CPU time and memory that a server's processes use, as Linux counts them."""

import os
from collections.abc import Iterator
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")

# Fields of proc_pid_stat(5), counted from the state, which follows the last parenthesis. The name before it may contain
# any character.
UTIME, CSTIME, RSS = 11, 14, 21


def cpu_seconds(pid: int) -> float:
    """Returns the user and system time of a process and all its descendants, ended ones included."""
    while True:
        try:
            ticks = sum(int(field) for process in _tree(pid) for field in _fields(process)[UTIME : CSTIME + 1])
        except (FileNotFoundError, ProcessLookupError):
            # A process ended while we were reading. Its time now counts for its parent.
            continue
        return ticks / TICKS_PER_SECOND


def resident_megabytes(pid: int) -> float:
    """Returns the memory of a process and all its descendants. Shared memory counts once for each process."""
    return sum(int(_fields(process)[RSS]) for process in _tree(pid)) * PAGE_BYTES / 1e6


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _tree(int(child))


def _fields(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
