"""Changes: a client that asks what changed since last time has a true copy of its user's tasks, whoever writes
meanwhile."""

import random
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.changes import Copy, changes
from support.etags import etag_of
from support.problem import assert_problem
from support.process import production, serving
from support.racing import Call, race
from support.rows import execute, uncommitted
from support.service import Client, Json, Service, running
from taskwell.auth.tokens import UserId
from taskwell.etags import ListState, Precondition
from taskwell.tasks import writes
from taskwell.tasks.sync_tokens import token_of

MakeDatabase = Callable[[str], str]

ENGINES = ["sqlite", "postgres"]


def page_of(client: Client, **query: object) -> Json:
    response = changes(client, **query)
    assert response.status_code == 200, response.text
    page: Json = response.json()
    return page


def list_of(client: Client) -> list[Json]:
    """Returns all tasks of the user, by cursor."""
    tasks: list[Json] = []
    path = f"{client.home}?limit=1000"
    while path:
        response = client.request("GET", path)
        tasks += response.json()["tasks"]
        path = str(response.links.get("next", {}).get("url", ""))
    return tasks


# --- what a page shows


def test_without_a_token_the_changes_are_everything(alice: Client, mallory: Client) -> None:
    mallory.create("theirs")
    kept, doomed = alice.create("kept", description="d", complete=True), alice.create("doomed")
    alice.request("DELETE", doomed["id"])
    response = changes(alice)
    page = response.json()
    assert page["tasks"] == [kept | {"etag": '"1"'}]
    assert [one["id"] for one in page["deleted"]] == [doomed["id"]]
    assert page["deleted"][0]["deleted_at"] >= doomed["created_at"]
    assert (page["revision"], page["has_more"]) == (3, False)
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "Authorization"
    assert changes(alice, since="").status_code == 422
    assert alice.request("HEAD", f"/api/{alice.user}/changes/").status_code == 200


def test_with_a_token_the_changes_are_what_happened_since(alice: Client) -> None:
    first, second, third = (alice.create(title) for title in ("first", "second", "third"))
    before = page_of(alice)
    alice.request("PATCH", first["id"], json={"title": "changed"})
    alice.request("DELETE", second["id"])
    new = alice.create("new")
    after = page_of(alice, since=before["since"])
    assert [(task["id"], task["title"]) for task in after["tasks"]] == [(first["id"], "changed"), (new["id"], "new")]
    assert [one["id"] for one in after["deleted"]] == [second["id"]]
    assert after["revision"] == before["revision"] + 3
    nothing = page_of(alice, since=after["since"])
    assert nothing == {"tasks": [], "deleted": [], "has_more": False, "since": after["since"], "revision": 6}
    assert third["id"] not in {task["id"] for task in after["tasks"]}


def test_a_task_that_changed_often_appears_once_as_it_is_now(alice: Client) -> None:
    task, since = alice.create(), page_of(alice)["since"]
    for number in range(5):
        alice.request("PATCH", task["id"], json={"title": f"title {number}"})
    assert [one["title"] for one in page_of(alice, since=since)["tasks"]] == ["title 4"]
    alice.request("DELETE", task["id"])
    page = page_of(alice, since=since)
    assert (page["tasks"], [one["id"] for one in page["deleted"]]) == ([], [task["id"]])


def test_a_write_that_changes_nothing_is_not_a_change(alice: Client) -> None:
    task, since = alice.create(), page_of(alice)["since"]
    assert alice.request("PATCH", task["id"], json={"title": task["title"]}).status_code == 200
    assert alice.request("PATCH", task["id"], json={"title": "x"}, headers={"If-Match": '"9"'}).status_code == 412
    assert page_of(alice, since=since)["tasks"] == []


def test_the_etag_of_a_task_is_the_header(alice: Client) -> None:
    for _ in range(3):
        alice.create()
    for task in page_of(alice)["tasks"]:
        assert task["etag"] == etag_of(alice, task["id"])
        patched = alice.request("PATCH", task["id"], json={"title": "new"}, headers={"If-Match": task["etag"]})
        assert patched.status_code == 200


def test_a_restored_task_appears_again(alice: Client) -> None:
    task = alice.create()
    alice.request("DELETE", task["id"])
    copy = Copy(alice)
    copy.sync()
    restored = alice.request("POST", alice.home.replace("/tasks", f"/trash/{task['id']}/restore"))
    copy.sync()
    assert (copy.listed(), copy.deleted, copy.revision) == ([restored.json()], {}, 3)


