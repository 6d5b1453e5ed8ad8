"""A line of the report."""

import json
from dataclasses import dataclass
from typing import Literal

_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and, unless all is well, what to do."""

    mark: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        lines = [(self.mark, self.subject, self.text), ("", "remedy", self.remedy)]
        return "\n".join(f"{mark:<6}{subject:<12}{text}" for mark, subject, text in lines if text)


def shown(value: object) -> str:
    """What somebody else wrote, fit for a terminal: JSON in ASCII, without control characters, and not too long."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, size in (("days", 24 * 3600), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
