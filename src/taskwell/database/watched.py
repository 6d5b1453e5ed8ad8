"""The owners of open streams, as a table of one parameter.

One statement finds the changes of all of them. Each has shown a token, so the statement is bound to its owners as other
statements are bound to one.
"""

from sqlalchemy import BigInteger, Subquery, Text, bindparam, cast, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

WATCHED = "watched"
"""The parameter: a JSON array with an element `[user_id, revision, epoch]` for each owner."""


class _elements(FunctionElement[str]):  # noqa: N801 - written like an SQL function
    """The elements of a JSON array, in the column `value`, one in each row."""

    inherit_cache = True


class _member(FunctionElement[str]):  # noqa: N801 - written like an SQL function
    """The text of the member of a JSON array at an index."""

    inherit_cache = True
    type = Text()

    def __init__(self, array: ColumnElement[str], index: int) -> None:
        super().__init__(array)
        self.index = index


@compiles(_elements, "postgresql")
def _elements_postgres(element: _elements, compiler: SQLCompiler, **options: object) -> str:
    return f"jsonb_array_elements(CAST({compiler.process(element.clauses, **options)} AS jsonb))"


@compiles(_elements)
def _elements_sqlite(element: _elements, compiler: SQLCompiler, **options: object) -> str:
    return f"json_each({compiler.process(element.clauses, **options)})"


@compiles(_member, "postgresql")
def _member_postgres(element: _member, compiler: SQLCompiler, **options: object) -> str:
    return f"({compiler.process(element.clauses, **options)} ->> {element.index})"


@compiles(_member)
def _member_sqlite(element: _member, compiler: SQLCompiler, **options: object) -> str:
    return f"json_extract({compiler.process(element.clauses, **options)}, '$[{element.index}]')"


def _watched() -> Subquery:
    array = _elements(bindparam(WATCHED, type_=Text)).table_valued("value").c.value
    return select(
        _member(array, 0).label("user_id"),
        cast(_member(array, 1), BigInteger).label("revision"),
        cast(_member(array, 2), BigInteger).label("epoch"),
    ).subquery(WATCHED)


watched = _watched()
