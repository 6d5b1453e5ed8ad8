"""The command line.

Each command imports what it needs when it runs, so that `--help` does not wait for a web framework.
"""

import argparse
import os
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskwell.settings import Settings

DEVELOPMENT_DATABASE_URL = "sqlite:///taskwell.db"
DEVELOPMENT_SECRET_FILE = Path(".taskwell/development-secret")
DEMO_USER = "demo"

WRONG_USE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status: 0 done, 1 failed, 2 wrongly used or set up."""
    options = _parser().parse_args(arguments)
    # pydantic and SQLAlchemy take their time; an error in the arguments should not.
    from taskwell.errors import Problem
    from taskwell.settings import SettingsError

    try:
        options.run(options)
    except SettingsError as error:
        print(f"taskwell {options.command}: cannot start:\n{_indented(str(error))}", file=sys.stderr)
        return WRONG_USE
    except Problem as problem:
        print(f"taskwell {options.command}: {problem.detail} ({problem.cause})", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="taskwell",
        description="A task API: FastAPI on PostgreSQL or SQLite, users from Better Auth.",
        epilog="Settings come from the environment and from .env; docs/settings.md lists them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="serve in production",
        description="Serve in production. Needs DATABASE_URL and BETTER_AUTH_SECRET, and a migrated database.",
    )
    _add_address(serve)
    serve.add_argument("--workers", type=int, default=1, metavar="N", help="processes that serve (default: 1)")
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
        description="Bring the database that DATABASE_URL names to this version's schema. May be run again at any time.",
    )
    migrate.set_defaults(run=_migrate)

    token = commands.add_parser(
        "token",
        help="print a token for a user",
        description="Print a token, signed with BETTER_AUTH_SECRET, or else with the secret that `taskwell dev` made.",
    )
    token.add_argument("--user", required=True, metavar="ID", help="the user whose token it is")
    token.add_argument("--ttl", type=int, default=900, metavar="SECONDS", help="how long it is valid (default: 900)")
    token.set_defaults(run=_token)

    openapi = commands.add_parser(
        "openapi",
        help="print the OpenAPI document",
        description="Print the OpenAPI document, from which clients are generated.",
    )
    openapi.add_argument("--output", type=Path, metavar="FILE", help="write it to FILE instead")
    openapi.set_defaults(run=_openapi)
    return parser


def _add_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on (default: 8000)")


def _indented(lines: str) -> str:
    return "\n".join(f"  {line}" for line in lines.splitlines())


# --- the commands


def _serve(options: argparse.Namespace) -> None:
    import asyncio

    from taskwell.server import check_database, serve, serve_by_workers
    from taskwell.settings import Settings, refuse_development_secret

    settings = Settings.read(_environment())
    refuse_development_secret(settings)
    asyncio.run(check_database(settings))
    if options.workers > 1:
        serve_by_workers(settings, options.host, options.port, options.workers)
    else:
        serve(settings, options.host, options.port)


def _dev(options: argparse.Namespace) -> None:
    from taskwell.migrations.runner import upgrade
    from taskwell.server import serve

    settings = _development_settings()
    upgrade(settings.DATABASE_URL)
    address = f"http://{options.host}:{options.port}"
    token = _sign(settings, DEMO_USER, ttl_seconds=24 * 3600)
    print(
        f"""
Taskwell is about to serve at {address}

  documentation  {address}/docs
  a token for the user "{DEMO_USER}", valid for a day:

{token}

  a first task:

curl -X POST {address}/api/{DEMO_USER}/tasks \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {token}' \\
  -d '{{"title": "Buy milk"}}'

Another user's token: taskwell token --user ID. Stop with Ctrl-C.
""",
        flush=True,
    )
    serve(settings, options.host, options.port)


def _migrate(options: argparse.Namespace) -> None:
    del options
    from taskwell.migrations import HEAD
    from taskwell.migrations.runner import upgrade
    from taskwell.settings import read_database_url

    upgrade(read_database_url(_environment()))
    print(f"The database has the schema of revision {HEAD}.")


def _token(options: argparse.Namespace) -> None:
    print(_sign(_development_settings(), options.user, options.ttl))


def _openapi(options: argparse.Namespace) -> None:
    import json

    from taskwell.app import create_app
    from taskwell.settings import Settings

    # The document depends on no setting, but an application needs some.
    settings = Settings.read({"DATABASE_URL": DEVELOPMENT_DATABASE_URL, "BETTER_AUTH_SECRET": secrets.token_hex()})
    document = json.dumps(create_app(settings).openapi(), indent=2) + "\n"
    if options.output:
        options.output.write_text(document, encoding="utf-8")
    else:
        print(document, end="")


# --- what they share


def _environment() -> Mapping[str, str]:
    """The environment, and what .env adds to it; worker processes inherit both."""
    from dotenv import load_dotenv

    load_dotenv(".env")
    return os.environ


def _development_settings() -> "Settings":
    """The settings, with defaults for what production must be told."""
    from taskwell.settings import Settings, has_auth_mode

    environment = {"DATABASE_URL": DEVELOPMENT_DATABASE_URL, **_environment()}
    if not has_auth_mode(environment):
        environment["BETTER_AUTH_SECRET"] = _development_secret()
    return Settings.read(environment)


def _development_secret() -> str:
    """The secret of this working tree, made when it is first needed, and readable by its owner only."""
    from taskwell.settings import DEVELOPMENT_SECRET_PREFIX

    DEVELOPMENT_SECRET_FILE.parent.mkdir(exist_ok=True)
    try:
        # Two that start at once must agree: only one of them creates the file.
        file = os.open(DEVELOPMENT_SECRET_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return DEVELOPMENT_SECRET_FILE.read_text(encoding="utf-8").strip()
    with os.fdopen(file, "w", encoding="utf-8") as writable:
        writable.write(secret := DEVELOPMENT_SECRET_PREFIX + secrets.token_urlsafe(32))
    return secret


def _sign(settings: "Settings", user: str, ttl_seconds: int) -> str:
    import jwt

    now = int(time.time())
    claims: dict[str, object] = {"sub": user, "iat": now, "exp": now + ttl_seconds}
    if settings.JWT_ISSUER:
        claims["iss"] = settings.JWT_ISSUER
    if settings.JWT_AUDIENCE:
        claims["aud"] = settings.JWT_AUDIENCE[0]
    return jwt.encode(claims, settings.BETTER_AUTH_SECRET.get_secret_value(), "HS256")
