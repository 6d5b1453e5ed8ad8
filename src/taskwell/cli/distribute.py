"""`taskwell distribute`: spread the tables over the workers of a Citus cluster."""

import argparse

from taskwell.cli.environment import read_environment
from taskwell.cli.status import WRONG_USE, CommandFailed
from taskwell.database.urls import PostgresURL
from taskwell.migrations.runner import distribute
from taskwell.settings import read_migration_url

_UNCONFIRMED = "add --yes to do this; there is no way back but copying everything to another database"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Spread the tables in the database of MIGRATION_DATABASE_URL or, if that is unset, DATABASE_URL over the workers of "
        "a Citus cluster, by user. The database must be migrated, and have the extension citus and workers. Nobody can use "
        "the tables meanwhile. It happens completely or not at all, and it is safe to run this more than once."
    )
    parser.epilog = "docs/operations.md has all steps, under Past one machine: Citus."
    parser.add_argument("--yes", action="store_true", help="confirm; without it, nothing happens")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    url = read_migration_url(read_environment())
    if not isinstance(url, PostgresURL):
        raise CommandFailed("only PostgreSQL with Citus can be distributed, not SQLite", WRONG_USE)
    if not options.yes:
        raise CommandFailed(f"{url.host}:{url.port}/{url.database} would be distributed; {_UNCONFIRMED}", WRONG_USE)
    if distribute(url):
        print("Distributed the tables over the workers.")
    else:
        print("The tables are already distributed.")
