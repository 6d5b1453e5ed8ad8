"""The arguments and the output of `taskwell import`."""

import argparse
import asyncio
import sys

from taskwell.cli.arguments import HIDE_PASSWORDS, database_url
from taskwell.cli.copy.sides import CopyRefused
from taskwell.cli.environment import read_environment
from taskwell.cli.importing.columns import MEMBERS, Columns, choose
from taskwell.cli.importing.importing import Findings, Reader, write
from taskwell.cli.importing.reading import opened
from taskwell.cli.status import CommandFailed
from taskwell.database.urls import DatabaseURL
from taskwell.settings import read_migration_url

_IF_ABSENT = {
    "id": "new ids",
    "description": "null",
    "complete": "false",
    "created_at": "the time of the import",
    "updated_at": "created_at",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the arguments."""
    parser.description = (
        "Import the tasks of another back end into the database of MIGRATION_DATABASE_URL or, if that is unset, "
        "DATABASE_URL, which must be migrated and have no tasks. First, it shows which column becomes which member of a "
        "task, and the rows that break a rule. It writes all tasks or, if anything fails, none."
    )
    parser.epilog = HIDE_PASSWORDS
    parser.add_argument("--from", required=True, dest="source", metavar="URL", help="the database to read")
    parser.add_argument("--table", required=True, help="its table of tasks, such as tasks or public.tasks")
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        type=_assignment,
        metavar="MEMBER=COLUMN",
        help=f"the column of a member ({', '.join(MEMBERS)}), if the guess is wrong; without COLUMN, none",
    )
    parser.add_argument("--skip-broken", action="store_true", help="import the other rows if some break a rule")
    parser.add_argument("--yes", action="store_true", help="import without asking")


def _assignment(text: str) -> tuple[str, str]:
    member, equals, column = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not like title=name")
    return member, column


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    source, target = database_url("--from", options.source), read_migration_url(read_environment())
    try:
        asyncio.run(_run(options, source, target))
    except CopyRefused as error:
        raise CommandFailed(str(error)) from error


async def _run(options: argparse.Namespace, source: DatabaseURL, target: DatabaseURL) -> None:
    async with opened(source, options.table) as table:
        columns = choose(table.columns, dict(options.column))
        reader = Reader(table, columns)
        findings = await reader.examine()
        _show(columns, [name for name in table.columns if name not in columns.values()], findings)
        if findings.broken and not options.skip_broken:
            raise CommandFailed("some rows break a rule; correct them, or leave them out with --skip-broken")
        if not options.yes and not _asked(f"Import {findings.rows} tasks of {findings.users} users?"):
            raise CommandFailed("nothing was imported; to import without a question, add --yes")
        await write(reader, target, keep_ids=findings.kept_ids)
    print(f"imported {findings.rows} tasks of {findings.users} users")


def _show(columns: Columns, others: list[str], findings: Findings) -> None:
    for member in MEMBERS:
        origin = f"column {columns[member]}" if member in columns else _IF_ABSENT[member]
        if member == "id" and member in columns and not findings.kept_ids:
            origin = f"new ids, because not every {columns[member]} is an integer"
        print(f"{member:12} {origin}")
    print(f"not imported: {', '.join(others) or 'nothing'}")
    if findings.broken:
        print(f"{findings.broken} rows break a rule:")
        for line in findings.shown:
            print(f"  {line}")
        if findings.broken > len(findings.shown):
            print("  …")


def _asked(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
