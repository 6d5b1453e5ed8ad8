"""A PostgreSQL database shared with other programs: everything of ours is in the schema `taskwell`."""

import asyncio
import os
import subprocess
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from alembic import command

from support.npm import require_packages
from support.process import WAIT_SECONDS, run
from support.rows import execute
from support.service import running, use_every_endpoint
from taskwell.database.schema import FUNCTIONS_SCHEMA, SCHEMA
from taskwell.database.urls import parse_database_url
from taskwell.errors import DatabaseError
from taskwell.migrations import HEAD, runner
from taskwell.migrations.runner import upgrade

MakeDatabase = Callable[[str], str]

OBJECTS = """
SELECT nspname || '.' || relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
WHERE nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
UNION ALL
SELECT nspname || '.' || proname FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace
WHERE nspname NOT IN ('pg_catalog', 'information_schema')
"""


def objects(url: str) -> set[str]:
    """The names of all tables, indexes, sequences, views and functions that are not PostgreSQL's own."""
    return {str(name) for (name,) in execute(url, OBJECTS)}


@pytest.fixture
def migrated(new_migrated_url: MakeDatabase) -> str:
    return new_migrated_url("postgres")


# --- beside other programs


def test_a_new_database_has_nothing_of_ours_outside_the_schemas(migrated: str) -> None:
    assert {name.partition(".")[0] for name in objects(migrated)} == {SCHEMA, FUNCTIONS_SCHEMA}


FOREIGN = """
CREATE TABLE public.task (id uuid PRIMARY KEY, title text);
CREATE TABLE public.owner (name text);
CREATE FUNCTION public.next_revision(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint';
CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO public.alembic_version VALUES ('0001')
"""


def test_tables_of_other_programs_with_our_names_do_not_matter(new_database_url: MakeDatabase, tmp_path: Path) -> None:
    url = new_database_url("postgres")
    for statement in FOREIGN.split(";\n"):
        execute(url, statement)
    before = objects(url)
    assert run(tmp_path, "migrate", DATABASE_URL=url).stdout.endswith(f"revision {HEAD}.\n")
    assert {name for name in objects(url) if not name.startswith("taskwell")} == before
    with running("postgres", migrate=False, DATABASE_URL=url) as service:
        use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200
    assert execute(url, "SELECT version_num FROM public.alembic_version") == [("0001",)]


@pytest.mark.parametrize("path", ["''", "nowhere", "public"])
def test_the_search_path_of_the_database_does_not_matter(path: str, new_database_url: MakeDatabase) -> None:
    url = new_database_url("postgres")
    execute(url, f'ALTER DATABASE "{urlsplit(url).path[1:]}" SET search_path TO {path}')
    with running("postgres", DATABASE_URL=url) as service:
        use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200


def test_the_search_path_that_another_client_leaves_on_a_pooled_connection_does_not_matter(
    new_migrated_url: MakeDatabase,
) -> None:
    url = new_migrated_url("postgres-pooler")

    async def change_every_connection() -> set[str]:
        # As pg_dump does. While all are in a transaction, each has a server connection of its own.
        clients = [await asyncpg.connect(url, statement_cache_size=0) for _ in range(8)]
        for client in clients:
            await client.execute("BEGIN; SELECT pg_catalog.set_config('search_path', '', false)")
        for client in clients:
            await client.execute("COMMIT")
        found = {await client.fetchval("SELECT current_setting('search_path')") for client in clients}
        for client in clients:
            await client.close()
        return found

    with running("postgres-pooler", migrate=False, DATABASE_URL=url) as service:
        use_every_endpoint(service.client())
        assert asyncio.run(change_every_connection()) == {""}
        for _ in range(3):
            use_every_endpoint(service.client())
        assert service.http.get("/health/ready").status_code == 200


DRIZZLE = Path(__file__).parent / "drizzle"


