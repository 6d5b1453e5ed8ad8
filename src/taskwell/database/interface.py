"""The interface of a database: the rest of the service knows nothing else about it.

A read is a statement; a write is a function. Both are prepared once, and then run by the names of their parameters,
each in one round trip. There is no ORM session and no transaction to forget.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypedDict, cast

from sqlalchemy import CTE, BindParameter, Delete, FromClause, Insert, Join, Select, Subquery, Update
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import BinaryExpression, BooleanClauseList
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.operators import and_, eq

from taskwell.database.schema import SCHEMA
from taskwell.database.watched import watched

OWNER = "owner"
"""The parameter of every statement that touches users' rows, but for those that are bound to `watched`."""

Row = Sequence[object]
"""A row of a result: its values, in the order of the statement's columns."""

Values = Mapping[str, object]
"""The values of parameters, by their names."""

TAKES_LONG = "takes_long"
"""An execution option of statements: it can take long, or it is one of many that follow each other without a pause. It
must not hold up other requests."""


class NotBoundToOwnerError(ValueError):
    """A statement could touch rows of users other than its owner."""


PrepareStep = Callable[[Executable], Callable[[Values], Sequence[Row]]]
"""Prepares a statement that runs inside a write."""


class Undo(Exception):
    """Raised by a write on SQLite to roll back what its own steps have written. The write then returns `rows`."""

    def __init__(self, rows: Sequence[Row]) -> None:
        super().__init__()
        self.rows = rows


BuildWrite = Callable[[PrepareStep], Callable[[Values], Sequence[Row]]]
"""Prepares the steps of a write, and returns the function that runs them. It may raise `Undo`.

On SQLite, the function may run twice, after a rollback; so it does nothing but run its steps.
"""


@dataclass(frozen=True, slots=True)
class Write:
    """A write, as each engine runs it, with the same outcome.

    On PostgreSQL it is the function `name` of our schema, called with `parameters` in this order. On SQLite it is the
    Python function that `build` returns; it takes the values, runs its prepared steps in one transaction, and returns
    the rows.

    Both touch only rows of the owner. A function of PostgreSQL takes the owner first; the statements of `build` are
    checked when they are prepared.

    `repeatable` means that a second run with the same values changes nothing. `alone` means that it can take long, so no
    other write should wait for the same commit.
    """

    name: str
    parameters: Sequence[str]
    build: BuildWrite
    repeatable: bool = False
    alone: bool = False

    def __post_init__(self) -> None:
        if self.parameters[0] != OWNER:
            raise NotBoundToOwnerError(f"the first parameter of {self.name} is not the owner")


@dataclass(frozen=True, slots=True)
class MaintenanceWrite:
    """A write that is not bound to an owner: it serves the operator, not a user. The members are those of `Write`."""

    name: str
    parameters: Sequence[str]
    build: BuildWrite


class Query(Protocol):
    """A prepared statement or write."""

    def __call__(self, **parameters: object) -> Coroutine[object, object, Sequence[Row]]:
        """Runs it and returns its rows. A write is committed and on disk before this returns.

        The caller limits the time.

        Raises:
            DatabaseError: the database failed, or cannot be reached.
            Overloaded: no connection became free in time; nothing was sent.
        """
        ...


class Preparing(Protocol):
    """The part of a database that prepares statements and writes."""

    def prepare(self, statement: Executable) -> Query:
        """Compiles `statement`, a SQLAlchemy Core SELECT whose values are all named parameters.

        If the connection is lost before the reply arrives, the statement runs once more.

        Raises:
            NotBoundToOwnerError: a part of the statement that touches users' rows is not bound to the owner.
        """
        ...

    def prepare_write(self, write: Write) -> Query:
        """Prepares `write`.

        If the connection is lost before the reply arrives, nobody knows whether the write happened. It then runs once
        more if it is repeatable.

        Raises:
            NotBoundToOwnerError: a statement of the write is not bound to the owner.
        """
        ...


class Database(Preparing, Protocol):
    """A database, open while its context is entered."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class MaintainedDatabase(Protocol):
    """The operations that only maintenance may run on a database.

    Requests cannot: all that they reach has a `Database`, which has no such method, and an import rule in
    pyproject.toml keeps the modules that serve requests away from the modules that have this one.
    """

    def prepare_maintenance(self, write: MaintenanceWrite) -> Query:
        """Prepares `write`. Unlike `Database.prepare_write`, this does not check for the owner."""
        ...


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement in the form that a driver takes: the text, and the names of its parameters in order."""

    sql: str
    names: tuple[str, ...]

    def arguments(self, parameters: Values) -> list[object]:
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
            text = part.compile(dialect=dialect)
            raise NotBoundToOwnerError(f"a part of the statement is not bound to the owner: {text}")
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
    bound = _owners_columns(part._where_criteria)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    for source in part.get_final_froms() if isinstance(part, Select) else ():
        bound += _bound_by_joins(source)
    return all(any(column is table.c.user_id for column in bound) for table in _users_tables(part))


def _bound_by_joins(source: FromClause) -> list[object]:
    """Returns the columns that joins bind. ON binds only the right side: an outer join keeps every row of the left."""
    bound: list[object] = []
    while isinstance(source, Join):
        on, right = cast("ClauseElement", source.onclause), source.right
        conditions = on.clauses if isinstance(on, BooleanClauseList) and on.operator is and_ else [on]
        if not source.full:
            bound += [column for column in _owners_columns(conditions) if any(column is own for own in right.columns)]
        source = source.left
    return bound


def _owners_columns(conditions: Iterable[object]) -> list[object]:
    """Returns the columns that a condition compares with the owner."""
    return [
        condition.left
        for condition in conditions
        if isinstance(condition, BinaryExpression) and condition.operator is eq and _is_owner(condition.right)
    ]


def _is_user_id(column: object) -> bool:
    return getattr(column, "name", column) == "user_id"


def _is_owner(value: object) -> bool:
    return value is watched.c.user_id or (isinstance(value, BindParameter) and value.key == OWNER)
