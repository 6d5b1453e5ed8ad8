"""Move a database of revision 0001 on PostgreSQL into the schema `taskwell`.

Version 0001 created its tables in the first schema of the `search_path`, which is usually `public`. Moving them changes
only the catalogue: no row is rewritten. Processes of the older version go on working, because the old names stay behind:
views that pass reads and writes on, a function that calls the new one, and a version table that still says 0001. A later
migration drops these names.
"""

from typing import cast

from sqlalchemy import Connection, text

from taskwell.database.schema import SCHEMA

_HAS_SCHEMA = text("SELECT to_regnamespace(:schema) IS NOT NULL")
_HAS_VERSION_TABLE = text("SELECT to_regclass(:schema || '.alembic_version') IS NOT NULL")

# The schemas that hold tables of revision 0001, first the one that processes of the older version use. It must not
# depend on the `search_path` alone, or a database whose path was changed would look empty.
_FIND = text("""
SELECT quote_ident(nspname)
FROM pg_namespace AS n
WHERE nspname <> :schema
  AND EXISTS (SELECT FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
              WHERE relnamespace = n.oid AND relname = 'task' AND relkind = 'r' AND attname = 'creation_key')
  AND EXISTS (SELECT FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
              WHERE relnamespace = n.oid AND relname = 'owner' AND relkind = 'r' AND attname = 'epoch')
  AND EXISTS (SELECT FROM pg_proc WHERE pronamespace = n.oid AND proname = 'next_revision' AND pronargs = 1)
ORDER BY array_position(current_schemas(false), nspname), nspname = 'public' DESC, nspname
LIMIT 1
""")

_GRANTS = text("""
SELECT relname, privilege_type, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_class, aclexplode(relacl)
WHERE relnamespace = to_regnamespace(:schema) AND relname IN ('task', 'owner', 'alembic_version') AND relkind = 'r'
  AND grantee <> relowner AND privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
""")

# Rights that the views were born with, by ALTER DEFAULT PRIVILEGES: Supabase gives all rights to its public roles.
_RIGHTS_BY_DEFAULT = text("""
SELECT DISTINCT relname, CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_class, aclexplode(relacl)
WHERE relnamespace = to_regnamespace(:old) AND relname IN ('task', 'owner', 'alembic_version') AND grantee <> relowner
""")

_FUNCTION_GRANTS = text("""
SELECT CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END
FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
WHERE pg_proc.oid = to_regprocedure(:function)
""")

_HAS_ROW_SECURITY = text("""
SELECT bool_or(relrowsecurity) FROM pg_class
WHERE relnamespace = to_regnamespace(:schema) AND relname IN ('task', 'owner')
""")

_COLUMNS = {
    "task": "id, user_id, title, description, complete, created_at, updated_at, deleted_at, erased_at, revision, "
    "creation_key, creation_digest",
    "owner": "user_id, revision, epoch",
}

# Since this version of PostgreSQL a view can apply the rights and the row security policies of its caller.
_INVOKERS_VIEWS = (15,)


def claim_schema(connection: Connection) -> None:
    """Creates the schema if it is missing. Moves the version table into it, where Alembic then looks for it."""
    # Not IF NOT EXISTS, which asks for the right to create schemas even if there is nothing to create.
    if not connection.scalar(_HAS_SCHEMA, {"schema": SCHEMA}):
        connection.exec_driver_sql(f"CREATE SCHEMA {SCHEMA}")
    if connection.scalar(_HAS_VERSION_TABLE, {"schema": SCHEMA}):
        return
    old = find_old_schema(connection)
    if old and connection.scalar(_HAS_VERSION_TABLE, {"schema": old}):
        connection.exec_driver_sql(f"ALTER TABLE {old}.alembic_version SET SCHEMA {SCHEMA}")


def find_old_schema(connection: Connection) -> str | None:
    """Returns the schema, quoted for use in SQL, that holds tables of revision 0001; None if there is none."""
    return cast("str | None", connection.scalar(_FIND, {"schema": SCHEMA}))


def move_tables(connection: Connection, old: str) -> None:
    """Moves the tables and the function from the schema `old`, and leaves their names behind."""
    # In the order in which the older version's statements take the locks, or both could wait for each other.
    connection.exec_driver_sql(f"LOCK TABLE {old}.task, {old}.owner IN ACCESS EXCLUSIVE MODE")
    for table in _COLUMNS:
        connection.exec_driver_sql(f"ALTER TABLE {old}.{table} SET SCHEMA {SCHEMA}")
    connection.exec_driver_sql(f"ALTER FUNCTION {old}.next_revision(text) SET SCHEMA {SCHEMA}")
    _leave_names(connection, old)
    _leave_rights(connection, old)


def _leave_names(connection: Connection, old: str) -> None:
    # Otherwise a view shows what its owner may see, past any row security policy on the table.
    options = "WITH (security_invoker = true)" if _has_invokers_views(connection) else ""
    for table, columns in _COLUMNS.items():
        select = f"SELECT {columns} FROM {SCHEMA}.{table}"  # noqa: S608 - our own names
        connection.exec_driver_sql(f"CREATE VIEW {old}.{table} {options} AS {select}")
    connection.exec_driver_sql(
        f"CREATE VIEW {old}.alembic_version AS SELECT CAST('0001' AS varchar(32)) AS version_num"
    )
    connection.exec_driver_sql(
        f"CREATE FUNCTION {old}.next_revision(writer text) RETURNS bigint LANGUAGE sql VOLATILE "
        f"SET search_path = pg_catalog AS 'SELECT {SCHEMA}.next_revision(writer)'"
    )


def _leave_rights(connection: Connection, old: str) -> None:
    """Gives each role the same rights on the old names as on the tables, and access to the new schema."""
    for name, role in connection.execute(_RIGHTS_BY_DEFAULT, {"old": old}).all():
        connection.exec_driver_sql(f"REVOKE ALL ON {old}.{name} FROM {role}")
    for name, right, role in connection.execute(_GRANTS, {"schema": SCHEMA}).all():
        connection.exec_driver_sql(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {role}")
        if _has_invokers_views(connection) or not connection.scalar(_HAS_ROW_SECURITY, {"schema": SCHEMA}):
            connection.exec_driver_sql(f"GRANT {right} ON {old}.{name} TO {role}")
    connection.exec_driver_sql(f"REVOKE ALL ON FUNCTION {old}.next_revision(text) FROM PUBLIC")
    for (role,) in connection.execute(_FUNCTION_GRANTS, {"function": f"{SCHEMA}.next_revision(text)"}).all():
        connection.exec_driver_sql(f"GRANT EXECUTE ON FUNCTION {old}.next_revision(text) TO {role}")


def _has_invokers_views(connection: Connection) -> bool:
    return (connection.dialect.server_version_info or ()) >= _INVOKERS_VIEWS
