"""Growing beyond one process and one database server, as docs/performance.md describes it."""

import time
from collections.abc import Callable, Iterator

import pytest

from support.postgres import PostgresServer, Replica, find_binaries
from support.problem import assert_problem
from support.rows import execute
from support.service import Client, running, use_every_endpoint
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade

# A distributed database requires the distribution column, `user_id`, in every primary key and unique index.
DISTRIBUTED = "ALTER TABLE task DROP CONSTRAINT task_pkey, ADD PRIMARY KEY (user_id, id)"


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL")
    server = PostgresServer(binaries)
    server.wait_until_ready()
    upgrade(parse_database_url(server.url))
    yield server
    server.stop()


@pytest.fixture
def replica(primary: PostgresServer) -> Iterator[Replica]:
    binaries = find_binaries()
    assert binaries
    server = Replica(binaries, primary.url)
    server.wait_until_ready()
    yield server
    server.stop()


def test_a_service_on_a_replica_reads_and_refuses_to_write(primary: PostgresServer, replica: Replica) -> None:
    with (
        running("writer", migrate=False, DATABASE_URL=primary.url) as writer,
        running("reader", migrate=False, DATABASE_URL=replica.url) as reader,
    ):
        alice = writer.client()
        task = alice.create()
        there = Client(reader.http, alice.user)
        deadline = time.monotonic() + 10
        while there.request("GET", task["id"]).status_code == 404:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert there.request("GET", task["id"]).json() == task
        assert there.titles() == alice.titles()
        assert reader.http.get("/health/ready").status_code == 200
        for method, path in (("POST", ""), ("PUT", task["id"]), ("PATCH", task["id"]), ("DELETE", task["id"])):
            response = there.request(method, path, json={"title": "no", "complete": True})
            assert_problem(response, 500, "DATABASE_ERROR")
        assert alice.request("GET", task["id"]).json() == task


def test_users_cannot_tell_two_services_on_one_database_apart(new_migrated_url: Callable[[str], str]) -> None:
    url = new_migrated_url("postgres")
    with running("one", migrate=False, DATABASE_URL=url) as one, running("two", migrate=False, DATABASE_URL=url) as two:
        alice = one.client()
        elsewhere = Client(two.http, alice.user)
        for turn in range(20):
            here, there = (alice, elsewhere) if turn % 2 else (elsewhere, alice)
            task = here.create(str(turn))
            assert there.request("GET", task["id"]).json() == task
            changed = there.request("PATCH", task["id"], json={"complete": True})
            assert here.request("GET", task["id"]).json() == changed.json()
    # Each creation uses one revision, and its change the next.
    assert execute(url, "SELECT revision FROM task ORDER BY updated_at") == [(2 * n + 2,) for n in range(20)]


def test_the_service_works_when_every_key_begins_with_the_user(new_migrated_url: Callable[[str], str]) -> None:
    """A database that distributes rows by `user_id` requires it in the primary key. The service works all the same."""
    url = new_migrated_url("postgres")
    execute(url, DISTRIBUTED)
    with running("distributed", migrate=False, DATABASE_URL=url) as service:
        use_every_endpoint(service.client())