def push(url: str) -> str:
    """Runs Drizzle's `push`, which makes the database equal to a front end's schema. Returns what it prints."""
    command = ["node", "node_modules/drizzle-kit/bin.cjs", "push", "--verbose", "--force"]
    variables = {"PATH": os.environ["PATH"], "DATABASE_URL": url}
    done = subprocess.run(
        command, cwd=DRIZZLE, env=variables, capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_drizzle_takes_none_of_our_tables_for_its_own(migrated: str) -> None:
    require_packages(DRIZZLE)
    before = objects(migrated)
    assert "DROP" not in push(migrated)
    assert "No changes detected" in push(migrated)
    assert objects(migrated) == before | {"public.profile", "public.profile_pkey"}


def test_drizzle_drops_tables_in_public(old_database: str) -> None:
    """Why the schema is needed. If this fails, the test before it proves nothing."""
    require_packages(DRIZZLE)
    execute(old_database, "CREATE TABLE public.profile (id text PRIMARY KEY, name text)")
    assert 'DROP TABLE "task"' in push(old_database)


def test_nobody_can_put_a_function_of_theirs_in_the_way_of_ours(migrated: str) -> None:
    settings = execute(migrated, "SELECT proname, proconfig FROM pg_proc WHERE pronamespace = 'taskwell'::regnamespace")
    assert settings
    assert {str(config) for _, config in settings} == {"['search_path=pg_catalog']"}


# --- from the versions before

# The database of revision 0001, which had its tables in `public`. After it, what its processes send, and those of
# revision 0002; a name without a schema is found by the search_path.
REVISION_0001 = (Path(__file__).parent / "support" / "revision_0001.sql").read_text(encoding="utf-8")

CREATE = """
INSERT INTO task (user_id, title, description, complete, created_at, updated_at, revision, creation_key)
VALUES ($1::VARCHAR, $2::VARCHAR, $3::VARCHAR, $4::BOOLEAN, now(), now(), next_revision($1::VARCHAR), $5::VARCHAR)
ON CONFLICT (user_id, creation_key) DO NOTHING
RETURNING task.id, task.user_id, task.title, task.description, task.complete, task.created_at, task.updated_at
"""
GET = """
SELECT task.id, task.user_id, task.title, task.description, task.complete, task.created_at, task.updated_at
FROM task WHERE task.user_id = $1::VARCHAR AND task.deleted_at IS NULL AND task.id = $2::BIGINT
"""
LIST = """
SELECT task.id, task.user_id, task.title, task.description, task.complete, task.created_at, task.updated_at,
    (SELECT count(*) AS count_1 FROM task WHERE task.user_id = $1::VARCHAR AND task.deleted_at IS NULL) AS count
FROM task WHERE task.user_id = $1::VARCHAR AND task.deleted_at IS NULL
ORDER BY task.deleted_at DESC, task.id DESC LIMIT $2::INTEGER OFFSET $3::INTEGER
"""
CHANGE = """
UPDATE task SET title=coalesce($2::VARCHAR, task.title),
    description=CASE WHEN $3::BOOLEAN THEN $4::VARCHAR ELSE task.description END,
    complete=coalesce($5::BOOLEAN, task.complete),
    updated_at=greatest(clock_timestamp(), task.updated_at + interval '1 microsecond'),
    revision=next_revision($1::VARCHAR)
WHERE task.user_id = $1::VARCHAR AND task.deleted_at IS NULL AND task.id = $6::BIGINT
    AND (task.title, task.description, task.complete) IS DISTINCT FROM (coalesce($2::VARCHAR, task.title),
        CASE WHEN $3::BOOLEAN THEN $4::VARCHAR ELSE task.description END, coalesce($5::BOOLEAN, task.complete))
RETURNING task.id, task.user_id, task.title, task.description, task.complete, task.created_at, task.updated_at
"""
DELETE = """
UPDATE task SET deleted_at=now(), revision=next_revision($1::VARCHAR)
WHERE task.user_id = $1::VARCHAR AND task.deleted_at IS NULL AND task.id = $2::BIGINT RETURNING task.id
"""
VERSION = "SELECT version_num \nFROM alembic_version"


class OldProcess:
    """A connection of a process of an older revision, with its statements prepared before the migration."""

    def __init__(self, connection: asyncpg.Connection, schema: str) -> None:
        self._connection = connection
        self._schema = schema
        self._prepared: dict[str, asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]] = {}
        self.user = f"user-{uuid4().hex}"

    async def run(self, sql: str, arguments: Sequence[object] = ()) -> list[asyncpg.Record]:
        if sql not in self._prepared:
            self._prepared[sql] = await self._connection.prepare(sql)
        try:
            return await self._prepared[sql].fetch(*arguments, timeout=30)
        except asyncpg.InvalidCachedStatementError:
            self._prepared[sql] = await self._connection.prepare(sql)
            return await self._prepared[sql].fetch(*arguments, timeout=30)

    async def use_every_statement(self) -> None:
        (created,) = await self.run(CREATE, [self.user, "Buy milk", None, False, uuid4().hex])
        assert await self.run(GET, [self.user, created["id"]]) == [created]
        (changed,) = await self.run(CHANGE, [self.user, "new", True, "two litres", None, created["id"]])
        assert (changed["title"], changed["description"]) == ("new", "two litres")
        assert [row["count"] for row in await self.run(LIST, [self.user, 50, 0])] == [1]
        assert [row["id"] for row in await self.run(DELETE, [self.user, created["id"]])] == [created["id"]]
        assert await self.run(LIST, [self.user, 50, 0]) == []
        if self._schema == "public":
            assert [row["version_num"] for row in await self.run(VERSION)] == ["0001"]