def test_an_erased_task_stays_deleted(service: Service, alice: Client) -> None:
    task = alice.create()
    alice.request("DELETE", task["id"])
    before = page_of(alice)
    # As the purge does it: the content is erased, and the revision stays.
    execute(
        service.url_of_database,
        "UPDATE task SET title = '', description = NULL, creation_digest = NULL, erased_at = CURRENT_TIMESTAMP "  # noqa: S608
        f"WHERE user_id = '{alice.user}'",
    )
    assert page_of(alice) == before
    assert [one["id"] for one in before["deleted"]] == [task["id"]]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_a_walk_through_the_pages_shows_everything_once(alice: Client, limit: int) -> None:
    tasks = [alice.create(f"task {number}") for number in range(9)]
    for task in tasks[::3]:
        alice.request("DELETE", task["id"])
    alice.request("PATCH", tasks[1]["id"], json={"complete": True})
    copy = Copy(alice, limit)
    assert copy.sync() == -(-9 // limit)
    assert copy.listed() == list_of(alice)
    assert copy.deleted.keys() == {task["id"] for task in tasks[::3]}
    assert copy.revision == 13


def test_a_page_with_more_to_come_tells_up_to_its_last_change(alice: Client) -> None:
    for _ in range(3):
        alice.create()
    page = page_of(alice, limit=2)
    assert (page["has_more"], page["revision"]) == (True, 2)
    rest = page_of(alice, limit=2, since=page["since"])
    assert (rest["has_more"], rest["revision"], len(rest["tasks"])) == (False, 3, 1)
    # A page that is just full has no more.
    assert page_of(alice, limit=3) | {"tasks": []} == rest | {"tasks": []}


def test_what_changes_during_a_walk_is_on_a_later_page(alice: Client) -> None:
    tasks = [alice.create(f"task {number}") for number in range(6)]
    copy = Copy(alice, 2)
    copy.pull()
    for task in (tasks[0], tasks[4]):
        alice.request("PATCH", task["id"], json={"title": "changed"})
    for task in (tasks[1], tasks[5]):
        alice.request("DELETE", task["id"])
    alice.create("new")
    copy.sync()
    assert copy.listed() == list_of(alice)


@pytest.mark.parametrize(
    "query", [{"limit": 0}, {"limit": 1001}, {"limit": "1.0"}, {"limit": ""}, {"offset": 1}, {"cursor": "WzBd"}]
)
def test_a_wrong_parameter_is_refused(alice: Client, query: Json) -> None:
    problem = assert_problem(changes(alice, **query), 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", *query]


# --- the first write, and a user without any


def test_the_token_of_a_user_who_has_not_written_works_after_the_first_write(alice: Client) -> None:
    page = page_of(alice)
    assert page == {"tasks": [], "deleted": [], "since": page["since"], "revision": 0, "has_more": False}
    task = alice.create()
    after = page_of(alice, since=page["since"])
    assert ([one["id"] for one in after["tasks"]], after["revision"]) == ([task["id"]], 1)


# --- what a client wrote itself


def test_a_copy_contains_a_write_as_soon_as_its_revision_is_not_below_the_writes(alice: Client) -> None:
    copy = Copy(alice)
    task = alice.create()
    requests: list[tuple[str, int | str, Json | None]] = [
        ("POST", "", {"title": "new"}),
        ("PATCH", task["id"], {"title": "patched"}),
        ("PATCH", task["id"], {"title": "patched"}),
        ("PUT", task["id"], {"title": "put", "complete": True}),
        ("DELETE", task["id"], None),
    ]
    for method, path, body in requests:
        response = alice.request(method, path, json=body)
        copy.sync()
        assert copy.revision >= int(response.headers["taskwell-revision"])
        if method == "DELETE":
            assert task["id"] in copy.deleted
        else:
            shown = response.json()
            assert copy.tasks[shown["id"]] == shown | {"etag": response.headers["etag"]}


# --- under concurrent writers


@dataclass
class Writers:
    """Five clients of one user, which create, change and delete tasks until they are stopped."""

    client: Client
    stopped: Event = field(default_factory=Event)
    acknowledged: dict[int, int] = field(default_factory=dict)
    """The revision of the latest acknowledged write of each task."""
    writes: int = 0
    _lock: Lock = field(default_factory=Lock)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        with ThreadPoolExecutor(5) as threads:
            working = [threads.submit(self._work, random.Random(number)) for number in range(5)]  # noqa: S311
            try:
                yield
            finally:
                self.stopped.set()
            for worker in working:
                worker.result()

    def _work(self, chance: random.Random) -> None:
        own = [self._send("POST", "", {"title": "first"})]
        while not self.stopped.is_set():
            place = chance.randrange(len(own))
            match chance.randrange(5):
                case 0 | 1:
                    own.append(self._send("POST", "", {"title": "new"}))
                case 2 if len(own) > 1:
                    self._send("DELETE", own.pop(place))
                case _:
                    self._send("PATCH", own[place], {"title": f"title {chance.random()}"})

    def _send(self, method: str, path: int | str, body: Json | None = None) -> int:
        response = self.client.request(method, path, json=body)
        assert response.is_success, response.text
        task_id = int(response.json()["id"] if response.content else path)
        with self._lock:
            self.acknowledged[task_id] = int(response.headers["taskwell-revision"])
            self.writes += 1
        return task_id

    def snapshot(self) -> dict[int, int]:
        with self._lock:
            return dict(self.acknowledged)


def check_a_copy_under_writers(client: Client, seconds: float, limit: int) -> int:
    """Keeps a copy while others write, and returns the number of pages. Each list that has the copy's revision equals
    it."""
    client.create()
    writers, copy, pages = Writers(client), Copy(client, limit), 0
    with writers.at_work():
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            acknowledged = writers.snapshot()
            pages += copy.sync()
            assert _missing(copy, acknowledged) == {}
            listed = client.request("GET")
            if listed.headers["etag"].startswith(f'W/"{copy.revision}-'):
                assert copy.listed() == listed.json()["tasks"]
    copy.sync()
    assert _missing(copy, writers.acknowledged) == {}
    assert copy.revision == writers.writes + 1
    assert copy.listed() == list_of(client)
    fresh = Copy(client)
    fresh.sync()
    assert (fresh.tasks, fresh.deleted) == (copy.tasks, copy.deleted)
    return pages


def _missing(copy: Copy, acknowledged: dict[int, int]) -> dict[int, int]:
    """Returns the acknowledged writes that the copy does not contain, although its revision says so."""
    revisions = {task_id: int(task["etag"].strip('"')) for task_id, task in copy.tasks.items()}
    due = {task_id: revision for task_id, revision in acknowledged.items() if revision <= copy.revision}
    assert len(due) == len(acknowledged)
    return {
        task_id: revision
        for task_id, revision in due.items()
        if task_id not in copy.deleted and revisions.get(task_id, 0) < revision
    }


@pytest.mark.parametrize("limit", [7, 1000])
def test_a_copy_misses_nothing_while_five_clients_write(alice: Client, limit: int) -> None:
    assert check_a_copy_under_writers(alice, 1, limit) > 1


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_misses_nothing_while_five_clients_write_through_two_processes(
    engine: str, new_migrated_url: MakeDatabase, tmp_path: Path
) -> None:
    with serving(tmp_path, "serve", "--workers", "2", **production(new_migrated_url(engine))) as server:
        assert check_a_copy_under_writers(server.client("alice"), 2, 5) > 1
        log = server.log.read_text()
    assert log.count("Started server process") == 2
    assert "Traceback" not in log


def test_a_race_of_writes_appears_whole(alice: Client) -> None:
    tasks = [alice.create()["id"] for _ in range(10)]
    copy = Copy(alice, 3)
    copy.pull()
    calls = [Call(alice, "PATCH", f"/{task_id}", {"title": "raced"}) for task_id in tasks[:5]]
    calls += [Call(alice, "DELETE", f"/{task_id}") for task_id in tasks[5:]]
    calls += [Call(alice, "POST", "", {"title": "new"})] * 10
    calls += [Call(alice, "GET")] * 5
    race(calls)
    copy.sync()
    assert copy.listed() == list_of(alice)
    assert len(copy.listed()) == 15
    assert copy.deleted.keys() == {*tasks[5:]}


def test_a_write_that_commits_late_is_not_missed_but_would_be_by_its_time(service: Service, alice: Client) -> None:
    task = alice.create()
    values = {"title": "late", "sets_description": False, "description": None, "complete": None}
    late = {"owner": alice.user, "id": task["id"], **values, **Precondition()._asdict()}
    with uncommitted(service.url_of_database, writes.change_task, **late):
        # The write has its time and its revision, but nobody can see it yet.
        before = page_of(alice)
        looked_at = _now(service)
    assert [one["title"] for one in before["tasks"]] == ["Buy milk"]
    assert alice.request("GET", task["id"]).json()["title"] == "late"
    assert _changed_after(service, alice, looked_at) == [], "the time-based way would not have lost the write"
    assert [one["title"] for one in page_of(alice, since=before["since"])["tasks"]] == ["late"]


def _now(service: Service) -> str:
    clock = "strftime('%Y-%m-%d %H:%M:%f', 'now') || '999'" if service.engine == "sqlite" else "clock_timestamp()::text"
    return str(execute(service.url_of_database, f"SELECT {clock}")[0][0])


def _changed_after(service: Service, client: Client, moment: str) -> Sequence[object]:
    sql = f"SELECT id FROM task WHERE user_id = '{client.user}' AND updated_at > '{moment}'"  # noqa: S608
    return execute(service.url_of_database, sql)


# --- tokens


def _assert_gone(response: httpx2.Response) -> None:
    problem = assert_problem(response, 410, "GONE")
    assert "without a token" in problem["detail"]


def test_a_token_of_another_user_is_refused(alice: Client, mallory: Client) -> None:
    for number in range(3):
        theirs = page_of(mallory)["since"]
        for _ in range(number):
            alice.create()
        _assert_gone(changes(alice, since=theirs))
        mallory.create()


def test_a_token_from_a_later_or_another_history_is_refused(service: Service, alice: Client) -> None:
    alice.create()
    sql = f"SELECT revision, epoch FROM owner WHERE user_id = '{alice.user}'"  # noqa: S608
    ((revision, epoch),) = execute(service.url_of_database, sql)
    assert isinstance(revision, int)
    assert isinstance(epoch, int)
    states = [(revision + 1, epoch), (revision, epoch ^ 1), (2**63 - 1, epoch), (-1, epoch ^ 1), (revision, -(2**63))]
    for state in states:
        _assert_gone(changes(alice, since=token_of(UserId(alice.user), ListState(*state))))


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_forged_token_never_is_an_error_of_the_service_and_never_shows_foreign_tasks(
    alice: Client, mallory: Client, data: st.DataObject
) -> None:
    mallory.create("secret")
    alice.create("own")
    token = page_of(alice)["since"]
    forged = data.draw(
        st.one_of(
            TEXTS,
            st.binary(min_size=24, max_size=24).map(lambda raw: urlsafe_b64encode(raw).decode()),
            st.integers(0, len(token) - 1).map(lambda end: token[:end]),
            st.tuples(st.integers(0, len(token) - 1), st.sampled_from("Aa0-_+/= \x00\u00e9")).map(
                lambda change: token[: change[0]] + change[1] + token[change[0] + 1 :]
            ),
            st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)).map(
                lambda state: token_of(UserId(alice.user), ListState(*state))
            ),
            TEXTS.map(token.__add__),
        )
    )
    response = changes(alice, since=forged)
    assert response.status_code in {200, 410, 422}, response.text
    if response.status_code == 200:
        assert {task["user_id"] for task in response.json()["tasks"]} <= {alice.user}
    if len(forged) != len(token):
        problem = assert_problem(response, 422, "VALIDATION_ERROR")
        assert problem["errors"] == [
            {"loc": ["query", "since"], "msg": "is not a token of this service", "type": "sync_token"}
        ]


