"""`taskwell token`: print a token for a user."""

import argparse

from taskwell.auth.tokens import InvalidToken
from taskwell.cli.arguments import number
from taskwell.cli.development import sign
from taskwell.cli.environment import development_settings
from taskwell.cli.status import WRONG_USE, CommandFailed


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Print a token signed with BETTER_AUTH_SECRET or, without settings, with the secret of `taskwell dev`."
    )
    parser.add_argument("--user", required=True, metavar="ID", help="the user that the token is for")
    parser.add_argument(
        "--ttl",
        type=number(1, 366 * 24 * 3600),
        default=900,
        metavar="SECONDS",
        help="how long the token is valid, at most one year (default: 900)",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    try:
        print(sign(development_settings(), options.user, options.ttl))
    except InvalidToken:
        raise CommandFailed(
            "--user must be 1 to 255 characters long and must not contain control characters", WRONG_USE
        ) from None
