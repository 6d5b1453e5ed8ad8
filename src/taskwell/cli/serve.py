"""`taskwell serve`: serve in production."""

import argparse
import asyncio
import functools
import logging
import os

from taskwell.cli.arguments import add_address, number
from taskwell.cli.environment import read_environment
from taskwell.server.run import check_database, listen, metrics_of, serve, url_of
from taskwell.server.workers import serve_with_workers
from taskwell.settings import Settings
from taskwell.telemetry.logs import start_logging

logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Serve in production. Requires DATABASE_URL, a migrated database, and BETTER_AUTH_URL or BETTER_AUTH_SECRET."
    )
    add_address(parser)
    parser.add_argument(
        "--workers", type=number(1, 256), default=1, metavar="N", help="number of server processes (default: 1)"
    )
    parser.add_argument(
        "--root-path",
        dest="TASKWELL_ROOT_PATH",
        metavar="PATH",
        help="prefix under which a reverse proxy serves this service, such as /prefix (default: the setting TASKWELL_ROOT_PATH)",
    )
    parser.add_argument(
        "--forwarded-allow-ips",
        dest="TASKWELL_FORWARDED_ALLOW_IPS",
        metavar="ADDRESSES",
        help="comma-separated addresses or networks of trusted reverse proxies, whose X-Forwarded-For and Forwarded "
        "name the client, or * for all (default: the setting TASKWELL_FORWARDED_ALLOW_IPS)",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    # Worker processes inherit the environment, and `.env` does not override it.
    given = {
        name: value for name, value in vars(options).items() if name in Settings.model_fields and value is not None
    }
    os.environ.update(given)
    settings = Settings.read(read_environment())
    start_logging(settings.TASKWELL_LOG_LEVEL, settings.TASKWELL_LOG_FORMAT)
    asyncio.run(check_database(settings))
    with listen(options.host, options.port) as listener, metrics_of(settings, options.host) as reports:
        url = url_of(listener)
        if options.workers > 1:
            announce = functools.partial(logger.info, "serving at %s with %d worker processes", url, options.workers)
            serve_with_workers(listener, options.workers, announce, reports)
        else:
            announce = functools.partial(logger.info, "serving at %s", url)
            serve(settings, listener, announce, reports.connect(0) if reports else None)
