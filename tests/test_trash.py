"""The trash: deleted tasks can be seen and restored until they are erased, and erased tasks leave no text behind."""

import asyncio
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import httpx2
import pytest

from support.etags import etag_of
from support.problem import assert_problem
from support.process import production, run, serving
from support.racing import Call, race, race_behind_a_writer
from support.rows import execute
from support.service import Client, Json, Service, running, use_every_endpoint
from taskwell.app import database_from
from taskwell.database.interface import MaintenanceWrite, Query
from taskwell.errors import DatabaseError
from taskwell.settings import Settings
from taskwell.tasks import purge
from taskwell.tasks.purge import Purge

ONCE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")

SECRET_TEXT = "the secret plan"


def trash_of(client: Client, suffix: str = "") -> str:
    return f"/api/{client.user}/trash{suffix}"


def trash(client: Client, **query: object) -> Json:
    response = client.request("GET", trash_of(client), params=query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


def restore(client: Client, task_id: object) -> httpx2.Response:
    return client.request("POST", trash_of(client, f"/{task_id}/restore"))


def restoring(client: Client, task_id: object) -> Call:
    """The same as `restore`, for a race."""
    return Call(client, "POST", trash_of(client, f"/{task_id}/restore"))


def delete(client: Client, task_id: object) -> int:
    """Deletes a task and returns the revision of the deletion."""
    response = client.request("DELETE", str(task_id))
    assert response.status_code == 204
    return int(response.headers["taskwell-revision"])


def deleted(client: Client, *titles: str) -> list[Json]:
    tasks = [client.create(title) for title in titles]
    for task in tasks:
        delete(client, task["id"])
    return tasks


def titles_in_trash(client: Client, **query: object) -> list[str]:
    return [task["title"] for task in trash(client, **query)["tasks"]]


def owner_revision(url: str, user: str) -> object:
    ((revision,),) = execute(url, f"SELECT revision FROM owner WHERE user_id = '{user}'")  # noqa: S608 - our own
    return revision


# --- the list


def test_a_deleted_task_is_in_the_trash_with_its_etag_and_the_time_of_its_deletion(alice: Client) -> None:
    task = alice.create("Buy milk", description="Oat", complete=True)
    assert trash(alice) == {"tasks": [], "count": 0}
    revision = delete(alice, task["id"])
    (found,) = trash(alice)["tasks"]
    deleted_at = found.pop("deleted_at")
    assert found == task | {"etag": f'"{revision}"'}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", deleted_at)
    assert task["created_at"] <= deleted_at
    assert alice.titles() == []


def test_the_newest_deletion_is_first(alice: Client) -> None:
    first, second, third = (alice.create(title)["id"] for title in ("1", "2", "3"))
    for task_id in (second, third, first):
        delete(alice, task_id)
        time.sleep(0.002)
    assert titles_in_trash(alice) == ["1", "3", "2"]
    assert trash(alice, limit=2) == {"tasks": trash(alice)["tasks"][:2], "count": 3}


def test_a_walk_shows_each_deleted_task_once_even_if_their_times_are_equal(service: Service, alice: Client) -> None:
    ids = [task["id"] for task in deleted(alice, *"abcdefg")]
    alice.create("not deleted")
    some = ", ".join(map(str, ids[1:5]))
    execute(
        service.url_of_database,
        f"UPDATE task SET deleted_at = '2026-11-21 10:30:00.000000' WHERE id IN ({some}) RETURNING id",  # noqa: S608
    )
    assert [task["id"] for task in trash(alice)["tasks"]] == ids[::-1]
    for limit in (1, 2, 3, 7):
        walked = list(pages(alice, limit))
        assert [task for page in walked for task in page.json()["tasks"]] == trash(alice)["tasks"]
        assert {page.json()["count"] for page in walked} == {7}
        assert len(walked) == -(-7 // limit)


def pages(client: Client, limit: int) -> Iterator[httpx2.Response]:
    target: str | None = trash_of(client, f"?limit={limit}")
    first = target
    while target:
        page = client.request("GET", target)
        assert page.status_code == 200, page.text
        yield page
        links = dict(re.findall(r'<([^>]*)>; rel="([a-z]+)"', page.headers.get("link", "")))
        links = {relation: url for url, relation in links.items()}
        assert links.get("first", first) == first
        target = links.get("next")


def test_a_walk_is_not_disturbed_by_deletions_and_restores(alice: Client) -> None:
    tasks = deleted(alice, *"abcdef")
    walk = pages(alice, 2)
    seen = [task["title"] for task in next(walk).json()["tasks"]]
    deleted(alice, "new")
    restore(alice, tasks[5]["id"])
    restore(alice, tasks[4]["id"])
    seen += [task["title"] for page in walk for task in page.json()["tasks"]]
    assert seen == list("fedcba")


def test_an_empty_page_still_has_the_count_and_leads_to_the_first(alice: Client) -> None:
    first, _ = deleted(alice, "a", "b")
    page = alice.request("GET", trash_of(alice, "?limit=1"))
    (cursor,) = parse_qs(urlsplit(page.headers["link"].split(">")[0][1:]).query)["cursor"]
    restore(alice, first["id"])
    page = alice.request("GET", trash_of(alice, f"?cursor={cursor}"))
    assert page.json() == {"tasks": [], "count": 1}
    assert page.headers["link"] == f'<{trash_of(alice)}>; rel="first"'


@ONCE
@pytest.mark.parametrize(
    ("parameter", "query"),
    [
        *[("limit", f"limit={value}") for value in ("0", "-1", "1001", "1e2", "", "x", "99999999999999999999")],
        *[("cursor", f"cursor={value}") for value in ("", "x", "W10", "WzEsMiwzXQ", "A" * 2049)],
        *[(name, f"{name}=1") for name in ("offset", "q", "sort", "complete", "since")],
        ("limit", "limit=1&limit=2"),
    ],
)
def test_a_bad_parameter_gets_422_and_is_named(alice: Client, parameter: str, query: str) -> None:
    problem = assert_problem(alice.request("GET", trash_of(alice, f"?{query}")), 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", parameter]


@ONCE
def test_a_cursor_of_another_list_gets_422(alice: Client) -> None:
    deleted(alice, "a", "b")
    for title in "cd":
        alice.create(title)
    for here, there in ((trash_of(alice), alice.home), (alice.home, trash_of(alice))):
        link = alice.request("GET", f"{here}?limit=1").headers["link"]
        (cursor,) = parse_qs(urlsplit(link.split(">")[0][1:]).query)["cursor"]
        assert alice.request("GET", f"{here}?cursor={cursor}").status_code == 200
        problem = assert_problem(alice.request("GET", f"{there}?cursor={cursor}"), 422, "VALIDATION_ERROR")
        assert problem["errors"][0]["loc"] == ["query", "cursor"]


def test_a_trash_has_only_its_users_tasks(alice: Client, mallory: Client) -> None:
    (task,) = deleted(alice, "mine")
    deleted(mallory, "theirs")
    assert titles_in_trash(alice) == ["mine"]
    assert titles_in_trash(mallory) == ["theirs"]
    assert_problem(mallory.request("GET", trash_of(alice)), 403, "AUTH_FORBIDDEN")
    assert_problem(mallory.request("POST", trash_of(alice, f"/{task['id']}/restore")), 403, "AUTH_FORBIDDEN")
    assert_problem(restore(mallory, task["id"]), 404, "NOT_FOUND")
    assert titles_in_trash(alice) == ["mine"]


# --- restoring


def test_a_restored_task_is_in_the_list_again_as_a_new_version(alice: Client) -> None:
    task = alice.create("Buy milk", description="Oat", complete=True)
    old = {etag_of(alice, task["id"])}
    list_before = etag_of(alice, "")
    revision = delete(alice, task["id"])
    old.add(trash(alice)["tasks"][0]["etag"])
    response = restore(alice, task["id"])
    restored = response.json()
    assert (response.status_code, restored) == (200, task | {"updated_at": restored["updated_at"]})
    assert restored["updated_at"] > task["updated_at"]
    assert response.headers["taskwell-revision"] == str(revision + 1)
    assert response.headers["etag"] == etag_of(alice, task["id"]) == f'"{revision + 1}"'
    assert response.headers["etag"] not in old
    assert alice.request("GET").json() == {"tasks": [restored], "count": 1}
    assert etag_of(alice, "") != list_before
    assert trash(alice) == {"tasks": [], "count": 0}
    assert alice.request("PATCH", task["id"], json={"complete": False}).status_code == 200
    assert delete(alice, task["id"]) == revision + 3
    assert titles_in_trash(alice) == ["Buy milk"]


def test_restoring_a_task_that_is_not_deleted_changes_nothing(service: Service, alice: Client) -> None:
    task = alice.create()
    etag = etag_of(alice, task["id"])
    before = owner_revision(service.url_of_database, alice.user)
    for _ in range(2):
        response = restore(alice, task["id"])
        assert (response.status_code, response.json()) == (200, task)
        assert (response.headers["etag"], response.headers["taskwell-revision"]) == (etag, str(before))
    assert owner_revision(service.url_of_database, alice.user) == before


@pytest.mark.parametrize("task_id", ["0", "-1", str(2**62), str(2**63)])
def test_restoring_a_task_that_never_was_gets_404(alice: Client, task_id: str) -> None:
    assert_problem(restore(alice, task_id), 404, "NOT_FOUND")


@ONCE
def test_restoring_needs_a_number_and_no_body(alice: Client) -> None:
    (task,) = deleted(alice, "a")
    assert_problem(restore(alice, "x"), 422, "VALIDATION_ERROR")
    response = alice.request("POST", trash_of(alice, f"/{task['id']}/restore"), content=b"not JSON")
    assert response.status_code == 200
    assert_problem(alice.request("GET", trash_of(alice, f"/{task['id']}/restore")), 405, "METHOD_NOT_ALLOWED")
    assert_problem(alice.request("POST", trash_of(alice)), 405, "METHOD_NOT_ALLOWED")


def test_restoring_needs_no_if_match(new_database_url: Callable[[str], str]) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_REQUIRE_IF_MATCH="true") as service:
        alice = service.client()
        task = alice.create()
        assert alice.request("DELETE", task["id"], headers={"If-Match": "*"}).status_code == 204
        assert restore(alice, task["id"]).status_code == 200


def test_of_twenty_restores_at_once_one_takes_a_revision(service: Service, alice: Client) -> None:
    (task,) = deleted(alice, "a")
    before = owner_revision(service.url_of_database, alice.user)
    responses = race_behind_a_writer(service, [restoring(alice, task["id"])] * 20)
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1
    assert {response.headers["taskwell-revision"] for response in responses} == {str(int(str(before)) + 1)}
    assert owner_revision(service.url_of_database, alice.user) == int(str(before)) + 1


def test_restores_and_deletions_at_once_act_as_if_one_after_the_other(alice: Client) -> None:
    (task,) = deleted(alice, "a")
    responses = race([Call(alice, "DELETE", f"/{task['id']}"), restoring(alice, task["id"])] * 10)
    assert {response.status_code for response in responses} <= {200, 204, 404}
    assert len(alice.titles()) + len(titles_in_trash(alice)) == 1


def test_the_key_of_a_restored_task_works_again(alice: Client) -> None:
    new: Json = {"json": {"title": "Buy milk"}, "headers": {"Idempotency-Key": "k"}}
    task = alice.request("POST", **new).json()
    delete(alice, task["id"])
    assert_problem(alice.request("POST", **new), 410, "GONE")
    restored = restore(alice, task["id"])
    replayed = alice.request("POST", **new)
    assert (replayed.status_code, replayed.json()) == (201, restored.json())
    assert replayed.headers["idempotency-replayed"] == "true"
    assert replayed.headers["etag"] == restored.headers["etag"]


# --- the purge


def make_older(url: str, task_id: object, days: float) -> None:
    """Moves the time of a deletion back."""
    before = {
        "sqlite": f"strftime('%Y-%m-%d %H:%M:%f000', deleted_at, '-{days * 86400} seconds')",
        "postgresql": f"deleted_at - {days * 86400} * interval '1 second'",
    }[urlsplit(url).scheme]
    execute(url, f"UPDATE task SET deleted_at = {before} WHERE id = {task_id} RETURNING id")  # noqa: S608 - our own


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, new_migrated_url: Callable[[str], str]) -> str:
    """A database of its own, because a purge acts on all users."""
    return new_migrated_url(request.param)


@pytest.fixture
def served(url: str) -> Iterator[Service]:
    with running(urlsplit(url).scheme, migrate=False, DATABASE_URL=url) as service:
        yield service


def purge_once(url: str, days: int = 30) -> int:
    async def run_purge() -> int:
        settings = Settings.read(production(url))
        async with database_from(settings) as database:
            return await Purge(database, days).run()

    return asyncio.run(run_purge())


def test_a_purge_erases_exactly_what_is_old_enough(url: str, served: Service) -> None:
    alice, bob = served.client("alice"), served.client("bob")
    old, young, restored = deleted(alice, "old", "young", "restored")
    (theirs,) = deleted(bob, "old, too")
    live = alice.create("live")
    for task, days in ((old, 30.001), (theirs, 400), (young, 29.999), (restored, 60)):
        make_older(url, task["id"], days)
    restore(alice, restored["id"])
    before = [owner_revision(url, user) for user in ("alice", "bob")], etag_of(alice, ""), alice.request("GET").json()
    assert purge_once(url) == 2
    assert titles_in_trash(alice) == ["young"]
    assert trash(bob) == {"tasks": [], "count": 0}
    assert alice.titles() == [live["title"], "restored"]
    # Nobody's revision has changed, and so no list.
    assert ([owner_revision(url, user) for user in ("alice", "bob")], etag_of(alice, "")) == before[:2]
    assert alice.request("GET").json() == before[2]
    assert purge_once(url) == 0
    assert purge_once(url, days=1) == 1


def test_an_erased_task_cannot_be_told_from_one_that_never_was(url: str, served: Service) -> None:
    alice = served.client()
    (task,) = deleted(alice, "a")
    make_older(url, task["id"], 31)
    purge_once(url)
    same = {"X-Request-ID": "the-same"}
    gone, never = (
        alice.request("POST", trash_of(alice, f"/{task_id}/restore"), headers=same) for task_id in (task["id"], 2**62)
    )
    assert_problem(gone, 404, "NOT_FOUND")
    assert gone.json() | {"timestamp": ""} == never.json() | {"timestamp": ""}
    assert_problem(alice.request("GET", task["id"]), 404, "NOT_FOUND")


def test_no_column_of_an_erased_task_has_its_text(url: str, served: Service) -> None:
    alice = served.client()
    new = {"title": SECRET_TEXT, "description": f"Tell nobody of {SECRET_TEXT}"}
    keyed = {"Idempotency-Key": "k"}
    task = alice.request("POST", json=new, headers=keyed).json()
    row = f"SELECT * FROM task WHERE id = {task['id']}"  # noqa: S608 - our own
    (before,) = execute(url, row)
    digests = [value for value in before if isinstance(value, bytes)]
    assert len(digests) == 1
    delete(alice, task["id"])
    make_older(url, task["id"], 31)
    assert purge_once(url) == 1
    (after,) = execute(url, row)
    assert SECRET_TEXT in str(before)
    assert SECRET_TEXT not in str(after)
    assert [value for value in after if isinstance(value, bytes)] == []
    (erased,) = execute(
        url,
        "SELECT id FROM task WHERE title = '' AND description IS NULL AND creation_digest IS NULL AND erased_at IS NOT NULL "
        "AND deleted_at IS NOT NULL AND creation_key = 'k'",
    )
    assert erased == (task["id"],)
    # The row stays, so that its id and its key are never used again.
    assert_problem(alice.request("POST", json=new, headers=keyed), 410, "GONE")
    assert_problem(alice.request("POST", json={"title": "other"}, headers=keyed), 410, "GONE")
    assert alice.create()["id"] > task["id"]


def fill_trash(url: str, user: str, number: int) -> None:
    """Adds tasks that were deleted a year ago."""
    then = "'2025-11-21 10:30:00.000000'"
    digits = f"WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {number})"  # noqa: S608 - our own
    columns = "user_id, title, created_at, updated_at, deleted_at, revision, creation_key"
    execute(
        url,
        f"{digits} INSERT INTO task ({columns}) SELECT '{user}', 'old', {then}, {then}, {then}, n, 'old ' || n "  # noqa: S608
        "FROM numbers RETURNING id",
    )


def test_a_purge_of_several_batches_erases_everything(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "PAUSE_SECONDS", 0)
    fill_trash(url, "alice", 2 * purge.BATCH_SIZE)
    assert purge_once(url) == 2 * purge.BATCH_SIZE
    assert purge_once(url) == 0


def test_purges_in_several_processes_erase_each_task_once_while_users_write(
    url: str, served: Service, tmp_path: Path
) -> None:
    users = [served.client(f"user-{number}") for number in range(4)]
    tasks = {user.user: deleted(user, *"abcdefgh") for user in users}
    for user in users:
        fill_trash(url, user.user, 800)
    execute(url, "UPDATE task SET deleted_at = '2025-11-21 10:30:00.000000' WHERE title <> 'old' RETURNING id")
    stop = threading.Event()
    statuses: set[int] = set()

    def write(user: Client) -> None:
        turn = 0
        while not stop.is_set():
            # The purge takes these at the same time.
            task = tasks[user.user][turn % 8]
            turn += 1
            answers = [restore(user, task["id"]), user.request("PATCH", task["id"], json={"title": f"b {turn}"})]
            new = user.request("POST", json={"title": "new"})
            answers += [new, user.request("DELETE", new.json()["id"]), user.request("GET", trash_of(user))]
            statuses.update(answer.status_code for answer in answers)

    with ThreadPoolExecutor(8) as threads:
        writing = [threads.submit(write, user) for user in users]
        purging = [threads.submit(run, tmp_path, "purge", **production(url)) for _ in range(3)]
        done = [purge.result() for purge in purging]
        stop.set()
        for one in writing:
            one.result()
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 3
    counted = sum(int(re.findall(r"^Erased (\d+) tasks?\.", one.stdout)[0]) for one in done)
    ((erased,),) = execute(url, "SELECT count(*) FROM task WHERE erased_at IS NOT NULL")
    ((left,),) = execute(
        url, "SELECT count(*) FROM task WHERE erased_at IS NULL AND deleted_at < '2026-01-01 00:00:00.000000'"
    )
    assert counted == erased
    assert (int(str(erased)) >= 3200, left) == (True, 0)
    assert statuses <= {200, 201, 204, 404}


def test_a_task_that_is_being_restored_is_not_erased(url: str, served: Service) -> None:
    """The purge waits for nobody on PostgreSQL; on SQLite it comes before or after."""
    alice = served.client()
    tasks = deleted(alice, *"abcdefghij")
    for task in tasks:
        make_older(url, task["id"], 31)
    with ThreadPoolExecutor(1) as thread:
        purging = thread.submit(purge_once, url)
        responses = race([restoring(alice, task["id"]) for task in tasks])
        erased = purging.result()
    statuses = [response.status_code for response in responses]
    assert set(statuses) <= {200, 404}
    assert len(alice.titles()) == statuses.count(200) == 10 - erased
    assert trash(alice)["count"] == 0


ON_POSTGRES = pytest.mark.parametrize("url", ["postgres"], indirect=True)


@ON_POSTGRES
def test_on_postgresql_a_purge_waits_for_no_writer(url: str, served: Service) -> None:
    alice = served.client()
    for task in deleted(alice, "a", "b"):
        make_older(url, task["id"], 31)

    async def purge_beside_a_writer() -> int:
        writer = await asyncpg.connect(url)
        try:
            # As a write does: first the owner, then the task.
            await writer.execute("BEGIN; SELECT FROM taskwell.owner FOR UPDATE")
            await writer.execute("UPDATE taskwell.task SET deleted_at = NULL WHERE title = 'b'")
            async with asyncio.timeout(5), database_from(Settings.read(production(url))) as database:
                return await Purge(database, 30).run()
        finally:
            await writer.execute("ROLLBACK")
            await writer.close()

    assert asyncio.run(purge_beside_a_writer()) == 1
    assert titles_in_trash(alice) == ["b"]


@ON_POSTGRES
def test_on_postgresql_only_a_restore_of_the_same_task_waits_for_a_purge(url: str, served: Service) -> None:
    alice = served.client()
    (old,) = deleted(alice, "a")
    make_older(url, old["id"], 31)
    before = owner_revision(url, alice.user)

    async def purge_slowly() -> list[int]:
        purging = await asyncpg.connect(url)
        await purging.execute("BEGIN")
        assert await purging.fetchval("SELECT taskwell_0003.purge(30, 500)") == 1
        restoring = asyncio.create_task(asyncio.to_thread(restore, alice, old["id"]))
        # Its write holds the lock of the owner while it waits for the purge, so that of another user shows more.
        await asyncio.to_thread(use_every_endpoint, served.client())
        assert not restoring.done()
        assert len((await asyncio.to_thread(alice.request, "GET")).json()["tasks"]) == 0
        await purging.execute("COMMIT")
        await purging.close()
        return [(await restoring).status_code]

    assert asyncio.run(purge_slowly()) == [404]
    # The restore has given its revision back.
    assert owner_revision(url, alice.user) == before


# --- the command, and the service's own purge


def test_the_command_erases_and_says_how_much(url: str, served: Service, tmp_path: Path) -> None:
    alice = served.client()
    tasks = deleted(alice, *"abc")
    for task in tasks[:2]:
        make_older(url, task["id"], 8)
    for days, text in (("", "Erased 0 tasks. The limit is 30 days"), ("7", "Erased 2 tasks. The limit is 7 days")):
        done = run(tmp_path, "purge", **production(url), TASKWELL_TRASH_DAYS=days)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == f"{text} after the deletion.\n"
    assert titles_in_trash(alice) == ["c"]


def test_the_command_does_not_create_a_database(tmp_path: Path) -> None:
    done = run(tmp_path, "purge", **production("sqlite:///taskwell.db"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no file" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_command_reports_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    done = run(tmp_path, "purge", **production("postgresql://app:x@127.0.0.1:1/x"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("taskwell purge: ")
    assert "Traceback" not in done.stderr


def test_the_service_purges_by_itself_if_it_is_told_to(url: str, tmp_path: Path) -> None:
    with serving(tmp_path, "serve", "--workers", "2", **production(url), TASKWELL_PURGE_INTERVAL_SECONDS="1") as server:
        alice = server.client("alice")
        old, _ = deleted(alice, "old", "young")
        make_older(url, old["id"], 31)
        deadline = time.monotonic() + 10
        while trash(alice)["count"] == 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert titles_in_trash(alice) == ["young"]
        assert server.end() == 0
    log = server.log.read_text()
    assert len(re.findall("erased 1 tasks that were deleted more than 30 days ago", log)) == 1
    assert "Traceback" not in log


class Scripted:
    """A database whose purges have these outcomes: the number of tasks that a batch erased, or an exception."""

    def __init__(self, *outcomes: Exception | int) -> None:
        self.outcomes = list(outcomes)
        self.done = asyncio.Event()

    def prepare_maintenance(self, write: MaintenanceWrite) -> Query:
        del write
        return self._run

    async def _run(self, **parameters: object) -> list[list[object]]:
        assert parameters == {"older_than_days": 30, "batch": purge.BATCH_SIZE}
        if not self.outcomes:
            self.done.set()
            await asyncio.sleep(60)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return [[outcome]]


def test_a_failed_purge_is_logged_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async def purge_for_a_while() -> None:
        database = Scripted(DatabaseError(cause="away"), RuntimeError("a bug"), 7, 0)
        async with Purge(database, 30).repeated(0):
            await database.done.wait()

    caplog.set_level(logging.INFO)
    asyncio.run(purge_for_a_while())
    logged = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == purge.__name__]
    assert logged == [
        ("WARNING", "the purge failed, and will be tried again: away"),
        ("ERROR", "the purge failed"),
        ("INFO", "erased 7 tasks that were deleted more than 30 days ago"),
    ]


def test_a_purge_does_not_wait_for_a_silent_database_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purge, "BATCH_SECONDS", 0.01)

    async def purge_in_vain() -> None:
        await Purge(Scripted(), 30).run()

    with pytest.raises(DatabaseError):
        asyncio.run(purge_in_vain())
