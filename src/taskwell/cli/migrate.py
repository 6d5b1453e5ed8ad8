"""`taskwell migrate`: bring the database to this version's schema."""

import argparse

from taskwell.cli.environment import read_environment
from taskwell.migrations import HEAD
from taskwell.migrations.runner import print_sql, upgrade
from taskwell.settings import read_migration_url


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Bring the database of MIGRATION_DATABASE_URL, or else of DATABASE_URL, to this version's schema. "
        "It is safe to run it again, and to run it several times at once: one run migrates, the others wait."
    )
    parser.add_argument(
        "--sql",
        action="store_true",
        help="only print the SQL that gives an empty database this schema; do not connect",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    url = read_migration_url(read_environment())
    if options.sql:
        print_sql(url)
    elif upgrade(url):
        print(f"The database was migrated to revision {HEAD}.")
    else:
        print(f"The database is at revision {HEAD} already.")
