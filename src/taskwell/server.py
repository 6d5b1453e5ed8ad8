"""Serving the application over HTTP by uvicorn."""

import logging
import os
from typing import Any

import uvicorn
from fastapi import FastAPI

from taskwell import health
from taskwell.app import create_app, open_database
from taskwell.errors import NotMigrated, Problem
from taskwell.settings import Settings

SHUTDOWN_SECONDS = 10

logger = logging.getLogger(__name__)


async def check_database(settings: Settings) -> None:
    """Refuses a database whose schema is not this version's. One that cannot be reached may yet come up.

    Raises:
        NotMigrated: the schema is another.
    """
    try:
        async with open_database(settings) as database:
            await health.check_schema(database.prepare(health.schema_revision))
    except NotMigrated:
        raise
    except Problem as problem:
        logger.warning("starting without the database: %s", problem.cause)


def serve(settings: Settings, host: str, port: int) -> None:
    """Serves in this process until told to stop; requests in flight are then given ten seconds to finish."""
    _run(create_app(settings), settings, host=host, port=port)


def serve_by_workers(settings: Settings, host: str, port: int, workers: int) -> None:
    """Serves in `workers` processes, each of which reads the settings for itself."""
    _run("taskwell.server:app_from_environment", settings, host=host, port=port, factory=True, workers=workers)


def app_from_environment() -> FastAPI:
    """The application of a worker process."""
    return create_app(Settings.read(os.environ))


def _run(app: FastAPI | str, settings: Settings, **options: Any) -> None:  # noqa: ANN401 - uvicorn's own options
    uvicorn.run(
        app,
        log_config=_logging(settings.TASKWELL_LOG_LEVEL),
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        **options,
    )


def _logging(level: str) -> dict[str, Any]:
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
    }
