"""Command-line arguments shared by several commands."""

import argparse
import os
import re
from collections.abc import Callable

from taskwell.database.urls import DatabaseURL, InvalidDatabaseURL, direct, parse_database_url
from taskwell.errors import SettingsError

HIDE_PASSWORDS = "Other users of this machine can see the arguments of a command. To hide a password from them, put it into ~/.pgpass."
"""The epilog of commands with the URL of a database among their arguments."""


def add_address(parser: argparse.ArgumentParser) -> None:
    """Adds `--host` and `--port`."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0 means all IPv4 addresses (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port",
        type=number(0, 65535),
        # Railway, Render, Heroku and Cloud Run set this variable to the port on which they expect the service.
        default=os.environ.get("PORT") or 8000,
        help="port to listen on; 0 means any free port (default: the variable PORT, or else 8000)",
    )


def database_url(option: str, text: str) -> DatabaseURL:
    """Returns the database that an option names, without a pooler in between.

    Raises:
        SettingsError: the URL cannot be used.
    """
    try:
        return direct(parse_database_url(text))
    except InvalidDatabaseURL as error:
        raise SettingsError(f"{option}: {error}") from None


def number(lowest: int, highest: int) -> Callable[[str], int]:
    """Returns an argparse type that accepts a decimal integer from `lowest` to `highest`."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {lowest} to {highest}")
        return int(text)

    return parse