def test_a_schema_of_our_name_that_belongs_to_somebody_else_is_not_used(new_database_url: MakeDatabase) -> None:
    url, stranger = new_database_url("postgres"), f"stranger_{uuid4().hex}"
    execute(url, f"CREATE ROLE {stranger}")
    try:
        execute(url, f"CREATE SCHEMA {FUNCTIONS_SCHEMA} AUTHORIZATION {stranger}")
        # Even a superuser, who may create functions in any schema.
        with pytest.raises(DatabaseError):
            upgrade(parse_database_url(url))
        assert objects(url) == set()
    finally:
        execute(url, f"DROP OWNED BY {stranger}")
        execute(url, f"DROP ROLE {stranger}")


@asynccontextmanager
async def old_process(url: str, schema: str) -> AsyncGenerator[OldProcess]:
    connection = await asyncpg.connect(url, statement_cache_size=0, server_settings={"search_path": schema})
    try:
        yield OldProcess(connection, schema)
    finally:
        await connection.close()


@pytest.fixture
def old_database(new_database_url: MakeDatabase) -> str:
    url = new_database_url("postgres")
    asyncio.run(_run_in_public(url, REVISION_0001))
    return url


@pytest.fixture(params=["0001", "0002"])
def older(request: pytest.FixtureRequest, new_database_url: MakeDatabase) -> tuple[str, str]:
    """A database of an older revision, and the schema of its tables."""
    url = new_database_url("postgres")
    if request.param == "0001":
        asyncio.run(_run_in_public(url, REVISION_0001))
        return url, "public"
    runner.run(parse_database_url(url), lambda config: command.upgrade(config, request.param))
    return url, "taskwell"


async def _run_in_public(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url, server_settings={"search_path": "public"})
    await connection.execute(sql)
    await connection.close()


OLD_NAMES = {f"public.{name}" for name in ("task", "owner", "alembic_version", "next_revision")}


def test_a_migration_moves_the_tables_with_their_rows_and_without_a_rewrite(
    old_database: str, new_migrated_url: MakeDatabase
) -> None:
    insert = "INSERT INTO public.owner VALUES ('alice', 3, 7)"
    files = "SELECT pg_relation_filenode(to_regclass({0} || '.task')), pg_relation_filenode(to_regclass({0} || '.task_revision'))"
    execute(old_database, insert)
    before = execute(old_database, files.format("'public'"))
    assert upgrade(parse_database_url(old_database))
    assert execute(old_database, files.format("'taskwell'")) == before
    assert execute(old_database, "SELECT * FROM taskwell.owner") == [("alice", 3, 7)]
    fresh = objects(new_migrated_url("postgres"))
    assert objects(old_database) == fresh | OLD_NAMES


