"""SQL functions for the database's clock, with the same meaning on every engine.

The service's own clock is not used, because several machines write and their clocks disagree.
"""

from datetime import datetime

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

# 'now' is the same instant throughout a statement (https://www.sqlite.org/lang_datefunc.html), in milliseconds.
# Three zeros make it the format in which SQLAlchemy stores a datetime.
_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


class now(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The time of the statement: the same for every `now()` in it."""

    inherit_cache = True


class days_ago(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The time of the statement, less a number of days of 24 hours. Only for SQLite, as the writes on PostgreSQL are functions."""

    inherit_cache = True

    def __init__(self, days: ColumnElement[int]) -> None:
        super().__init__(days)


class now_or_later_than(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The current time or, if that is not later than `moment`, one microsecond after `moment`.

    So `updated_at` always increases, even when the clock was set back or the writer waited for a lock. PostgreSQL's `now()`
    keeps the time at which the statement's transaction began, so it ran backwards between concurrent writers.
    """

    inherit_cache = True

    def __init__(self, moment: ColumnElement[datetime]) -> None:
        super().__init__(moment)


@compiles(now, "postgresql")
def _now_postgres(element: ClauseElement, compiler: SQLCompiler, **options: object) -> str:
    return "now()"


@compiles(now, "sqlite")
def _now_sqlite(element: ClauseElement, compiler: SQLCompiler, **options: object) -> str:
    return _SQLITE_NOW


@compiles(days_ago, "sqlite")
def _days_ago_sqlite(element: days_ago, compiler: SQLCompiler, **options: object) -> str:
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', '-' || {compiler.process(element.clauses, **options)} || ' days')"


@compiles(now_or_later_than, "postgresql")
def _later_postgres(element: now_or_later_than, compiler: SQLCompiler, **options: object) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"greatest(clock_timestamp(), {moment} + interval '1 microsecond')"


@compiles(now_or_later_than, "sqlite")
def _later_sqlite(element: now_or_later_than, compiler: SQLCompiler, **options: object) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"max({_SQLITE_NOW}, one_microsecond_after({moment}))"
