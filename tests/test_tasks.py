"""The six endpoints in normal use."""

from datetime import datetime, timedelta
from urllib.parse import quote, urljoin
from uuid import uuid4

import pytest

from support.service import Client, Service, sign

MEMBERS = {"id", "user_id", "title", "description", "complete", "created_at", "updated_at"}


def test_a_new_task_has_all_members_and_a_location(alice: Client) -> None:
    response = alice.request("POST", json={"title": "Buy milk"})
    task = response.json()
    assert response.status_code == 201
    assert task.keys() == MEMBERS
    assert (task["user_id"], task["title"], task["description"], task["complete"]) == (
        alice.user,
        "Buy milk",
        None,
        False,
    )
    assert task["created_at"] == task["updated_at"]
    assert response.headers["location"] == f"{alice.home}/{task['id']}"
    assert alice.request("GET", response.headers["location"]).json() == task


def test_times_are_utc(alice: Client) -> None:
    task = alice.create()
    assert task["created_at"].endswith("Z")
    age = datetime.now().astimezone() - datetime.fromisoformat(task["created_at"])
    assert abs(age) < timedelta(minutes=1)


def test_a_created_task_keeps_its_text(alice: Client) -> None:
    task = alice.create("  Käse 🧀 \u0301 ", description="  two\n\tlines ", complete=True)
    assert (task["title"], task["description"], task["complete"]) == ("Käse 🧀 \u0301", "  two\n\tlines ", True)


def test_a_list_is_newest_first_and_counts_the_tasks_of_all_pages(alice: Client) -> None:
    for number in range(5):
        alice.create(f"task {number}", complete=number % 2 == 0)
    assert alice.titles() == [f"task {number}" for number in (4, 3, 2, 1, 0)]
    assert alice.titles(limit=2, offset=1) == ["task 3", "task 2"]
    assert alice.titles(complete="true") == ["task 4", "task 2", "task 0"]
    assert alice.titles(complete="false", limit=1) == ["task 3"]
    assert alice.request("GET", params={"limit": 1}).json()["count"] == 5
    assert alice.request("GET", params={"complete": "false", "limit": 1}).json()["count"] == 2


@pytest.mark.parametrize(("complete", "count"), [(None, 3), ("true", 1)])
def test_a_page_past_the_end_is_empty_and_still_has_the_count(alice: Client, complete: str | None, count: int) -> None:
    for state in (True, False, False):
        alice.create(complete=state)
    response = alice.request("GET", params={"offset": 7} | ({"complete": complete} if complete else {}))
    assert response.json() == {"tasks": [], "count": count}


def test_a_new_user_has_no_tasks(alice: Client) -> None:
    assert alice.request("GET").json() == {"tasks": [], "count": 0}


def test_a_replacement_without_a_description_clears_it(alice: Client) -> None:
    task = alice.create(description="whole")
    replaced = alice.request("PUT", task["id"], json={"title": "Buy bread", "complete": True}).json()
    assert replaced == task | {
        "title": "Buy bread",
        "description": None,
        "complete": True,
        "updated_at": replaced["updated_at"],
    }
    assert replaced["updated_at"] > task["updated_at"]


def test_a_fetched_task_can_be_sent_back_unchanged(alice: Client) -> None:
    task = alice.create(description="as it is")
    response = alice.request("PUT", task["id"], json=task)
    assert (response.status_code, response.json()) == (200, task)


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
def test_a_patch_changes_only_the_members_it_names(alice: Client, patch: dict[str, object]) -> None:
    task = alice.create(description="old")
    patched = alice.request("PATCH", task["id"], json=patch).json()
    assert patched == task | patch | {"updated_at": patched["updated_at"]}
    assert patched["updated_at"] > task["updated_at"]
    assert alice.request("GET", task["id"]).json() == patched


@pytest.mark.parametrize("patch", [{"title": " Buy milk "}, {"description": None}, {"complete": False}])
def test_a_patch_that_changes_nothing_keeps_updated_at(alice: Client, patch: dict[str, object]) -> None:
    task = alice.create()
    response = alice.request("PATCH", task["id"], json=patch)
    assert (response.status_code, response.json()) == (200, task)


def test_a_deleted_task_is_gone_and_its_id_is_not_used_again(alice: Client) -> None:
    task = alice.create()
    response = alice.request("DELETE", task["id"])
    assert (response.status_code, response.content) == (204, b"")
    assert "content-type" not in response.headers
    for method, body in (
        ("GET", None),
        ("PUT", {"title": "a", "complete": True}),
        ("PATCH", {"title": "a"}),
        ("DELETE", None),
    ):
        assert alice.request(method, task["id"], json=body).status_code == 404
    assert alice.request("GET").json() == {"tasks": [], "count": 0}
    assert alice.create()["id"] > task["id"]


def test_a_trailing_slash_makes_no_difference(alice: Client) -> None:
    task = alice.create()
    assert alice.request("GET", f"{alice.home}/").json()["tasks"] == [task]
    assert alice.request("GET", f"{alice.home}/{task['id']}/").json() == task


def test_responses_may_be_cached_only_by_their_user_and_only_with_revalidation(alice: Client) -> None:
    one = f"{alice.home}/{alice.create()['id']}"
    for method, path, body in (
        ("GET", alice.home, None),
        ("POST", alice.home, {"title": "a"}),
        ("PATCH", one, {"title": "b"}),
        ("DELETE", one, None),
    ):
        response = alice.request(method, path, json=body)
        assert response.headers["cache-control"] == "private, no-cache"
        assert response.headers["vary"] == "Authorization"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert len(response.headers["x-request-id"]) == 26


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


@pytest.mark.parametrize("user", [".", "..", "a/b", "a%2Fb", "ü ?#"])
def test_the_location_of_a_new_task_leads_to_it_whatever_the_users_name(service: Service, user: str) -> None:
    token = {"Authorization": f"Bearer {sign(user)}"}
    home = f"{service.url}/api/{quote(user, safe='').replace('.', '%2E')}/tasks"
    response = service.http.post(home, json={"title": "a"}, headers=token)
    location = urljoin(home, response.headers["location"])
    assert service.http.get(location, headers=token).json() == response.json()
