"""Command-line arguments shared by several commands."""

import argparse
import os
import re
from collections.abc import Callable


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


def number(lowest: int, highest: int) -> Callable[[str], int]:
    """Returns an argparse type that accepts a decimal integer from `lowest` to `highest`."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {lowest} to {highest}")
        return int(text)

    return parse
