"""Past one machine: everything of a user on one worker of a Citus cluster. Runs where TEST_CITUS_URL names a coordinator."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from itertools import count, pairwise
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from alembic import command
from alembic.config import Config

from support import citus, events
from support.documents import blocks
from support.postgres import PostgresServer
from support.problem import assert_problem
from support.process import production, run
from support.rows import execute
from support.servers import server_of
from support.service import Client, Service, create_schema, running, use_every_endpoint
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.migrations import distribution
from taskwell.migrations.runner import run as run_alembic
from taskwell.migrations.runner import upgrade

ENOUGH_SECONDS = 30

# A request of another user takes milliseconds. On a busy machine, it may take longer, but it does not wait for a timeout.
HARMED_SECONDS = 1.5


def run_documented(url: str, beginning: str) -> None:
    """Runs the block of docs/operations.md that begins so."""
    (sql,) = [block for block in blocks("docs/operations.md", "sql") if block.startswith(beginning)]

    async def send() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(sql)
        await connection.close()

    asyncio.run(send())


def login_of(role: str, url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}").geturl()


@pytest.fixture(scope="module")
def cluster() -> Iterator[citus.Cluster]:
    """A cluster of its own, whose workers can be killed."""
    ((binaries,),) = execute(server_of("citus")["url"], "SELECT setting FROM pg_config WHERE name = 'BINDIR'")
    with citus.cluster(Path(str(binaries))) as started:
        yield started


@pytest.fixture(scope="module")
def served(cluster: citus.Cluster) -> Iterator[Service]:
    """A service that uses the documented role."""
    url = citus.new_database(cluster.url, "taskwell")
    run_documented(url, "CREATE ROLE taskwell_owner")
    create_schema("citus", login_of("taskwell_owner", url))
    run_documented(url, "CREATE ROLE taskwell_service")
    run_documented(url, "ALTER ROLE taskwell_service SET statement_timeout = '2s'")
    with running("citus", migrate=False, DATABASE_URL=login_of("taskwell_service", url)) as service:
        yield Service(**{**vars(service), "url_of_database": url})


def clients_on(service: Service, worker: int, number: int) -> list[Client]:
    found: list[Client] = []
    while len(found) < number:
        client = service.client()
        if citus.worker_of(service.url_of_database, client.user) == worker:
            client.create()
            found.append(client)
    return found


def eventually_served(client: Client) -> None:
    deadline = time.monotonic() + ENOUGH_SECONDS
    while not client.request("GET").is_success:
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- it works


def test_with_the_documented_rights_everything_works(served: Service) -> None:
    for client in [*clients_on(served, 0, 2), *clients_on(served, 1, 2)]:
        client.request("DELETE", client.request("GET").json()["tasks"][0]["id"])
        use_every_endpoint(client)
        assert client.request("DELETE", f"/api/{client.user}?confirm={client.user}").status_code == 204


def test_changes_run_on_the_worker_and_creations_on_the_coordinator(served: Service) -> None:
    assert delegated(served.url_of_database) == ["change_task", "delete_task", "erase_owner", "restore_task"]


def delegated(url: str) -> list[object]:
    """The functions that run where the rows of their user are."""
    rows = execute(
        url,
        "SELECT proname FROM pg_dist_object JOIN pg_proc ON objid = pg_proc.oid "
        "WHERE classid = 'pg_proc'::regclass AND distribution_argument_index = 0 ORDER BY proname",
    )
    return [name for (name,) in rows]


def test_newest_first_also_holds_after_a_user_has_moved_to_another_worker(served: Service) -> None:
    (client,) = clients_on(served, 1, 1)
    execute(
        served.url_of_database,
        "SELECT citus_move_shard_placement(get_shard_id_for_distribution_column('taskwell.task', "
        f"'{client.user}'), {nodes(served)}, 'block_writes')",
    )
    assert citus.worker_of(served.url_of_database, client.user) == 0
    client.create("after the move")
    assert client.titles() == ["after the move", "Buy milk"]


def nodes(service: Service) -> str:
    """The arguments that name the second worker, and then the first."""
    found = execute(
        service.url_of_database,
        "SELECT format('%L, %s', nodename, nodeport) FROM pg_dist_node WHERE groupid > 0 ORDER BY groupid DESC",
    )
    return ", ".join(str(node) for (node,) in found)


def test_old_deleted_tasks_are_purged_on_every_worker(served: Service, tmp_path: Path) -> None:
    old = [*clients_on(served, 0, 3), *clients_on(served, 1, 3)]
    for client in old:
        client.request("DELETE", client.request("GET").json()["tasks"][0]["id"])
    users = ", ".join(f"'{client.user}'" for client in old)
    execute(
        served.url_of_database,
        f"UPDATE taskwell.task SET deleted_at = now() - interval '31 days' WHERE user_id IN ({users})",  # noqa: S608 - our own names
    )
    done = run(tmp_path, "purge", **production(served.url_of_database))
    assert done.stdout.startswith("Erased 6 tasks."), done.stderr
    for client in old:
        assert client.request("GET", f"/api/{client.user}/trash").json()["count"] == 0


def test_everything_can_be_copied_in_and_out(served: Service, tmp_path: Path) -> None:
    upgrade(parse_database_url(f"sqlite:///{tmp_path}/file.db"))
    another = citus.new_database(server_of("citus")["url"], f"copy_{time.time_ns()}")
    create_schema("citus", another)
    for client in (*clients_on(served, 0, 2), *clients_on(served, 1, 2)):
        client.create("another")
    way = [served.url_of_database, f"sqlite:///{tmp_path}/file.db", another]
    for source, target in pairwise(way):
        done = run(tmp_path, "copy", "--from", source, "--to", target)
        assert done.returncode == 0, done.stderr
    with running("citus", migrate=False, DATABASE_URL=another) as copied:
        mine = copied.client(client.user)
        assert mine.titles() == ["another", "Buy milk"]
        assert mine.create()["id"] > max(task["id"] for task in client.request("GET").json()["tasks"])


def test_tasks_from_before_the_distribution_are_still_there(new_database_url: Callable[[str], str]) -> None:
    url = new_database_url("citus")
    upgrade(parse_database_url(url))
    with running("citus", migrate=False, DATABASE_URL=url) as before:
        clients = [before.client() for _ in range(10)]
        etags = [client.request("POST", json={"title": "before"}).headers["etag"] for client in clients]
    create_schema("citus", url)
    with running("citus", migrate=False, DATABASE_URL=url) as after:
        for client, etag in zip(clients, etags, strict=True):
            mine = after.client(client.user)
            (task,) = mine.request("GET").json()["tasks"]
            assert mine.request("PATCH", task["id"], json={"complete": True}, headers={"If-Match": etag}).is_success
            assert mine.create("after")["id"] > task["id"]
            assert mine.titles() == ["after", "before"]


# --- the next change of the schema


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_a_database_that_is_distributed_can_be_migrated(revision: str, new_database_url: Callable[[str], str]) -> None:
    url = new_database_url("citus")
    parsed = parse_database_url(url)
    assert isinstance(parsed, PostgresURL)

    def distribute_earlier(config: Config) -> None:
        connection = config.attributes["connection"]
        command.upgrade(config, revision)
        distribution.use_one_connection(connection)
        for statement in distribution.DISTRIBUTE:
            connection.exec_driver_sql(statement)

    run_alembic(parsed, distribute_earlier)
    with running("citus", migrate=False, DATABASE_URL=url) as service:
        assert upgrade(parsed)
        assert not upgrade(parsed)
        assert len(delegated(url)) == len(distribution.DELEGATED)
        assert execute(url, "SELECT taskwell_0003.purge(30, 500)") == [(0,)]
        for client in (*clients_on(service, 0, 2), *clients_on(service, 1, 2)):
            client.request("DELETE", client.request("GET").json()["tasks"][0]["id"])
            use_every_endpoint(client)


# --- a worker fails


def test_a_lost_worker_harms_only_its_own_users(cluster: citus.Cluster, served: Service) -> None:
    (lost,), others = clients_on(served, 0, 1), clients_on(served, 1, 4)
    with citus.killed(cluster.workers[0]):
        for turn in range(10):
            assert_problem(lost.request("GET"), 500, "DATABASE_ERROR")
            assert_problem(lost.request("POST", json={"title": "x"}), 500, "DATABASE_ERROR")
            for other in others:
                task = other.create(f"{turn}")
                assert other.request("PATCH", task["id"], json={"complete": True}).status_code == 200
    eventually_served(lost)
    assert lost.create()


def test_a_frozen_worker_harms_only_its_own_users(cluster: citus.Cluster, served: Service) -> None:
    waiting, others = clients_on(served, 0, 4), clients_on(served, 1, 4)
    with ThreadPoolExecutor(len(waiting)) as threads, citus.frozen(cluster.workers[0]):
        hung = [threads.submit(client.request, "GET") for client in waiting]
        slowest = 0.0
        while not all(one.done() for one in hung):
            for other in others:
                started = time.monotonic()
                other.create()
                slowest = max(slowest, time.monotonic() - started)
        assert slowest < HARMED_SECONDS
        for one in hung:
            assert_problem(one.result(), 500, "DATABASE_ERROR")
    for client in waiting:
        eventually_served(client)


@pytest.mark.parametrize("failing", [citus.killed, citus.frozen])
def test_streams_of_other_users_go_on_while_a_worker_fails(
    failing: Callable[[PostgresServer], AbstractContextManager[None]], cluster: citus.Cluster, served: Service
) -> None:
    (silent,), (other,) = clients_on(served, 0, 1), clients_on(served, 1, 1)
    numbers = count()
    with ExitStack() as stack:
        quiet, told = (stack.enter_context(events.stream(client)).begun() for client in (silent, other))
        with failing(cluster.workers[0]):
            for _ in range(3):
                title = f"{next(numbers)}"
                # Another process, so that this one looks for changes of both users.
                execute(
                    served.url_of_database,
                    f"SELECT taskwell_0003.create_task('{other.user}', '{title}', NULL, '{title}', NULL, false)",
                )
                assert [event.data["title"] for event in told.changes(1)] == [title]
        eventually_served(silent)
        silent.create("back")
        assert [event.data["title"] for event in quiet.changes(1)] == ["back"]