def test_processes_of_both_versions_work_side_by_side(older: tuple[str, str]) -> None:
    url, schema = older

    async def before_and_after() -> None:
        async with old_process(url, schema) as one, old_process(url, schema) as two:
            await one.use_every_statement()
            await asyncio.to_thread(upgrade, parse_database_url(url))
            with running("postgres", migrate=False, DATABASE_URL=url) as service:
                for old in (one, two):
                    await old.use_every_statement()
                    client = service.client(old.user)
                    await asyncio.to_thread(use_every_endpoint, client)
                    task = await asyncio.to_thread(client.create, "of the new version")
                    assert [row["id"] for row in await old.run(LIST, [old.user, 50, 0])] == [task["id"]]

    asyncio.run(before_and_after())
    # The older version wrote three times in each round, and the new one nine times in each.
    revisions = execute(url, "SELECT revision FROM taskwell.owner ORDER BY revision")
    assert revisions == [(3 + 9,), (3 + 3 + 9,)]


def test_processes_of_the_older_version_notice_nothing_of_the_migration(older: tuple[str, str]) -> None:
    url, schema = older

    async def work_meanwhile() -> int:
        ended = asyncio.Event()

        async def work() -> int:
            rounds = 0
            async with old_process(url, schema) as old:
                while not ended.is_set():
                    await old.use_every_statement()
                    rounds += 1
            return rounds

        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(8)]
            await asyncio.sleep(0.5)
            await asyncio.to_thread(upgrade, parse_database_url(url))
            await asyncio.sleep(0.5)
            ended.set()
        return min(worker.result() for worker in workers)

    assert asyncio.run(work_meanwhile()) > 1


CALL_0003 = "SELECT * FROM taskwell_0003.create_task($1, $2, NULL, $3, NULL, false)"


