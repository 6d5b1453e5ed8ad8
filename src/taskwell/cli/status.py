"""Exit statuses, and the exception that ends a command with one."""

import signal
import sys

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128 + signal.SIGINT


class CommandFailed(Exception):
    """Ends the command with `status` and prints the message to standard error."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def complain(message: str, status: int) -> int:
    """Prints `message` to standard error and returns `status`."""
    print(message, file=sys.stderr)
    return status
