"""Errors of PostgreSQL: which of them cost the connection, and what clients are told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from support.problem import assert_problem
from support.rows import execute
from support.servers import server_of
from support.service import running
from taskwell.database import postgres
from taskwell.database.pool import Pool, PooledConnection
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.errors import DatabaseError, DatabaseRefused

RAISING = """
CREATE FUNCTION raising(state text) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'raised by a test' USING ERRCODE = state; END $$
"""
PROCESS = "SELECT pg_backend_pid()"


@pytest.fixture(scope="module")
def url(new_database_url: Callable[[str], str]) -> PostgresURL:
    text = new_database_url("postgres")
    execute(text, RAISING)
    url = parse_database_url(text)
    assert isinstance(url, PostgresURL)
    return url


KEEPING = """
CREATE FUNCTION taskwell.keeping() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'
"""


def test_a_trigger_that_keeps_tasks_from_being_written_gets_an_error_and_not_an_endless_loop(
    new_migrated_url: Callable[[str], str],
) -> None:
    database = new_migrated_url("postgres")
    with running("postgres", migrate=False, DATABASE_URL=database) as service:
        alice = service.client()
        task = alice.create()
        execute(database, KEEPING)
        execute(database, "CREATE TRIGGER keep BEFORE INSERT OR UPDATE ON task FOR EACH ROW EXECUTE FUNCTION keeping()")
        new = {"title": "new"}
        for method, path, body in (("POST", "", new), ("PATCH", task["id"], new), ("DELETE", task["id"], None)):
            problem = assert_problem(alice.request(method, path, json=body), 500, "DATABASE_ERROR")
            assert problem["detail"].startswith("The database reported an error.")
        assert alice.request("GET", task["id"]).headers["etag"] == '"1"'


@asynccontextmanager
async def pool_of_two(url: PostgresURL) -> AsyncIterator[Pool]:
    async def connect() -> PooledConnection:
        return PooledConnection(await postgres.connect(url), named=True)

    pool = Pool(connect, 2, 2)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


async def _processes(pool: Pool) -> set[object]:
    """Returns the server processes of both connections."""
    rows = await asyncio.gather(
        *[pool.fetch("SELECT pg_backend_pid(), pg_sleep(0.2)", [], repeatable=False) for _ in range(2)]
    )
    return {row[0][0] for row in rows}


# 08006 is what Citus reports when one of its worker nodes is lost, on a connection that still works.
@pytest.mark.parametrize("state", ["08006", "08000", "57P01", "0A000", "42501", "40001", "53100", "XX000"])
def test_an_error_that_is_not_fatal_keeps_all_connections(url: PostgresURL, state: str) -> None:
    async def fail() -> None:
        async with pool_of_two(url) as pool:
            before = await _processes(pool)
            for repeatable in (True, False):
                with pytest.raises(DatabaseError, match=r"^The database (reported|refused)"):
                    await pool.fetch("SELECT raising($1)", [state], repeatable=repeatable)
            assert await _processes(pool) == before

    asyncio.run(fail())


def test_a_connection_that_the_server_ends_is_replaced(url: PostgresURL) -> None:
    async def end() -> None:
        async with pool_of_two(url) as pool:
            before = await _processes(pool)
            with pytest.raises(DatabaseError, match=r"^The database cannot be reached"):
                await pool.fetch("SELECT pg_terminate_backend(pg_backend_pid())", [], repeatable=False)
            assert len(await _processes(pool) - before) >= 1

    asyncio.run(end())


@pytest.mark.parametrize(
    ("state", "kind", "detail"),
    [
        ("0A000", DatabaseRefused, "refused the operation"),
        ("42501", DatabaseRefused, "refused the operation"),
        ("25006", DatabaseRefused, "refused the operation"),
        ("53100", DatabaseError, "reported an error"),
        ("40P01", DatabaseError, "reported an error"),
        ("08006", DatabaseError, "reported an error"),
    ],
)
def test_a_reachable_database_is_not_called_unreachable(
    url: PostgresURL, state: str, kind: type[DatabaseError], detail: str
) -> None:
    async def fail() -> DatabaseError:
        async with pool_of_two(url) as pool:
            with pytest.raises(kind) as failure:
                await pool.fetch("SELECT raising($1)", [state], repeatable=False)
            return failure.value

    error = asyncio.run(fail())
    assert detail in error.detail
    assert "raised by a test" in str(error.cause)
    assert "raised by a test" not in error.detail


async def _cause_of(url: str) -> str:
    parsed = parse_database_url(url)
    assert isinstance(parsed, PostgresURL)
    with pytest.raises(DatabaseError) as failure:
        await postgres.connect(parsed)
    return str(failure.value.cause)


def test_a_server_without_tls_is_named_as_the_reason() -> None:
    url = server_of("postgres")["url"]
    assert asyncio.run(_cause_of(f"{url}?sslmode=require")).startswith("the server does not support TLS")


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), ("not a certificate", "no certificate")]
)
def test_an_unusable_sslrootcert_is_named(
    tmp_path_factory: pytest.TempPathFactory, content: str | None, reason: str
) -> None:
    file = tmp_path_factory.mktemp("certificates") / "authority.pem"
    if content:
        file.write_text(content)
    url = f"postgresql://a:b@127.0.0.1:1/c?sslmode=verify-full&sslrootcert={file}"
    cause = asyncio.run(_cause_of(url))
    assert cause.startswith(f"sslrootcert={file} cannot be used: ")
    assert reason in cause
