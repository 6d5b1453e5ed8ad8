"""`taskwell token`: print a token for a user."""

import argparse
import sys
from collections.abc import Mapping

from taskwell.auth.tokens import InvalidToken
from taskwell.cli.arguments import number
from taskwell.cli.development import SECRET_FILE, sign
from taskwell.cli.environment import development_settings, read_environment
from taskwell.cli.status import WRONG_USE, CommandFailed
from taskwell.settings import has_auth_mode

_INVALID_USER = "--user must be 1 to 255 characters long and must not contain control characters"
_CREATED = (
    "warning: this folder had no development secret, so a new one was created. "
    "A `taskwell dev` in another folder has its own secret and refuses this token."
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Print a token signed with BETTER_AUTH_SECRET or, without settings, with the secret of `taskwell dev`. "
        "Standard output has only the token; standard error says which secret signed it."
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
    environment = read_environment()
    creates_secret = not has_auth_mode(environment) and not SECRET_FILE.exists()
    try:
        token = sign(development_settings(), options.user, options.ttl)
    except InvalidToken:
        raise CommandFailed(_INVALID_USER, WRONG_USE) from None
    print(f"taskwell token: signed with {_secret_in_use(environment)}", file=sys.stderr)
    if creates_secret:
        print(f"taskwell token: {_CREATED}", file=sys.stderr)
    print(token)


def _secret_in_use(environment: Mapping[str, str]) -> str:
    for name in ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY"):
        if environment.get(name, "").strip():
            return name
    return f"the development secret in {SECRET_FILE.absolute()}"
