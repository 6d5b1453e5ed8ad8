"""Concurrent requests: no write is lost, none happens twice, and times never run backwards.

Requests that threads send whole rarely overlap in the service. These tests first send all but the last byte of each
request, and then the last bytes in quick succession.
"""

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from threading import Event
from typing import Any

from support.racing import Call, race
from support.rows import execute, uncommitted
from support.service import Client, Json, Service
from taskwell.etags import Precondition
from taskwell.tasks import writes

Snapshot = set[tuple[Any, ...]]


def _patches(client: Client, task: Json, members: Sequence[Json]) -> list[Json]:
    responses = race([Call(client, "PATCH", f"/{task['id']}", patch) for patch in members])
    assert {response.status_code for response in responses} == {200}
    return [response.json() for response in responses]


def test_concurrent_patches_of_different_members_are_all_kept(alice: Client) -> None:
    for _ in range(10):
        task = alice.create()
        _patches(alice, task, [{"title": "new"}, {"description": "new"}, {"complete": True}])
        now = alice.request("GET", task["id"]).json()
        assert (now["title"], now["description"], now["complete"]) == ("new", "new", True)


def test_no_concurrent_patch_undoes_another(alice: Client) -> None:
    task = alice.create()
    patches: list[Json] = [
        patch
        for number in range(14)
        for patch in ({"title": f"title {number}"}, {"description": f"description {number}"}, {"complete": True})
    ][:40]
    responses = _patches(alice, task, patches)
    for patch, response in zip(patches, responses, strict=True):
        assert patch.items() <= response.items()
    # Only the first `complete` changes something. The others return the task as they found it.
    versions = {version["updated_at"]: version for version in [task, *responses]}
    in_order = [versions[moment] for moment in sorted(versions)]
    assert len(in_order) == 1 + 14 + 13 + 1
    for before, after in pairwise(in_order):
        assert len(after.items() - before.items() - {("updated_at", after["updated_at"])}) == 1
    assert alice.request("GET", task["id"]).json() == in_order[-1]


def test_every_concurrent_write_of_a_task_has_its_own_updated_at(alice: Client) -> None:
    task = alice.create()
    responses = _patches(alice, task, [{"title": f"title {number}"} for number in range(40)])
    assert len({response["updated_at"] for response in responses}) == 40
    assert alice.request("GET", task["id"]).json() == max(responses, key=lambda response: str(response["updated_at"]))


def test_a_concurrent_replacement_and_patch_act_as_if_one_came_first(alice: Client) -> None:
    for _ in range(10):
        path = f"/{alice.create(description='old')['id']}"
        put = {"title": "put", "complete": False}
        race([Call(alice, "PUT", path, put), Call(alice, "PATCH", path, {"description": "patched"})])
        now = alice.request("GET", path.removeprefix("/")).json()
        assert (now["title"], now["description"]) in {("put", None), ("put", "patched")}


def test_every_concurrent_creation_makes_its_own_task(alice: Client) -> None:
    responses = race([Call(alice, "POST", "", {"title": f"task {number}"}) for number in range(50)])
    assert len({response.json()["id"] for response in responses}) == 50
    assert alice.request("GET").json()["count"] == 50


def test_exactly_one_of_many_concurrent_deletions_succeeds(alice: Client) -> None:
    path = f"/{alice.create()['id']}"
    responses = race([Call(alice, "DELETE", path)] * 10)
    assert sorted(response.status_code for response in responses) == [204] + [404] * 9


# --- revisions, and what they promise to readers; see docs/adr/0002-revision-inside-the-write.md


def test_concurrent_writes_of_several_users_use_each_revision_once(service: Service) -> None:
    # Three users, because all these requests together must stay below the limit of requests in flight.
    users = [service.client() for _ in range(3)]
    requests: list[Call] = []
    for user in users:
        changed, deleted = ([f"/{user.create()['id']}" for _ in range(5)] for _ in range(2))
        requests += [Call(user, "PATCH", path, {"title": "new"}) for path in changed]
        requests += [Call(user, "DELETE", path) for path in deleted]
        requests += [Call(user, "POST", "", {"title": "new"})] * 5
    assert all(response.is_success for response in race(requests))
    columns = "count(*), count(DISTINCT task.revision), max(task.revision), max(owner.revision)"
    assert [_snapshot(service, user, columns) for user in users] == [{(15, 15, 25, 25)}] * 3


def test_a_reader_that_sees_a_revision_has_seen_all_earlier_ones(service: Service, alice: Client) -> None:
    paths = [f"/{alice.create()['id']}" for _ in range(5)]
    with _watched(service, alice) as snapshots:
        for number in range(5):
            patches = [Call(alice, "PATCH", path, {"title": f"title {number}{n}"}) for path in paths for n in range(3)]
            race([*patches, *[Call(alice, "POST", "", {"title": "another"})] * 20])
    for before, after in pairwise(snapshots):
        newest = max(revision for _, revision, _ in before)
        assert [revision for _, revision, _ in after - before if revision <= newest] == []
    for (task, _, earlier), (same, _, later) in pairwise(sorted(set().union(*snapshots))):
        assert task != same or earlier < later


def test_a_write_waits_until_the_write_with_the_previous_revision_commits(service: Service, alice: Client) -> None:
    first, second = alice.create()["id"], alice.create()["id"]
    with ThreadPoolExecutor(1) as thread:
        with uncommitted(
            service.url_of_database, writes.delete_task, owner=alice.user, id=first, **Precondition()._asdict()
        ):
            writing = thread.submit(alice.request, "PATCH", second, json={"title": "new"})
            time.sleep(0.3)
            assert not writing.done()
        assert writing.result().status_code == 200
    assert _snapshot(service, alice, "id, task.revision") == {(first, 3), (second, 4)}


@contextmanager
def _watched(service: Service, client: Client) -> Generator[list[Snapshot]]:
    """Collects snapshots of a user's tasks in the database, over and over during the block."""
    snapshots: list[Snapshot] = []
    done = Event()

    def watch() -> None:
        while not done.is_set():
            snapshots.append(_snapshot(service, client, "id, task.revision, updated_at"))

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield snapshots
        finally:
            done.set()
        watching.result()


def _snapshot(service: Service, client: Client, columns: str) -> Snapshot:
    sql = f"SELECT {columns} FROM task JOIN owner USING (user_id) WHERE user_id = '{client.user}'"  # noqa: S608
    return set(execute(service.url_of_database, sql))
