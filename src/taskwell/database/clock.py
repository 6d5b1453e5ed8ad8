"""SQLite's clock, as functions for statements. The functions of PostgreSQL use PostgreSQL's clock.

The service's own clock is not used, because several processes write, and on several machines their clocks disagree.
"""

from datetime import datetime

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

# 'now' is the same instant throughout a statement (https://www.sqlite.org/lang_datefunc.html), in milliseconds.
# Three zeros make it the format in which SQLAlchemy stores a datetime.
_FORMAT = "'%Y-%m-%d %H:%M:%f000'"


class now(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The time of the statement: the same for every `now()` in it."""

    inherit_cache = True


class days_ago(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The time of the statement, less a number of days of 24 hours."""

    inherit_cache = True

    def __init__(self, days: ColumnElement[int]) -> None:
        super().__init__(days)


class now_or_later_than(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The current time or, if that is not later than `moment`, one microsecond after `moment`.

    So `updated_at` always increases, even when the clock was set back.
    """

    inherit_cache = True

    def __init__(self, moment: ColumnElement[datetime]) -> None:
        super().__init__(moment)


@compiles(now)
def _now(element: ClauseElement, compiler: SQLCompiler, **options: object) -> str:
    return f"strftime({_FORMAT}, 'now')"


@compiles(days_ago)
def _days_ago(element: days_ago, compiler: SQLCompiler, **options: object) -> str:
    return f"strftime({_FORMAT}, 'now', '-' || {compiler.process(element.clauses, **options)} || ' days')"


@compiles(now_or_later_than)
def _later(element: now_or_later_than, compiler: SQLCompiler, **options: object) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"max(strftime({_FORMAT}, 'now'), one_microsecond_after({moment}))"
