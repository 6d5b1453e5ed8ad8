"""One entry of the report."""

import json
from dataclasses import dataclass
from typing import Literal

_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Finding:
    """The subject of a check, the result and, if something is wrong, how to fix it."""

    mark: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        lines = [(self.mark, self.subject, self.text), ("", "remedy", self.remedy)]
        return "\n".join(f"{mark:<6}{subject:<12}{text}" for mark, subject, text in lines if text)


def shown(value: object) -> str:
    """Returns `value` as text that is safe to print: JSON in ASCII, without control characters, cut after 200 characters."""
    text = json.dumps(value)
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def span(seconds: float) -> str:
    """Returns a duration in the largest unit that makes it at least 2, for example `10 minutes`."""
    for unit, size in (("days", 24 * 3600), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
