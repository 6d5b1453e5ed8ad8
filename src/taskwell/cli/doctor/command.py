"""The arguments of `taskwell doctor`, and the settings that it examines."""

import argparse
import asyncio
import functools
import logging
import sys

from taskwell.cli.development import SECRET_FILE
from taskwell.cli.doctor.finding import Finding
from taskwell.cli.doctor.report import GIVEN, NOT_GIVEN, report, report_unusable
from taskwell.cli.environment import development_settings, placeholder_settings, read_environment
from taskwell.cli.status import FAILED, WRONG_USE
from taskwell.errors import SettingsError
from taskwell.settings import Settings, has_auth_mode


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Check the settings, the database, the auth server and, if given, a token: say what works, what does not, and "
        "what to do about it. Examines the settings of `taskwell serve`, or without any those of `taskwell dev`, and "
        "changes nothing. Shows what a token claims, but never a token, a secret or a password."
    )
    parser.epilog = "Exit status: 0 no check fails, 1 a check fails, 2 wrong use or unusable settings."
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="also check whether this token is accepted; - reads it from standard input, "
        "which keeps it out of the shell's history",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    say = functools.partial(print, flush=True)
    token = options.token
    if token == "-":  # noqa: S105 - the usual name of standard input
        token = sys.stdin.buffer.readline().decode(errors="replace")
    try:
        first, settings = _settings_to_examine()
    except SettingsError as error:
        report_unusable(error, say)
        sys.exit(WRONG_USE)
    # The report says what the parts of the service would log.
    logging.disable()
    if not asyncio.run(report(first, settings, token.strip() if token else token, say)):
        sys.exit(FAILED)


def _settings_to_examine() -> tuple[Finding, Settings]:
    """Returns the settings of `serve`, or else of `dev`, and the finding that says which."""
    environment = read_environment()
    if has_auth_mode(environment) or environment.get("DATABASE_URL", "").strip():
        return GIVEN, Settings.read(environment)
    if SECRET_FILE.exists():
        return NOT_GIVEN, development_settings()
    # The doctor must not create the secret. Without one, no token can have been signed with it.
    return NOT_GIVEN, placeholder_settings(environment)
