"""`taskwell migrate`: create or update the database schema."""

import argparse

from taskwell.cli.environment import read_environment
from taskwell.migrations import HEAD
from taskwell.migrations.runner import print_sql, upgrade
from taskwell.settings import read_migration_url


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Create or update the schema in the database of MIGRATION_DATABASE_URL or, if that is unset, DATABASE_URL. "
        "It is safe to run this more than once, also at the same time: one run migrates while the others wait."
    )
    parser.add_argument(
        "--sql",
        action="store_true",
        help="print the SQL that creates this schema in an empty database; do not connect",
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    url = read_migration_url(read_environment())
    if options.sql:
        print_sql(url)
    elif upgrade(url):
        print(f"Migrated the database to revision {HEAD}.")
    else:
        print(f"The database is already at revision {HEAD}.")
