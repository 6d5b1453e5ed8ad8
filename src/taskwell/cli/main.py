"""The entry point of `taskwell`.

Only the chosen command's module is imported, so that `taskwell --help` need not load a web framework.
"""

import argparse
import importlib
import signal
import sys
import textwrap
from collections.abc import Sequence
from typing import NoReturn, Protocol, cast

import taskwell
from taskwell.cli.status import (
    FAILED,
    INTERRUPTED,
    OUTPUT_CLOSED,
    WRONG_USE,
    CommandFailed,
    discard_output,
)
from taskwell.errors import ASK_OPERATOR, TRY_AGAIN, Problem, SettingsError

# For each command: its module, and its summary in `taskwell --help`.
COMMANDS = {
    "serve": ("taskwell.cli.serve", "serve in production"),
    "dev": ("taskwell.cli.dev", "set up and serve for development"),
    "migrate": ("taskwell.cli.migrate", "create or update the database schema"),
    "distribute": ("taskwell.cli.distribute", "spread the tables over the workers of a Citus cluster"),
    "purge": ("taskwell.cli.purge", "erase old deleted tasks"),
    "copy": ("taskwell.cli.copy.command", "copy all data to another database"),
    "import": ("taskwell.cli.importing.command", "import the tasks of another back end"),
    "token": ("taskwell.cli.token", "print a token for a user"),
    "openapi": ("taskwell.cli.openapi", "print the OpenAPI document"),
    "doctor": ("taskwell.cli.doctor.command", "check the set-up, and explain why a token is refused"),
}
_SERVERS = ("serve", "dev")


class _Command(Protocol):
    """The interface of a command's module."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Adds the description and the arguments."""

    def run(self, options: argparse.Namespace) -> None:
        """Runs the command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 success, 1 failure, 2 wrong use or unusable settings."""
    arguments = sys.argv[1:] if arguments is None else arguments
    name = _command_name(arguments)
    if name in _SERVERS:
        # Before the imports, because they take most of the start-up time.
        _exit_on_signals()
    try:
        options = parse(arguments)
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return OUTPUT_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except (SettingsError, CommandFailed, Problem, OSError) as error:
        print(f"taskwell {name}: {_explained(error)}", file=sys.stderr)
        return _status(error)
    return 0


def _explained(error: Exception) -> str:
    match error:
        case SettingsError():
            return "the settings cannot be used:\n" + textwrap.indent(str(error), "  ")
        case Problem():
            # The rest of the detail is advice for clients of the service.
            detail = error.detail.removesuffix(TRY_AGAIN).removesuffix(ASK_OPERATOR).rstrip()
            return f"{detail.removesuffix('.')} ({error.cause})" if error.cause else detail
        case OSError(filename=str(), strerror=str()):
            return f"{error.strerror}: {error.filename}"
        case _:
            return str(error)


def _status(error: Exception) -> int:
    if isinstance(error, CommandFailed):
        return error.status
    return WRONG_USE if isinstance(error, SettingsError) else FAILED


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parses the command line. Call the result's `run` with the result to run the command."""
    parser = argparse.ArgumentParser(
        prog="taskwell",
        description="A task API: FastAPI on PostgreSQL or SQLite, users from Better Auth.",
        epilog="Settings come from the environment and from .env; docs/settings.md lists them.",
    )
    parser.add_argument("--version", action="version", version=taskwell.__version__)
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND", title="commands")
    wanted = _command_name(arguments)
    for name, (module, summary) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=summary)
        if name == wanted:
            command = cast("_Command", importlib.import_module(module))
            command.configure(subparser)
            subparser.set_defaults(run=command.run)
    return parser.parse_args(arguments)


def _command_name(arguments: Sequence[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _exit_on_signals() -> None:
    """Makes SIGTERM and Ctrl-C end a server with status 0 and no traceback.

    uvicorn finishes the requests in flight first and then sends itself the signal again.
    """

    def end(number: int, frame: object) -> NoReturn:
        del number, frame
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