def test_processes_of_revision_0003_work_beside_the_new_ones_and_their_role_can_call_the_new_functions(
    new_database_url: MakeDatabase,
) -> None:
    url, role, stranger = new_database_url("postgres"), f"service_{uuid4().hex}", f"stranger_{uuid4().hex}"
    runner.run(parse_database_url(url), lambda config: command.upgrade(config, "0003"))
    for statement in (
        f"CREATE ROLE {role} LOGIN",
        f"CREATE ROLE {stranger} LOGIN",
        f"GRANT USAGE ON SCHEMA taskwell, taskwell_0003 TO {role}, {stranger}",
        f"GRANT SELECT ON taskwell.task, taskwell.owner, taskwell.alembic_version TO {role}",
        f"GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA taskwell_0003 TO {role}",
    ):
        execute(url, statement)
    place = urlsplit(url)
    served, other = (place._replace(netloc=f"{one}@{place.hostname}:{place.port}").geturl() for one in (role, stranger))

    async def before_and_after() -> None:
        old = await asyncpg.connect(served)
        create = await old.prepare(CALL_0003)
        await create.fetch("alice", "one", "before")
        await asyncio.to_thread(upgrade, parse_database_url(url))
        await create.fetch("alice", "two", "after")
        await old.close()

    try:
        asyncio.run(before_and_after())
        with running("postgres", migrate=False, DATABASE_URL=served) as service:
            assert service.http.get("/health/ready").status_code == 200
            alice = service.client("alice")
            assert alice.titles() == ["after", "before"]
            use_every_endpoint(service.client())
            assert alice.request("DELETE", "/api/alice?confirm=alice").status_code == 204
        for call in ("apply_batch('alice', '[]')", "erase_owner('alice')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                execute(other, f"SELECT taskwell_0003.{call}")
    finally:
        for made in (role, stranger):
            execute(url, f"DROP OWNED BY {made}")
            execute(url, f"DROP ROLE {made}")


@pytest.mark.parametrize("path", ["''", "nowhere, public"])
def test_the_old_tables_are_found_whatever_the_search_path(old_database: str, path: str) -> None:
    execute(old_database, "INSERT INTO public.owner VALUES ('alice', 3, 7)")
    execute(old_database, f'ALTER DATABASE "{urlsplit(old_database).path[1:]}" SET search_path TO {path}')
    upgrade(parse_database_url(old_database))
    assert execute(old_database, "SELECT * FROM taskwell.owner") == [("alice", 3, 7)]


def test_old_tables_in_another_schema_than_public_are_moved_too(new_database_url: MakeDatabase) -> None:
    url = new_database_url("postgres")
    execute(url, 'CREATE SCHEMA "Our app"')
    asyncio.run(_run_in_public(url, f'SET search_path = "Our app"; {REVISION_0001}'))
    upgrade(parse_database_url(url))
    assert "taskwell.task" in objects(url)
    assert execute(url, 'SELECT version_num FROM "Our app".alembic_version') == [("0001",)]


GRANTS_OF_0001 = """
CREATE ROLE {role} LOGIN;
GRANT SELECT, INSERT, UPDATE ON public.task, public.owner TO {role};
GRANT EXECUTE ON FUNCTION public.next_revision(text) TO {role};
GRANT SELECT ON public.alembic_version TO {role}
"""


def test_the_role_of_the_service_keeps_its_rights_and_nobody_gets_more(old_database: str) -> None:
    role, stranger = f"service_{uuid4().hex}", f"stranger_{uuid4().hex}"
    for statement in GRANTS_OF_0001.format(role=role).split(";\n"):
        execute(old_database, statement)
    execute(old_database, "REVOKE ALL ON FUNCTION public.next_revision(text) FROM PUBLIC")
    # Supabase does so: what is created in `public` from now on is everybody's.
    execute(old_database, f"CREATE ROLE {stranger} LOGIN")
    execute(old_database, f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO {stranger}")
    try:
        upgrade(parse_database_url(old_database))
        place = urlsplit(old_database)
        served = place._replace(netloc=f"{role}@{place.hostname}:{place.port}").geturl()
        other = place._replace(netloc=f"{stranger}@{place.hostname}:{place.port}").geturl()
        with running("postgres", migrate=False, DATABASE_URL=served) as service:
            use_every_endpoint(service.client())
            assert service.http.get("/health/ready").status_code == 200
        asyncio.run(_use_every_statement(served))
        for name in ("public.task", "public.owner", "taskwell.task"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                execute(other, f"SELECT FROM {name}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            execute(served, "DELETE FROM public.task")
    finally:
        for made in (role, stranger):
            execute(old_database, f"DROP OWNED BY {made}")
            execute(old_database, f"DROP ROLE {made}")


async def _use_every_statement(url: str) -> None:
    async with old_process(url, "public") as old:
        await old.use_every_statement()


def test_row_security_holds_through_the_old_names(old_database: str) -> None:
    role = f"reader_{uuid4().hex}"
    execute(old_database, f"CREATE ROLE {role} LOGIN")
    try:
        execute(old_database, f"GRANT SELECT ON public.owner TO {role}")
        execute(old_database, "INSERT INTO public.owner VALUES ('alice', 3, 7)")
        execute(old_database, "ALTER TABLE public.owner ENABLE ROW LEVEL SECURITY")
        upgrade(parse_database_url(old_database))
        place = urlsplit(old_database)
        reader = place._replace(netloc=f"{role}@{place.hostname}:{place.port}").geturl()
        assert execute(reader, "SELECT * FROM public.owner") == []
        assert execute(old_database, "SELECT count(*) FROM public.owner") == [(1,)]
    finally:
        execute(old_database, f"DROP OWNED BY {role}")
        execute(old_database, f"DROP ROLE {role}")
