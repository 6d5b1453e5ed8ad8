"""Exit statuses, and the exception that ends a command with one."""

import os
import signal
import sys

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128 + signal.SIGINT
OUTPUT_CLOSED = 128 + 13  # SIGPIPE, which Windows does not have


class CommandFailed(Exception):
    """Ends the command with `status` and prints the message to standard error."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def discard_output() -> None:
    """Discards further standard output. Call this when its reader has ended; otherwise Python reports an error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