def test_a_damaged_token_is_not_taken_for_another_one(alice: Client) -> None:
    alice.create()
    token = page_of(alice)["since"]
    for place, character in enumerate(token):
        damaged = token[:place] + ("B" if character == "A" else "A") + token[place + 1 :]
        assert changes(alice, since=damaged).status_code == 410


def test_a_token_survives_a_restart(service: Service, alice: Client) -> None:
    alice.create()
    since = page_of(alice)["since"]
    with running(service.engine, migrate=False, DATABASE_URL=service.url_of_database) as restarted:
        client = restarted.client(alice.user)
        task = client.create("after the restart")
        assert [one["id"] for one in page_of(client, since=since)["tasks"]] == [task["id"]]


def test_after_an_account_was_erased_its_tokens_are_refused(service: Service, alice: Client) -> None:
    for _ in range(2):
        alice.create()
    before = page_of(alice)["since"]
    for table in ("task", "owner"):
        execute(service.url_of_database, f"DELETE FROM {table} WHERE user_id = '{alice.user}'")  # noqa: S608
    _assert_gone(changes(alice, since=before))
    empty = page_of(alice)
    assert (empty["tasks"], empty["deleted"], empty["revision"]) == ([], [], 0)
    tasks = [alice.create()["id"] for _ in range(3)]
    # The revision is above that of the token again, but in a history of its own.
    _assert_gone(changes(alice, since=before))
    assert [one["id"] for one in page_of(alice, since=empty["since"])["tasks"]] == tasks
