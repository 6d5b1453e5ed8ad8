"""A database whose statements are spans of the request's trace.

The names follow OpenTelemetry's semantic conventions for database clients. A span has no SQL and no value. A statement
that runs outside of a request, such as the look for changes each second, makes no span.
"""

from collections.abc import Sequence
from typing import cast

from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode, Tracer, get_current_span
from sqlalchemy import Table
from sqlalchemy.sql import visitors
from sqlalchemy.sql.base import Executable
from sqlalchemy.sql.expression import ClauseElement

from taskwell.database.interface import Query, Row, Write
from taskwell.database.postgres import PostgresDatabase
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.database.urls import DatabaseURL, PostgresURL

Attributes = dict[str, str | int]


class TracedDatabase:
    """Prepares statements of `database`, which is at `url`."""

    def __init__(self, database: PostgresDatabase | SQLiteDatabase, url: DatabaseURL, tracer: Tracer) -> None:
        self._database = database
        self._attributes = _attributes(url)
        self._tracer = tracer

    def prepare(self, statement: Executable) -> Query:
        """Prepares a statement. Its span is named after the operation and the tables, such as `SELECT task`."""
        tables = {
            part.name: None for part in visitors.iterate(cast("ClauseElement", statement)) if isinstance(part, Table)
        }
        summary = " ".join(("SELECT", *tables))
        attributes: Attributes = {db_attributes.DB_OPERATION_NAME: "SELECT", db_attributes.DB_QUERY_SUMMARY: summary}
        if len(tables) == 1:
            attributes[db_attributes.DB_COLLECTION_NAME] = next(iter(tables))
        return self._traced(self._database.prepare(statement), summary, attributes)

    def prepare_write(self, write: Write) -> Query:
        """Prepares a write. Its span is named after the function, such as `create_task`."""
        attributes: Attributes = {
            db_attributes.DB_STORED_PROCEDURE_NAME: write.name,
            db_attributes.DB_QUERY_SUMMARY: write.name,
        }
        return self._traced(self._database.prepare_write(write), write.name, attributes)

    def _traced(self, query: Query, name: str, attributes: Attributes) -> Query:
        attributes = self._attributes | attributes

        async def run(**parameters: object) -> Sequence[Row]:
            if not get_current_span().is_recording():
                return await query(**parameters)
            with self._tracer.start_as_current_span(
                name, kind=SpanKind.CLIENT, attributes=attributes, record_exception=False, set_status_on_exception=False
            ) as span:
                try:
                    return await query(**parameters)
                except BaseException as error:
                    # Not the message, which may have a value.
                    span.set_attribute(error_attributes.ERROR_TYPE, type(error).__qualname__)
                    span.set_status(StatusCode.ERROR)
                    raise

        return run


def _attributes(url: DatabaseURL) -> Attributes:
    if not isinstance(url, PostgresURL):
        return {db_attributes.DB_SYSTEM_NAME: "sqlite"}
    return {
        db_attributes.DB_SYSTEM_NAME: "postgresql",
        db_attributes.DB_NAMESPACE: url.database,
        server_attributes.SERVER_ADDRESS: url.host,
        server_attributes.SERVER_PORT: url.port,
    }
