"""The arguments of `taskwell doctor`, and the choice of the settings it checks."""

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
        "Check the settings, the database, the auth server and, if given, a token. Report what works, what does not, "
        "and how to fix it. Checks the settings of `taskwell serve` or, without settings, those of `taskwell dev`. "
        "Changes nothing. Shows a token's claims, but never a token, a secret or a password."
    )
    parser.epilog = "Exit status: 0 if no check fails, 1 if a check fails, 2 for wrong usage or unusable settings."
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="also check whether this token is accepted; - reads it from standard input, "
        "which keeps it out of the shell history",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    say = functools.partial(print, flush=True)
    token = options.token
    if token == "-":  # noqa: S105 - the conventional name of standard input
        token = sys.stdin.buffer.readline().decode(errors="replace")
    try:
        first, settings = _settings_to_examine()
    except SettingsError as error:
        report_unusable(error, say)
        sys.exit(WRONG_USE)
    # Parts of the service would log what the report already says.
    logging.disable()
    if not asyncio.run(report(first, settings, token.strip() if token else token, say)):
        sys.exit(FAILED)


def _settings_to_examine() -> tuple[Finding, Settings]:
    """Returns a finding that says which settings are checked, and the settings of `serve` or, without any, of `dev`."""
    environment = read_environment()
    if has_auth_mode(environment) or environment.get("DATABASE_URL", "").strip():
        return GIVEN, Settings.read(environment)
    if SECRET_FILE.exists():
        return NOT_GIVEN, development_settings()
    # The doctor must not create the secret. While none exists, no token can have been signed with it.
    return NOT_GIVEN, placeholder_settings(environment)
