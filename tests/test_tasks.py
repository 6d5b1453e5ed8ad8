"""The six endpoints, used as they are meant to be."""

from datetime import datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

import pytest

from support.service import Client, Service

MEMBERS = {"id", "user_id", "title", "description", "complete", "created_at", "updated_at"}


def test_a_new_task_has_all_members_and_a_place(alice: Client) -> None:
    answer = alice.request("POST", json={"title": "Buy milk"})
    task = answer.json()
    assert answer.status_code == 201
    assert task.keys() == MEMBERS
    assert (task["user_id"], task["title"], task["description"], task["complete"]) == (
        alice.user,
        "Buy milk",
        None,
        False,
    )
    assert task["created_at"] == task["updated_at"]
    assert answer.headers["location"] == f"{alice.home}/{task['id']}"
    assert alice.request("GET", answer.headers["location"]).json() == task


def test_times_are_utc(alice: Client) -> None:
    task = alice.create()
    assert task["created_at"].endswith("Z")
    age = datetime.now().astimezone() - datetime.fromisoformat(task["created_at"])
    assert abs(age) < timedelta(minutes=1)


def test_everything_sent_comes_back(alice: Client) -> None:
    task = alice.create("  Käse 🧀 \u0301 ", description="  two\n\tlines ", complete=True)
    assert (task["title"], task["description"], task["complete"]) == ("Käse 🧀 \u0301", "  two\n\tlines ", True)


def test_a_list_is_newest_first_and_counts_over_all_pages(alice: Client) -> None:
    for number in range(5):
        alice.create(f"task {number}", complete=number % 2 == 0)
    assert alice.titles() == [f"task {number}" for number in (4, 3, 2, 1, 0)]
    assert alice.titles(limit=2, offset=1) == ["task 3", "task 2"]
    assert alice.titles(complete="true") == ["task 4", "task 2", "task 0"]
    assert alice.titles(complete="false", limit=1) == ["task 3"]
    assert alice.request("GET", params={"limit": 1}).json()["count"] == 5
    assert alice.request("GET", params={"complete": "false", "limit": 1}).json()["count"] == 2


@pytest.mark.parametrize(("complete", "count"), [(None, 3), ("true", 1)])
def test_a_page_past_the_end_still_counts(alice: Client, complete: str | None, count: int) -> None:
    for state in (True, False, False):
        alice.create(complete=state)
    answer = alice.request("GET", params={"offset": 7} | ({"complete": complete} if complete else {}))
    assert answer.json() == {"tasks": [], "count": count}


def test_a_new_user_has_no_tasks(alice: Client) -> None:
    assert alice.request("GET").json() == {"tasks": [], "count": 0}


def test_a_replacement_clears_a_description_left_out(alice: Client) -> None:
    task = alice.create(description="whole")
    replaced = alice.request("PUT", task["id"], json={"title": "Buy bread", "complete": True}).json()
    assert replaced == task | {
        "title": "Buy bread",
        "description": None,
        "complete": True,
        "updated_at": replaced["updated_at"],
    }
    assert replaced["updated_at"] > task["updated_at"]


def test_what_was_got_can_be_sent_back(alice: Client) -> None:
    task = alice.create(description="as it is")
    answer = alice.request("PUT", task["id"], json=task)
    assert (answer.status_code, answer.json()) == (200, task)


@pytest.mark.parametrize(
    "patch",
    [
        {"title": "New"},
        {"description": "new"},
        {"description": None},
        {"complete": True},
        {"title": "New", "complete": True},
    ],
)
def test_a_patch_changes_only_what_it_names(alice: Client, patch: dict[str, object]) -> None:
    task = alice.create(description="old")
    patched = alice.request("PATCH", task["id"], json=patch).json()
    assert patched == task | patch | {"updated_at": patched["updated_at"]}
    assert patched["updated_at"] > task["updated_at"]
    assert alice.request("GET", task["id"]).json() == patched


@pytest.mark.parametrize("patch", [{"title": " Buy milk "}, {"description": None}, {"complete": False}])
def test_a_change_that_changes_nothing_is_no_write(alice: Client, patch: dict[str, object]) -> None:
    task = alice.create()
    answer = alice.request("PATCH", task["id"], json=patch)
    assert (answer.status_code, answer.json()) == (200, task)


def test_a_deleted_task_is_gone_and_its_id_never_comes_again(alice: Client) -> None:
    task = alice.create()
    answer = alice.request("DELETE", task["id"])
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
    for method, body in (
        ("GET", None),
        ("PUT", {"title": "a", "complete": True}),
        ("PATCH", {"title": "a"}),
        ("DELETE", None),
    ):
        assert alice.request(method, task["id"], json=body).status_code == 404
    assert alice.request("GET").json() == {"tasks": [], "count": 0}
    assert alice.create()["id"] > task["id"]


def test_a_trailing_slash_is_the_same_resource(alice: Client) -> None:
    task = alice.create()
    assert alice.request("GET", f"{alice.home}/").json()["tasks"] == [task]
    assert alice.request("GET", f"{alice.home}/{task['id']}/").json() == task


def test_task_data_is_for_its_user_alone_and_is_asked_for_anew(alice: Client) -> None:
    one = f"{alice.home}/{alice.create()['id']}"
    for method, path, body in (
        ("GET", alice.home, None),
        ("POST", alice.home, {"title": "a"}),
        ("PATCH", one, {"title": "b"}),
        ("DELETE", one, None),
    ):
        answer = alice.request(method, path, json=body)
        assert answer.headers["cache-control"] == "private, no-cache"
        assert answer.headers["vary"] == "Authorization"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert len(answer.headers["x-request-id"]) == 26


@pytest.mark.parametrize(
    "path", ["", "/api/{user}/tasks/{id}", "/health", "/health/ready", "/docs", "/redoc", "/openapi.json"]
)
def test_head_works_wherever_get_does(alice: Client, path: str) -> None:
    path = path.format(user=alice.user, id=alice.create()["id"])
    get, head = alice.request("GET", path), alice.request("HEAD", path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert head.headers["content-length"] == str(len(get.content))


@pytest.mark.parametrize("user", ["a/b", "a@b.example", "größe", "日本", "%2F", "a b", "x" * 255, "q?a=b#c"])
def test_a_user_identifier_is_opaque(service: Service, user: str) -> None:
    client = service.client(user)
    home = f"/api/{quote(user, safe='')}/tasks"
    created = client.request("POST", home, json={"title": uuid4().hex})
    assert created.status_code == 201, created.text
    assert created.json()["user_id"] == user
    assert client.request("GET", created.headers["location"]).status_code == 200
