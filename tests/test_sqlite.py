"""SQLite: short reads and writes run on the event loop, and writes that wait together share one commit."""

import fcntl
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.download import fill
from support.problem import assert_problem
from support.process import Server, production, serving
from support.racing import Call, race, race_behind_a_writer
from support.rows import execute, writes_held
from support.service import Client, Service, running, use_every_endpoint
from taskwell.database import sqlite_loop
from taskwell.database.sqlite import SQLiteDatabase

# The first writes wait for the lock in a group, and all others in the next one or two.
FEW_COMMITS = 6


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service


def _database(service: Service) -> SQLiteDatabase:
    database: SQLiteDatabase = service.state["tasks"]._database
    return database


@contextmanager
def _recorded(connection_of: Callable[[SQLiteDatabase], object], service: Service) -> Iterator[list[str]]:
    """Records the statements on one of the service's connections."""
    connection = connection_of(_database(service)).connection  # type: ignore[attr-defined]
    recorded: list[str] = []
    connection.set_trace_callback(recorded.append)
    yield recorded
    connection.set_trace_callback(None)


# --- reads, and the statements of writes, on the event loop


def test_reads_by_key_and_pages_need_no_thread(service: Service, alice: Client) -> None:
    task = alice.create()
    changes = alice.home.removesuffix("tasks") + "changes"
    with (
        _recorded(lambda database: database.reader, service) as in_thread,
        _recorded(lambda database: database.on_loop, service) as on_loop,
    ):
        for path in (task["id"], "", changes):
            assert alice.request("GET", path).status_code == 200
    assert (len(on_loop), in_thread) == (3, [])


def test_searches_and_exports_leave_the_event_loop_to_others(service: Service, alice: Client) -> None:
    alice.create()
    with _recorded(lambda database: database.on_loop, service) as on_loop:
        assert alice.titles(q="milk") == ["Buy milk"]
        assert alice.request("GET", alice.home.removesuffix("tasks") + "export").status_code == 200
    assert on_loop == []


