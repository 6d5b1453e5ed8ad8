"""The database's clock in a statement, the same on every engine.

The service's own clock is not asked: several machines write, and theirs disagree.
"""

from datetime import datetime

from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

# 'now' is one instant throughout a statement (https://www.sqlite.org/lang_datefunc.html), in milliseconds;
# three zeros make it the form in which SQLAlchemy stores a datetime.
_SQLITE_NOW = "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


class now(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The time of the statement; every `now()` in it is the same."""

    inherit_cache = True


class now_or_later_than(FunctionElement[datetime]):  # noqa: N801 - written like an SQL function
    """The current time, or a microsecond after the given one where that is not later.

    So a row's `updated_at` always moves on, even when the clock was set back or its writer waited for a lock:
    PostgreSQL's `now()` stands still at the start of the statement and ran backwards between concurrent writers.
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


@compiles(now_or_later_than, "postgresql")
def _later_postgres(element: now_or_later_than, compiler: SQLCompiler, **options: object) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"greatest(clock_timestamp(), {moment} + interval '1 microsecond')"


@compiles(now_or_later_than, "sqlite")
def _later_sqlite(element: now_or_later_than, compiler: SQLCompiler, **options: object) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"max({_SQLITE_NOW}, one_microsecond_after({moment}))"
