"""Past one process, one machine, one database server: what docs/performance.md says of it."""

import time
from collections.abc import Callable, Iterator

import pytest

from support.postgres import PostgresServer, Replica, find_binaries
from support.problem import assert_problem
from support.rows import execute
from support.service import Client, running, use_every_endpoint
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade

# Every table's key and every unique index would have to begin with, or hold, what the rows are distributed by.
DISTRIBUTED = "ALTER TABLE task DROP CONSTRAINT task_pkey, ADD PRIMARY KEY (user_id, id)"


@pytest.fixture(scope="module")
def primary() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("there are no programs of PostgreSQL")
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
            answer = there.request(method, path, json={"title": "no", "complete": True})
            assert_problem(answer, 500, "DATABASE_ERROR")
        assert alice.request("GET", task["id"]).json() == task


def test_two_services_are_one_to_their_users(new_migrated_url: Callable[[str], str]) -> None:
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
    # One was taken by each creation, the next by its change.
    assert execute(url, "SELECT revision FROM task ORDER BY updated_at") == [(2 * n + 2,) for n in range(20)]


def test_no_statement_needs_a_key_across_users(new_migrated_url: Callable[[str], str]) -> None:
    """What distributes rows by `user_id` wants it in the primary key; the service does not notice."""
    url = new_migrated_url("postgres")
    execute(url, DISTRIBUTED)
    with running("distributed", migrate=False, DATABASE_URL=url) as service:
        use_every_endpoint(service.client())