@pytest.mark.parametrize(("limit", "value"), [("LOOP_SECONDS", 0), ("LOOP_LOOKS", 10)])
def test_a_list_that_takes_too_long_for_the_event_loop_is_read_in_a_thread(
    service: Service, alice: Client, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    fill(service.url_of_database, alice.user, 2000, description="", deleted_every=4000)
    with _recorded(lambda database: database.reader, service) as in_thread:
        monkeypatch.setattr(sqlite_loop, "LOOP_SECONDS", 60)
        unlimited = alice.request("GET")
        one = unlimited.json()["tasks"][0]["id"]
        # Once without the limit, which can also interrupt the preparation of a statement.
        assert alice.request("GET", one).status_code == 200
        monkeypatch.setattr(sqlite_loop, limit, value)
        limited = alice.request("GET")
        assert alice.request("GET", one).status_code == 200
    assert len(in_thread) == 1
    assert limited.json() == unlimited.json()
    assert limited.json()["count"] == 2000


@pytest.mark.slow
def test_a_very_long_list_does_not_keep_others_waiting(service: Service, alice: Client, mallory: Client) -> None:
    fill(service.url_of_database, alice.user, 300_000, description="", deleted_every=10**9)
    task = mallory.create()
    with _recorded(lambda database: database.reader, service) as in_thread, ThreadPoolExecutor(2) as threads:
        lists = [threads.submit(alice.request, "GET", params={"offset": 299_000, "limit": 1}) for _ in range(20)]
        taken: list[float] = []
        while not all(one.done() for one in lists):
            started = time.perf_counter()
            assert mallory.request("GET", task["id"]).status_code == 200
            taken.append(time.perf_counter() - started)
    assert {one.result().json()["count"] for one in lists} == {300_000}
    assert len(in_thread) == len(lists)
    assert sorted(taken)[len(taken) // 2] < 0.05


_REVISION = "SELECT revision FROM owner WHERE user_id = '{}'"


@pytest.mark.parametrize("instructions", [0, 5, 40, 150])
def test_whatever_is_interrupted_happens_once(
    service: Service, monkeypatch: pytest.MonkeyPatch, instructions: int
) -> None:
    monkeypatch.setattr(sqlite_loop, "LOOP_LOOKS", instructions)
    monkeypatch.setattr(sqlite_loop, "_INSTRUCTIONS", 1)
    use_every_endpoint(service.client())


def test_writes_that_share_a_commit_can_be_interrupted_anywhere(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = service.client()
    paths = [f"/{alice.create()['id']}" for _ in range(8)]
    # More than those of a rollback to a savepoint, which is then not interrupted.
    monkeypatch.setattr(sqlite_loop, "_INSTRUCTIONS", 5)
    limits = range(20, 100, 2)
    for limit in limits:
        monkeypatch.setattr(sqlite_loop, "LOOP_LOOKS", limit)
        changes = [Call(alice, "PATCH", path, {"title": f"with {limit}"}) for path in paths]
        assert {answer.status_code for answer in race(changes)} == {200}
    assert alice.titles() == [f"with {limits[-1]}"] * len(paths)
    assert execute(service.url_of_database, _REVISION.format(alice.user)) == [(len(paths) * (1 + len(limits)),)]


# The places of these locks in the file of the shared memory, and the size of its header
# (https://www.sqlite.org/walformat.html).
WRITE_LOCK, RECOVER_LOCK, HEADER_BYTES = 120, 122, 96


@contextmanager
def _recovering(database: Path) -> Iterator[None]:
    """Does to the shared memory what another process does while it recovers the log after a crash."""
    shared = os.open(f"{database}-shm", os.O_RDWR)
    try:
        fcntl.lockf(shared, fcntl.LOCK_EX, RECOVER_LOCK - WRITE_LOCK + 1, WRITE_LOCK)
        os.pwrite(shared, bytes(HEADER_BYTES), 0)
        yield
    finally:
        os.close(shared)


def test_while_another_process_recovers_the_log_reads_wait_and_the_event_loop_does_not(
    tmp_path: Path, new_migrated_url: Callable[[str], str]
) -> None:
    url = new_migrated_url("sqlite")
    with serving(tmp_path, **production(url)) as server, ThreadPoolExecutor(1) as thread:
        alice = server.client("alice")
        task = alice.create()
        with _recovering(Path(url.removeprefix("sqlite:///"))):
            reading = thread.submit(alice.request, "GET", task["id"])
            time.sleep(0.3)
            assert server.http.get("/health").status_code == 200
            assert not reading.done()
        assert reading.result().json() == task


# --- writes that share a commit


def test_creations_that_wait_together_share_a_commit(service: Service, alice: Client) -> None:
    alice.create()
    with _recorded(lambda database: database.writer, service) as statements:
        answers = race_behind_a_writer(service, [Call(alice, "POST", "", {"title": str(n)}) for n in range(40)])
    assert {answer.status_code for answer in answers} == {201}
    assert statements.count("COMMIT") <= FEW_COMMITS
    revisions = [int(answer.headers["taskwell-revision"]) for answer in answers]
    assert sorted(revisions) == list(range(2, 42))
    # Both follow the order in which the writes happened.
    ids = [answer.json()["id"] for answer in answers]
    assert sorted(ids) == [one for _, one in sorted(zip(revisions, ids, strict=True))]


def test_a_write_alone_needs_no_savepoint(service: Service, alice: Client) -> None:
    with _recorded(lambda database: database.writer, service) as statements:
        alice.create()
    assert statements[0] == "BEGIN IMMEDIATE"
    assert statements[-1] == "COMMIT"
    assert not [statement for statement in statements if "SAVEPOINT" in statement]


def test_a_write_that_is_refused_does_not_disturb_those_with_the_same_commit(service: Service, alice: Client) -> None:
    task, doomed = alice.create("first"), alice.create("doomed")
    path = f"/{task['id']}"
    create = {"op": "create", "task": {"title": "undone"}}
    batch = {"operations": [create, create, {"op": "delete", "id": task["id"], "if_match": '"999"'}]}
    keyed = Call(alice, "POST", "", {"title": "once"}, {"Idempotency-Key": "k"})
    expected = [
        (Call(alice, "PATCH", path, {"complete": True}), 200),
        (Call(alice, "POST", "", {"title": "new"}), 201),
        (Call(alice, "POST", "/batch", batch), 412),
        (Call(alice, "PATCH", path, {"title": "no"}, {"If-Match": '"999"'}), 412),
        (Call(alice, "PATCH", path, {"title": "changed"}), 200),
        (Call(alice, "DELETE", "/9000000000"), 404),
        (Call(alice, "DELETE", f"/{doomed['id']}"), 204),
        (Call(alice, "POST", "", {"title": "new"}), 201),
    ]
    with _recorded(lambda database: database.writer, service) as statements:
        answers = race_behind_a_writer(service, [*(call for call, _ in expected), keyed, keyed])
    assert [answer.status_code for answer in answers] == [*(status for _, status in expected), 201, 201]
    assert answers[-1].content == answers[-2].content
    assert "ROLLBACK TO one" in statements
    assert statements.count("COMMIT") <= FEW_COMMITS
    assert sorted(alice.titles()) == ["changed", "new", "new", "once"]
    # The two creations, and the six writes that were not refused.
    revisions = "SELECT count(DISTINCT revision), max(revision) FROM task WHERE user_id = '{}'"
    assert execute(service.url_of_database, revisions.format(alice.user)) == [(5, 2 + 6)]


@contextmanager
def _full_disk(server: Server, url: str) -> Iterator[None]:
    """Lets the log of the database grow no further."""
    size = Path(url.removeprefix("sqlite:///") + "-wal").stat().st_size
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (size, before[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)


def test_a_full_disk_fails_all_writes_that_share_a_commit_and_loses_no_other(
    tmp_path: Path, new_migrated_url: Callable[[str], str]
) -> None:
    url = new_migrated_url("sqlite")
    with serving(tmp_path, **production(url)) as server:
        alice = server.client("alice")
        kept = [alice.create(str(number)) for number in range(20)]
        with _full_disk(server, url):
            with ThreadPoolExecutor(1) as thread:
                with writes_held(url, alice.user):
                    racing = thread.submit(race, [Call(alice, "POST", "", {"title": "lost"})] * 20)
                    time.sleep(0.3)
                answers = racing.result()
            # Without a lock to wait for, the event loop runs the statements of the groups.
            answers += race([Call(alice, "PATCH", f"/{task['id']}", {"title": "lost"}) for task in kept])
            for answer in answers:
                assert_problem(answer, 500, "DATABASE_ERROR")
            assert alice.request("GET").json()["tasks"] == kept[::-1]
        kept.append(alice.create("after"))
        server.end()
    with serving(tmp_path, **production(url)) as server:
        assert server.client("alice").request("GET").json()["tasks"] == kept[::-1]
    assert execute(url, "SELECT revision FROM owner") == [(21,)]
