"""The port: all that the rest of the service knows of a database.

A statement is prepared once, at start, and then run by name of its parameters. Each run is one statement that
commits by itself; there is no session, no transaction to forget, no second round trip.
"""

from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self, TypedDict, cast

from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement

from taskwell.database.schema import SCHEMA

Row = Sequence[object]
"""A row of an answer: its values, in the order of the statement's columns."""


class Query(Protocol):
    """A prepared statement."""

    def __call__(self, **parameters: object) -> Coroutine[object, object, Sequence[Row]]:
        """Runs the statement and returns its rows; a write is committed, and on disk, before it returns.

        How long that may take the caller decides.

        Raises:
            DatabaseError: the database failed, or cannot be reached.
            Overloaded: no connection became free in time; nothing was sent.
        """
        ...


class Database(Protocol):
    """A database, open while its context is entered."""

    def prepare(self, statement: Executable, *, repeatable: bool = False) -> Query:
        """Compiles `statement`, a SQLAlchemy Core one whose values are all named parameters.

        When the connection is lost before the answer came, nobody knows whether the statement was run. One that reads, or
        is said to be `repeatable` because a second run would change nothing, is then run once more.
        """
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class CompiledStatement:
    """A statement as the driver takes it: the text, and the names of its parameters in their order."""

    sql: str
    names: tuple[str, ...]

    def arguments(self, parameters: Mapping[str, object]) -> list[object]:
        """The values for the driver; a name that is missing is a `KeyError`."""
        return [parameters[name] for name in self.names]


def compile_statement(statement: Executable, dialect: DefaultDialect) -> CompiledStatement:
    """The text of `statement` in `dialect`. A value written into the statement would be lost, so there must be none."""
    compiled = cast("ClauseElement", statement).compile(dialect=dialect, **_naming(dialect))
    compiled = cast("SQLCompiler", compiled)
    if literals := {name: value for name, value in compiled.params.items() if value is not None}:
        raise ValueError(f"values in a statement: {literals}")
    return CompiledStatement(compiled.string, tuple(compiled.positiontup or ()))


class _Naming(TypedDict, total=False):
    schema_translate_map: dict[str | None, str]
    render_schema_translate: bool


def _naming(dialect: DefaultDialect) -> _Naming:
    """On PostgreSQL every table is named with its schema, so that no `search_path` matters."""
    if dialect.name == "postgresql":
        return {"schema_translate_map": {None: SCHEMA}, "render_schema_translate": True}
    return {}
