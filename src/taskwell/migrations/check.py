"""Checks that the database has this version's schema, and that the service may use it."""

from sqlalchemy import Column, MetaData, Select, String, Table, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ClauseElement
from sqlalchemy.sql.functions import FunctionElement

from taskwell.database.failures import within
from taskwell.database.interface import Query
from taskwell.database.schema import FUNCTIONS_SCHEMA, SCHEMA
from taskwell.errors import DatabaseRefused, NotMigrated
from taskwell.migrations import HEAD, is_newer, why_not_migrated
from taskwell.tasks.tables import task, user_revision

DEADLINE_SECONDS = 5

# The rights that the service needs on PostgreSQL: it reads the tables, and only functions write them.
# docs/operations.md has the matching GRANT statements.
TABLE_RIGHTS = {f"{SCHEMA}.{table.name}": ("SELECT",) for table in (task, user_revision)}
FUNCTIONS = tuple(
    f"{FUNCTIONS_SCHEMA}.{function}"
    for function in (
        "create_task(text, text, bytea, text, text, boolean)",
        "change_task(text, bigint, text, boolean, text, boolean, text[], text[])",
        "delete_task(text, bigint, text[], text[])",
        "restore_task(text, bigint)",
        "apply_batch(text, jsonb)",
        "erase_owner(text)",
        "purge(integer, integer)",
        "fold_case(text)",
    )
)

_MISSING_RIGHTS = "The service's database role lacks rights on Taskwell's tables or functions. The log lists them."


class _missing_rights(FunctionElement[str]):  # noqa: N801 - written like an SQL function
    """The rights that the current role lacks, comma-separated; empty if it lacks none.

    NULL on SQLite, which has no roles.
    """

    inherit_cache = True
    type = String()


@compiles(_missing_rights, "postgresql")
def _missing_rights_postgres(element: ClauseElement, compiler: SQLCompiler, **options: object) -> str:
    # `to_regclass` and the like return NULL for what is missing, so the check reports a missing right instead of an SQL
    # error.
    tables = [
        _unless(f"has_table_privilege(to_regclass('{name}'), '{right}')", f"{right} ON {name}")
        for name, rights in TABLE_RIGHTS.items()
        for right in rights
    ]
    functions = [
        _unless(f"has_function_privilege(to_regprocedure('{function}'), 'EXECUTE')", f"EXECUTE ON FUNCTION {function}")
        for function in FUNCTIONS
    ]
    # Without the right to use a schema, even looking for a function in it is an error.
    schema = f"to_regnamespace('{FUNCTIONS_SCHEMA}')"
    found = (
        f"CASE WHEN {schema} IS NULL THEN 'the schema {FUNCTIONS_SCHEMA}, which does not exist' "
        f"WHEN has_schema_privilege({schema}, 'USAGE') THEN concat_ws(', ', {', '.join(functions)}) "
        f"ELSE 'USAGE ON SCHEMA {FUNCTIONS_SCHEMA}' END"
    )
    return f"concat_ws(', ', {', '.join(tables)}, nullif({found}, ''))"


def _unless(check: str, missing: str) -> str:
    return f"CASE WHEN {check} THEN NULL ELSE '{missing}' END"


@compiles(_missing_rights)
def _no_roles(element: ClauseElement, compiler: SQLCompiler, **options: object) -> str:
    return "NULL"


# One statement for both checks: reading the catalog's caches costs little beside the round trip.
_version = Table("alembic_version", MetaData(), Column("version_num", String, nullable=False))
schema_revision: Select[str, str] = select(_version.c.version_num, _missing_rights())


async def check_schema(schema_revision: Query) -> None:
    """Checks the schema's revision and, if `schema_revision` returns them as a second column, the missing rights.

    A newer schema is accepted if it still has this version's functions: then a newer version has migrated the database,
    and the processes of this one go on until they are replaced.

    Raises:
        NotMigrated: the database has another schema, or none.
        DatabaseRefused: the role lacks a right that the service needs; the cause lists what is missing.
        DatabaseError: the database cannot be reached, or does not reply within five seconds.
    """
    rows = await within(DEADLINE_SECONDS, schema_revision())
    found = [str(row[0]) for row in rows]
    missing = rows[0][1] if rows and len(rows[0]) > 1 else None
    if found != [HEAD] and not (is_newer(found) and missing == ""):
        raise NotMigrated(why_not_migrated(found), cause=f"revision {found} instead of {HEAD}")
    if missing:
        raise DatabaseRefused(_MISSING_RIGHTS, cause=f"the role lacks {missing}")
