"""Exit statuses, and the error that ends a command with one."""

import signal
import sys

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128 + signal.SIGINT


class CommandFailed(Exception):
    """The command ends with `status`; the message says why, on standard error."""

    def __init__(self, message: str, status: int = FAILED) -> None:
        super().__init__(message)
        self.status = status


def complain(message: str, status: int) -> int:
    """Prints `message` to standard error and returns `status`."""
    print(message, file=sys.stderr)
    return status
