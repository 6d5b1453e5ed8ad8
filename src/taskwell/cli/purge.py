"""`taskwell purge`: erase old deleted tasks."""

import argparse
import asyncio

from taskwell.app import database_from
from taskwell.cli.environment import read_environment
from taskwell.migrations.check import check_schema, schema_revision
from taskwell.server.run import require_file
from taskwell.settings import Settings
from taskwell.tasks.purge import Purge


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the description."""
    parser.description = (
        "Erase the content of tasks that were deleted more than TASKWELL_TRASH_DAYS days ago. This cannot be undone. It uses "
        "the settings of the service. It is safe to run this while the service runs, and more than once at the same time."
    )


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    del options
    settings = Settings.read(read_environment())
    require_file(settings.DATABASE_URL)
    erased = asyncio.run(_purge(settings))
    tasks = "1 task" if erased == 1 else f"{erased} tasks"
    print(f"Erased {tasks}. The limit is {settings.TASKWELL_TRASH_DAYS} days after the deletion.")


async def _purge(settings: Settings) -> int:
    # One connection is enough.
    async with database_from(settings.model_copy(update={"TASKWELL_POOL_MIN": 0})) as database:
        await check_schema(database.prepare(schema_revision))
        return await Purge(database, settings.TASKWELL_TRASH_DAYS).run()
