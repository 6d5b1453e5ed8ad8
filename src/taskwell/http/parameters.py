"""Types of path and query parameters, as strict as their text."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

MAX_BIGINT = 2**63 - 1

_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)")


def _integer(text: object) -> int:
    # int() also takes "+5", "1_000", " 5 " and digits of other scripts; pydantic's also "1.0".
    if isinstance(text, int):
        return text
    if not _DECIMAL.fullmatch(str(text)):
        raise PydanticCustomError("int_parsing", "must be an integer in decimal digits")
    # Twenty characters hold every 64-bit integer; int() refuses thousands of digits with an error of its own.
    return int(str(text)[:21])


def _boolean(text: object) -> bool:
    if text not in ("true", "false"):
        raise PydanticCustomError("bool_parsing", "must be true or false")
    return text == "true"


def _possible_id(number: int) -> int:
    return number if 1 <= number <= MAX_BIGINT else 0


DecimalDigits = BeforeValidator(_integer)
"""Behind an `int` and its range: an optional minus and digits, nothing else."""

Boolean = Annotated[bool | None, BeforeValidator(_boolean), WithJsonSchema({"type": "boolean"})]
"""`true` or `false`; no text means None, which is for the default alone."""

RowId = Annotated[
    int,
    BeforeValidator(_integer),
    AfterValidator(_possible_id),
    WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_BIGINT}),
]
"""A row's id. An integer that no row can have becomes 0, which no row has either: it is "not found", not "wrong"."""
