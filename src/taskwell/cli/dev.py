"""`taskwell dev`: set up and serve for development."""

import argparse
import asyncio
import signal
import sys

from taskwell.cli.arguments import add_address
from taskwell.cli.development import DATABASE_URL, greeting
from taskwell.cli.environment import development_settings
from taskwell.cli.status import discard_output
from taskwell.migrations.runner import upgrade
from taskwell.server.run import listen, metrics_of, serve, url_of
from taskwell.telemetry.logs import start_logging


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
    start_logging(settings.TASKWELL_LOG_LEVEL, settings.TASKWELL_LOG_FORMAT)
    with listen(options.host, options.port) as listener, metrics_of(settings, options.host) as reports:
        upgrade(settings.migration_url)
        text = greeting(settings, url_of(listener), f"{sys.argv[0]} token")
        serve(settings, listener, lambda: _announce(text), reports.connect(0) if reports else None)


def _announce(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # The reader of the output has ended. Shut down as on SIGTERM, once the server has finished starting.
        discard_output()
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
