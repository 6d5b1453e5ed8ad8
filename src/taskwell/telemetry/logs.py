"""The log, on standard error: one line of text or one JSON object for each event, with the time in UTC."""

import json
import logging.config
import os
import sys
import time
from typing import Any, Literal

from taskwell.telemetry.requests import RequestName

LogFormat = Literal["json", "text"]

_RESET = "\x1b[0m"
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31m"}


class TextFormatter(logging.Formatter):
    """Writes `2026-11-21T10:30:00.123Z INFO logger message`."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")


class ColourFormatter(TextFormatter):
    """The same for a terminal: warnings are yellow, errors are red."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in the base class
        """Returns the line, in the colour of its level."""
        line = super().formatMessage(record)
        colour = _COLOURS.get(record.levelname)
        return f"{colour}{line}{_RESET}" if colour else line


class JSONFormatter(logging.Formatter):
    """Writes a record as one JSON object. docs/telemetry.md describes its members."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the object, in one line of ASCII."""
        whole = int(record.created)
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        members: dict[str, object] = {
            "time": f"{text}.{int((record.created - whole) * 1000):03}Z",
            "level": record.levelname,
            "logger": record.name,
        }
        match record.args:
            case (RequestName() as name, *rest):
                members |= {"message": (record.msg % ("", *rest)).lstrip(": "), **name.fields}
            case _:
                members["message"] = record.getMessage()
        if record.exc_info:
            members["traceback"] = self.formatException(record.exc_info)
        return json.dumps(members, separators=(",", ":"))


def format_or_default(chosen: LogFormat | None) -> LogFormat:
    """Returns the chosen format. Without one, a terminal gets text, and everything else JSON, which programs read."""
    return chosen or ("text" if sys.stderr.isatty() else "json")


def has_colours(chosen: LogFormat) -> bool:
    """Returns whether the log has colours: as text on a terminal, unless NO_COLOR is set (no-color.org)."""
    return chosen == "text" and sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def configuration(level: str, chosen: LogFormat) -> dict[str, Any]:
    """Returns the configuration for `logging.config.dictConfig`. Access log lines arrive complete."""
    text = ColourFormatter if has_colours(chosen) else TextFormatter
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "event": {"()": JSONFormatter if chosen == "json" else text},
            "lines": {"format": "%(message)s"},
        },
        "handlers": {
            "events": {"class": "logging.StreamHandler", "formatter": "event"},
            "access": {"class": "logging.StreamHandler", "formatter": "lines"},
        },
        "root": {"level": level.upper(), "handlers": ["events"]},
        "loggers": {"taskwell.access": {"handlers": ["access"], "propagate": False}},
    }


def start_logging(level: str, chosen: LogFormat | None) -> None:
    """Starts logging to standard error."""
    logging.config.dictConfig(configuration(level, format_or_default(chosen)))
