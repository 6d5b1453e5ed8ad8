"""The log: one line for each event, on standard error."""

import logging.config
from typing import Any


def configuration(level: str) -> dict[str, Any]:
    """Returns the configuration for `logging.config.dictConfig` and for uvicorn. Access log lines arrive complete."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "event": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
            "lines": {"format": "%(message)s"},
        },
        "handlers": {
            "events": {"class": "logging.StreamHandler", "formatter": "event"},
            "access": {"class": "logging.StreamHandler", "formatter": "lines"},
        },
        "root": {"level": level.upper(), "handlers": ["events"]},
        "loggers": {"taskwell.access": {"handlers": ["access"], "propagate": False}},
    }


def start_logging(level: str) -> None:
    """Starts logging to standard error."""
    logging.config.dictConfig(configuration(level))
