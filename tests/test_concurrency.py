"""Many at once: nothing is lost, nothing is doubled, nothing runs backwards."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from service import Client, Json

T = TypeVar("T")


def _at_once(jobs: Sequence[Callable[[], T]]) -> list[T]:
    with ThreadPoolExecutor(len(jobs)) as threads:
        return [future.result() for future in [threads.submit(job) for job in jobs]]


def _patch(client: Client, task: Json, **members: object) -> Callable[[], Json]:
    def job() -> Json:
        answer = client.request("PATCH", task["id"], json=members)
        assert answer.status_code == 200, answer.text
        patched: Json = answer.json()
        return patched

    return job


def test_concurrent_patches_of_different_members_are_all_kept(alice: Client) -> None:
    for _ in range(10):
        task = alice.create()
        _at_once([
            _patch(alice, task, title="new"),
            _patch(alice, task, description="new"),
            _patch(alice, task, complete=True),
        ])  # fmt: skip
        now = alice.request("GET", task["id"]).json()
        assert (now["title"], now["description"], now["complete"]) == ("new", "new", True)


def test_concurrent_writes_of_one_task_are_told_apart_by_their_time(alice: Client) -> None:
    task = alice.create()
    answers = _at_once([_patch(alice, task, title=f"title {number}") for number in range(20)])
    times = {answer["updated_at"] for answer in answers}
    assert len(times) == 20
    assert alice.request("GET", task["id"]).json() == max(answers, key=lambda answer: str(answer["updated_at"]))


def test_concurrent_creations_are_as_many_tasks(alice: Client) -> None:
    tasks = _at_once([lambda number=number: alice.create(f"task {number}") for number in range(50)])  # type: ignore[misc]
    assert len({task["id"] for task in tasks}) == 50
    assert alice.request("GET").json()["count"] == 50


def test_one_of_many_concurrent_deletions_deletes(alice: Client) -> None:
    task = alice.create()
    answers = _at_once([lambda: alice.request("DELETE", task["id"]).status_code] * 10)
    assert sorted(answers) == [204] + [404] * 9
