"""The log: one line for each event, on standard error, with the time in UTC."""

import logging.config
import time
from typing import Any


class EventFormatter(logging.Formatter):
    """Writes `2026-11-21T10:30:00.123Z INFO logger message`."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")


def configuration(level: str) -> dict[str, Any]:
    """Returns the configuration for `logging.config.dictConfig` and for uvicorn. Access log lines arrive complete."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "event": {"()": EventFormatter},
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
