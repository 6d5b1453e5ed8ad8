"""How an operator writes a rate, such as `200/second`."""

import re
from dataclasses import dataclass

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
_RATE = re.compile(r"([1-9][0-9]{0,8})/(second|minute|hour|day)")


@dataclass(frozen=True, slots=True)
class Rate:
    """A number of requests in a unit of time."""

    amount: int
    unit: str

    @property
    def seconds(self) -> int:
        """The length of the unit."""
        return _SECONDS[self.unit]

    def __str__(self) -> str:
        return f"{self.amount}/{self.unit}"


def parse_rate(text: object) -> Rate:
    """Returns the rate that `text` means.

    Raises:
        ValueError: It is not a rate.
    """
    match = _RATE.fullmatch(str(text))
    if match is None:
        raise ValueError("is not a rate; write a number and second, minute, hour or day, such as 200/second")
    return Rate(int(match[1]), match[2])
