"""The formats of an export: NDJSON, which is exact, and CSV, for spreadsheets."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import orjson

from taskwell.tasks.schemas import ExportedTask, Time
from taskwell.times import rfc3339


class Format(NamedTuple):
    """A format: its headers, the bytes before the first task, and the bytes of some tasks."""

    content_type: str
    file_name: str
    header: bytes
    tasks: Callable[[Sequence[ExportedTask]], bytes]


# Only \n ends a line of NDJSON, but the line readers of many libraries also stop at these characters. In JSON, an escape
# means the same. The others of this kind, such as \r, are always escaped.
_LINE_BREAKS = {char.encode(): b"\\u%04x" % ord(char) for char in "\x85\u2028\u2029"}


def _ndjson(tasks: Sequence[ExportedTask]) -> bytes:
    return b"".join([_line(task) for task in tasks])


def _line(task: ExportedTask) -> bytes:
    line = orjson.dumps(task, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)
    for char, escape in _LINE_BREAKS.items():
        line = line.replace(char, escape)
    return line


# A spreadsheet runs a cell that begins with one of these as a formula, full-width forms included, and some spreadsheets
# skip white space before it. OWASP lists them, and the apostrophe: https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = re.compile("[\t\r\n]|\\s*[-=+@\uff0d\uff1d\uff0b\uff20]")


def _csv(tasks: Sequence[ExportedTask]) -> bytes:
    return _table([_row(task) for task in tasks])


def _row(task: ExportedTask) -> Sequence[object]:
    return [
        task["id"],
        _text(task["user_id"]),
        _text(task["title"]),
        _text(task["description"] or ""),
        "true" if task["complete"] else "false",
        _time(task["created_at"]),
        _time(task["updated_at"]),
        task["etag"],
        task["deleted_at"],
    ]


def _text(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) else text


def _time(time: Time) -> str:
    return time if isinstance(time, str) else rfc3339(time)


def _table(rows: Iterable[Iterable[object]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


FORMATS = {
    "application/x-ndjson": Format("application/x-ndjson", "tasks.ndjson", b"", _ndjson),
    "text/csv": Format(
        "text/csv; charset=utf-8; header=present",
        "tasks.csv",
        _table([tuple(ExportedTask.__annotations__)]),
        _csv,
    ),
}
"""The formats by their media types. The first is the default."""
