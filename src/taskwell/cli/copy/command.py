"""The arguments and the output of `taskwell copy`."""

import argparse
import asyncio

from taskwell.cli.arguments import HIDE_PASSWORDS, database_url
from taskwell.cli.copy.copying import CopyRefused, copy
from taskwell.cli.status import CommandFailed
from taskwell.errors import SettingsError


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Copy all data, including ids and times, from one migrated database to another. The two may be of different kinds. "
        "The target must be empty or an earlier copy of the same source. If the copy fails, the target is unchanged."
    )
    parser.epilog = HIDE_PASSWORDS
    parser.add_argument("--from", required=True, dest="source", metavar="URL", help="the database to read")
    parser.add_argument("--to", required=True, dest="target", metavar="URL", help="the database to write")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    source, target = database_url("--from", options.source), database_url("--to", options.target)
    if source == target:
        raise SettingsError("--to: names the same database as --from; name another one")
    try:
        copied = asyncio.run(copy(source, target))
    except CopyRefused as error:
        raise CommandFailed(str(error)) from error
    print(f"copied {copied.tasks} tasks of {copied.users} users; verified")
