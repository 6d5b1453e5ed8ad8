"""The interface of a database: the rest of the service knows nothing else about it.

A statement is prepared once, at start, and then run by the names of its parameters. Each run is one statement that
commits by itself. There is no ORM session, no transaction to forget, no second round trip.
"""

from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypedDict, cast

from sqlalchemy import CTE, BindParameter, Delete, FromClause, Insert, Join, Select, Subquery, Update
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.operators import eq

from taskwell.database.schema import SCHEMA

OWNER = "owner"
"""The parameter of every statement that touches users' rows."""

Row = Sequence[object]
"""A row of a result: its values, in the order of the statement's columns."""


class NotBoundToOwnerError(ValueError):
    """A statement could touch rows of users other than its owner."""


class Query(Protocol):
    """A prepared statement."""

    def __call__(self, **parameters: object) -> Coroutine[object, object, Sequence[Row]]:
        """Runs the statement and returns its rows. A write is committed and on disk before this returns.

        The caller limits the time.

        Raises:
            DatabaseError: the database failed, or cannot be reached.
            Overloaded: no connection became free in time; nothing was sent.
        """
        ...


class Database(Protocol):
    """A database, open while its context is entered."""

    def prepare(self, statement: Executable, *, repeatable: bool = False) -> Query:
        """Compiles `statement`, a SQLAlchemy Core statement whose values are all named parameters.

        If the connection is lost before the reply arrives, nobody knows whether the statement ran. The statement then runs
        once more if it only reads, or if it is `repeatable`, which means that a second run changes nothing.

        Raises:
            NotBoundToOwnerError: a part of the statement that touches users' rows is not bound to the owner.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement in the form that a driver takes: the text, and the names of its parameters in order."""

    sql: str
    names: tuple[str, ...]

    def arguments(self, parameters: Mapping[str, object]) -> list[object]:
        """Returns the values in the driver's order. Raises `KeyError` if one is missing."""
        return [parameters[name] for name in self.names]


def compile_statement(statement: Executable, dialect: DefaultDialect) -> CompiledStatement:
    """Compiles `statement` to the text of `dialect`.

    Raises:
        ValueError: the statement contains a value, which would get lost.
    """
    compiled = cast("SQLCompiler", cast("ClauseElement", statement).compile(dialect=dialect, **_naming(dialect)))
    if literals := {name: value for name, value in compiled.params.items() if value is not None}:
        raise ValueError(f"values in a statement: {literals}")
    return CompiledStatement(compiled.string, tuple(compiled.positiontup or ()))


class _Naming(TypedDict, total=False):
    schema_translate_map: dict[str | None, str]
    render_schema_translate: bool


def _naming(dialect: DefaultDialect) -> _Naming:
    """Returns the options that name every table with its schema on PostgreSQL, so that no `search_path` matters."""
    if dialect.name == "postgresql":
        return {"schema_translate_map": {None: SCHEMA}, "render_schema_translate": True}
    return {}


def compile_for_owner(statement: Executable, dialect: DefaultDialect) -> CompiledStatement:
    """Compiles a statement for requests, and checks that it touches only the owner's rows.

    Raises:
        NotBoundToOwnerError: a part of the statement that touches users' rows is not bound to the owner.
        ValueError: the statement contains a value, which would get lost.
    """
    for part in _parts(cast("ClauseElement", statement)):
        if _users_tables(part) and not _is_bound_to_owner(part):
            raise NotBoundToOwnerError(f"a part of the statement is not bound to the owner: {part}")
    return compile_statement(statement, dialect)


_Part = Select[tuple[object, ...]] | Insert | Update | Delete


def _parts(statement: ClauseElement) -> Iterator[_Part]:
    """Yields the statement and every statement inside it."""
    for element in visitors.iterate(statement):
        if isinstance(element, Select | Insert | Update | Delete):
            yield element


def _users_tables(part: _Part) -> list[FromClause]:
    """Returns the tables with rows of users that `part` itself touches; subqueries are parts of their own."""
    sources: list[FromClause] = list(part.get_final_froms()) if isinstance(part, Select) else [part.table]
    tables: list[FromClause] = []
    while sources:
        source = sources.pop()
        if isinstance(source, Join):
            sources += [source.left, source.right]
        elif not isinstance(source, Subquery | CTE) and "user_id" in source.columns:
            tables.append(source)
    return tables


def _is_bound_to_owner(part: _Part) -> bool:
    if isinstance(part, Insert):
        values = cast("Mapping[object, object]", part._values or {})  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        return any(_is_owner(value) for column, value in values.items() if _is_user_id(column))
    bound = [
        condition.left
        for condition in part._where_criteria  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
        if isinstance(condition, BinaryExpression) and condition.operator is eq and _is_owner(condition.right)
    ]
    return all(any(column is table.c.user_id for column in bound) for table in _users_tables(part))


def _is_user_id(column: object) -> bool:
    return getattr(column, "name", column) == "user_id"


def _is_owner(value: object) -> bool:
    return isinstance(value, BindParameter) and value.key == OWNER
