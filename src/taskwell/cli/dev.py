"""`taskwell dev`: set up and serve for development."""

import argparse
import sys

from taskwell.cli.arguments import add_address
from taskwell.cli.development import DATABASE_URL, greeting
from taskwell.cli.environment import development_settings
from taskwell.migrations.runner import upgrade
from taskwell.server.run import listen, serve, url_of


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Create or migrate the database, print a token for a demo user, and serve. "
        f"Without settings, use {DATABASE_URL} and a generated secret."
    )
    add_address(parser)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    settings = development_settings()
    with listen(options.host, options.port) as listener:
        upgrade(settings.migration_url)
        text = greeting(settings, url_of(listener), f"{sys.argv[0]} token")
        serve(settings, listener, on_start=lambda: print(text, flush=True))
