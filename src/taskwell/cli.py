"""The command line.

Each command imports what it needs when it runs, so that `--help` does not wait for a web framework.
"""

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import taskwell

if TYPE_CHECKING:
    from taskwell.database.urls import DatabaseURL
    from taskwell.doctor.finding import Finding
    from taskwell.settings import Settings

DEVELOPMENT_DATABASE_URL = "sqlite:///taskwell.db"

FAILED = 1
WRONG_USE = 2
INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 failed, 2 wrongly used or set up."""
    options = _parser().parse_args(arguments)
    # pydantic takes its time; an error in the arguments should not.
    from taskwell.errors import Problem
    from taskwell.settings import SettingsError

    try:
        options.run(options)
    except SettingsError as error:
        return _complain(f"taskwell {options.command}: cannot start:\n{_indented(str(error))}", WRONG_USE)
    except Problem as problem:
        cause = f" ({problem.cause})" if problem.cause else ""
        return _complain(f"taskwell {options.command}: {problem.detail}{cause}", FAILED)
    except OSError as error:
        return _complain(f"taskwell {options.command}: {error}", FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _complain(reason: str, status: int) -> int:
    print(reason, file=sys.stderr)
    return status


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.splitlines())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taskwell",
        description="A task API: FastAPI on PostgreSQL or SQLite, users from Better Auth.",
        epilog="Settings come from the environment and from .env; docs/settings.md lists them.",
    )
    parser.add_argument("--version", action="version", version=taskwell.__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")

    serve = commands.add_parser(
        "serve",
        help="serve in production",
        description="Serve in production. Needs DATABASE_URL, a migrated database, and BETTER_AUTH_URL or BETTER_AUTH_SECRET.",
    )
    _add_address(serve)
    serve.add_argument(
        "--workers", type=_number(1, 256), default=1, metavar="N", help="processes that serve (default: 1)"
    )
    serve.set_defaults(run=_serve)

    dev = commands.add_parser(
        "dev",
        help="set up and serve for development",
        description="Create or migrate the database, and serve with a ready token for a demo user. "
        f"Without settings it uses {DEVELOPMENT_DATABASE_URL} and a secret of its own.",
    )
    _add_address(dev)
    dev.set_defaults(run=_dev)

    migrate = commands.add_parser(
        "migrate",
        help="bring the database to this version's schema",
        description="Bring the database that MIGRATION_DATABASE_URL or else DATABASE_URL names to this version's schema. "
        "May be run again at any time, and by many at once: one migrates, the others wait and find it done.",
    )
    migrate.add_argument(
        "--sql",
        action="store_true",
        help="only print the SQL that gives an empty database this schema; nothing is connected to",
    )
    migrate.set_defaults(run=_migrate)

    copy = commands.add_parser(
        "copy",
        help="copy all data to another database",
        description="Copy all data from one migrated database to another, of the same kind or not, as it is: ids, times, "
        "all. What is there must be from the same source, and is brought up to date. Whatever stops it, the target is "
        "then as it was.",
        epilog="Others on this machine can see a command's arguments. A password may stand in ~/.pgpass instead of the URL.",
    )
    copy.add_argument("--from", required=True, dest="source", metavar="URL", help="the database to read")
    copy.add_argument("--to", required=True, dest="target", metavar="URL", help="the database to write")
    copy.set_defaults(run=_copy)

    token = commands.add_parser(
        "token",
        help="print a token for a user",
        description="Print a token, signed with BETTER_AUTH_SECRET, or else with the secret that `taskwell dev` made.",
    )
    token.add_argument("--user", required=True, metavar="ID", help="the user whose token it is")
    token.add_argument(
        "--ttl",
        type=_number(1, 366 * 24 * 3600),
        default=900,
        metavar="SECONDS",
        help="how long it is valid, up to a year (default: 900)",
    )
    token.set_defaults(run=_token)

    openapi = commands.add_parser(
        "openapi",
        help="print the OpenAPI document",
        description="Print the OpenAPI document, from which clients are generated. Needs no settings.",
    )
    openapi.add_argument("--output", type=Path, metavar="FILE", help="write it to FILE instead")
    openapi.set_defaults(run=_openapi)

    doctor = commands.add_parser(
        "doctor",
        help="say whether the set-up works, and why a token is refused",
        description="Say what works and what does not, and what to do about it: settings, database, auth server, and "
        "a token if one is given. Reads the settings that `taskwell serve` reads, or without any what `taskwell dev` "
        "uses, and changes nothing. Shows what a token claims, but no token, secret or password.",
        epilog="Exit status: 0 nothing fails, 1 something does, 2 wrongly used or unusable settings.",
    )
    doctor.add_argument(
        "--token",
        metavar="TOKEN",
        help="also say whether this token is accepted, and if not, why; - reads it from standard input, "
        "so that it is not in the shell's history",
    )
    doctor.set_defaults(run=_doctor)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--host", default="127.0.0.1", help="the address to listen on; 0.0.0.0 is all of them (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=_number(0, 65535), default=8000, help="the port to listen on; 0 is a free one (default: 8000)"
    )


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no number from {least} to {most}")
        return int(text)

    return read


# --- the commands


def _serve(options: argparse.Namespace) -> None:
    import asyncio
    import logging

    from taskwell.settings import Settings

    _end_when_told_to()
    settings = Settings.read(_environment())
    from taskwell.server import check_database, listen, serve, serve_by_workers, start_logging, url_of

    start_logging(settings.TASKWELL_LOG_LEVEL)
    asyncio.run(check_database(settings))
    say = logging.getLogger(__name__).info
    with listen(options.host, options.port) as listener:
        if options.workers > 1:
            say("serving at %s by %d processes", url_of(listener), options.workers)
            serve_by_workers(settings, listener, options.workers)
        else:
            serve(settings, listener, lambda: say("serving at %s", url_of(listener)))


def _dev(options: argparse.Namespace) -> None:
    from taskwell.development import greeting
    from taskwell.migrations.runner import upgrade
    from taskwell.server import listen, serve, url_of

    _end_when_told_to()
    settings = _development_settings()
    with listen(options.host, options.port) as listener:
        upgrade(settings.migration_url)
        text = greeting(settings, url_of(listener), f"{sys.argv[0]} token")
        serve(settings, listener, lambda: print(text, flush=True))


def _migrate(options: argparse.Namespace) -> None:
    from taskwell.migrations import HEAD
    from taskwell.migrations.runner import print_sql, upgrade
    from taskwell.settings import read_migration_url

    url = read_migration_url(_environment())
    if options.sql:
        print_sql(url)
    elif upgrade(url):
        print(f"The database was migrated to revision {HEAD}.")
    else:
        print(f"The database is at revision {HEAD} already.")


def _copy(options: argparse.Namespace) -> None:
    import asyncio

    from taskwell.copying import CopyRefused, copy
    from taskwell.settings import SettingsError

    source, target = _url_of("--from", options.source), _url_of("--to", options.target)
    if source == target:
        raise SettingsError("--to: is the database of --from; name another")
    try:
        copied = asyncio.run(copy(source, target))
    except CopyRefused as error:
        sys.exit(_complain(f"taskwell copy: {error}", FAILED))
    print(f"copied {copied.tasks} tasks of {copied.users} users; verified")


def _url_of(option: str, text: str) -> "DatabaseURL":
    from taskwell.database.urls import InvalidDatabaseURL, direct, parse_database_url
    from taskwell.settings import SettingsError

    try:
        return direct(parse_database_url(text))
    except InvalidDatabaseURL as error:
        raise SettingsError(f"{option}: {error}") from None


def _token(options: argparse.Namespace) -> None:
    from taskwell.auth.tokens import InvalidToken
    from taskwell.development import sign

    try:
        print(sign(_development_settings(), options.user, options.ttl))
    except InvalidToken:
        reason = "taskwell token: --user must be 1 to 255 characters, none of them a control character"
        sys.exit(_complain(reason, WRONG_USE))


def _openapi(options: argparse.Namespace) -> None:
    import json
    import secrets

    from taskwell.app import create_app
    from taskwell.settings import Settings

    # The document depends on no setting, but an application needs some.
    settings = Settings.read({"DATABASE_URL": DEVELOPMENT_DATABASE_URL, "BETTER_AUTH_SECRET": secrets.token_hex()})
    document = json.dumps(create_app(settings).openapi(), indent=2) + "\n"
    if options.output:
        options.output.write_text(document, encoding="utf-8")
    else:
        print(document, end="")


def _doctor(options: argparse.Namespace) -> None:
    import asyncio
    import functools
    import logging

    from taskwell.doctor.report import report, report_unusable
    from taskwell.settings import SettingsError

    say = functools.partial(print, flush=True)
    token = options.token
    if token == "-":  # noqa: S105 - the usual name of standard input
        token = sys.stdin.buffer.readline().decode(errors="replace")
    try:
        first, settings = _settings_to_examine()
    except SettingsError as error:
        report_unusable(error, say)
        sys.exit(WRONG_USE)
    # What the parts of the service would log is a finding, too, and said once.
    logging.disable()
    if not asyncio.run(report(first, settings, token.strip() if token else token, say)):
        sys.exit(FAILED)


# --- what they share


def _environment() -> Mapping[str, str]:
    """The environment, and what .env adds to it; worker processes inherit both."""
    from dotenv import load_dotenv

    load_dotenv(".env", interpolate=False)
    return os.environ


def _development_settings() -> "Settings":
    """The settings, with defaults for what production must be told."""
    from taskwell.development import development_secret
    from taskwell.settings import Settings, has_auth_mode

    environment = dict(_environment())
    if not environment.get("DATABASE_URL", "").strip():
        environment["DATABASE_URL"] = DEVELOPMENT_DATABASE_URL
    if not has_auth_mode(environment):
        environment["BETTER_AUTH_SECRET"] = development_secret()
    return Settings.read(environment, development=True)


def _settings_to_examine() -> tuple["Finding", "Settings"]:
    """Those of `serve`, or where none are given, those of `dev`; before them, what to say of that."""
    import secrets

    from taskwell.development import SECRET_FILE
    from taskwell.doctor.report import GIVEN, NOT_GIVEN
    from taskwell.settings import Settings, has_auth_mode

    environment = _environment()
    if has_auth_mode(environment) or environment.get("DATABASE_URL", "").strip():
        return GIVEN, Settings.read(environment)
    if SECRET_FILE.exists():
        return NOT_GIVEN, _development_settings()
    # To look must not make the secret. Where there is none, no token can be signed with it either.
    stand_ins = {"DATABASE_URL": DEVELOPMENT_DATABASE_URL, "BETTER_AUTH_SECRET": secrets.token_hex()}
    return NOT_GIVEN, Settings.read({**environment, **stand_ins})


def _end_when_told_to() -> None:
    """SIGTERM and Ctrl-C are how a server is meant to end: quietly, as a success.

    uvicorn finishes the requests in flight first, and then sends itself the signal once more.
    """

    def end(number: int, frame: object) -> NoReturn:
        del number, frame
        sys.exit(0)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
