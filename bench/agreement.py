"""Check that a server gives the same responses as the others, so that comparing them is fair."""

from datetime import datetime

import httpx2

from database import DESCRIPTION, Size
from servers import Running
from users import Auth, user

TASK = {"id", "user_id", "title", "description", "complete", "created_at", "updated_at"}
PAGE = 50


def check(running: Running, auth: Auth, size: Size) -> None:
    """Sends one request of each kind, and requests that the server must refuse.

    Raises:
        AssertionError: a response is wrong, so the server cannot be compared.
    """
    # The last user is not part of the load, except in the smallest databases.
    me, stranger, number = user(size.users - 1), user(0), size.users
    authorization = {"Authorization": f"Bearer {auth.token(me)}"}
    with httpx2.Client(base_url=running.url, headers=authorization, verify=False) as http:
        home = f"/api/{me}/tasks"
        _expect(http.get("/health"), 200)
        seeded = _task(http.get(f"{home}/{number}"), 200)
        assert (seeded["id"], seeded["user_id"], seeded["description"]) == (number, me, DESCRIPTION), seeded
        assert _moment(seeded["created_at"]).microsecond % 1000, seeded
        _refusals(http, home, stranger, forged=auth.token(me)[:-8] + "AAAAAAAA")
        _list(http, home, size)
        created = _task(http.post(home, json={"title": "Agree", "description": "on this"}), 201)
        assert (created["title"], created["complete"]) == ("Agree", False), created
        path = f"{home}/{created['id']}"
        changed = _task(http.patch(path, json={"title": "Agreed"}), 200)
        assert changed == created | {"title": "Agreed", "updated_at": changed["updated_at"]}, changed
        assert _moment(changed["updated_at"]) > _moment(created["updated_at"]), changed
        assert _task(http.get(path), 200) == changed


def _refusals(http: httpx2.Client, home: str, stranger: str, forged: str) -> None:
    task_of_stranger = "1"
    _expect(http.get(f"{home}/{task_of_stranger}"), 404)
    _expect(http.get(f"/api/{stranger}/tasks/{task_of_stranger}"), 403)
    _expect(http.get(home, headers={"Authorization": f"Bearer {forged}"}), 401)
    _expect(http.post(home, json={"title": ""}), 422, 400)


def _list(http: httpx2.Client, home: str, size: Size) -> None:
    response = http.get(home, params={"limit": PAGE})
    _expect(response, 200)
    page = response.json()
    ids = [task["id"] for task in page["tasks"]]
    assert page["count"] >= size.tasks, page["count"]
    assert len(ids) == min(PAGE, page["count"]), len(ids)
    assert ids == sorted(ids, reverse=True), ids
    assert all(task.keys() == TASK for task in page["tasks"]), page["tasks"][0]


def _task(response: httpx2.Response, status: int) -> dict[str, object]:
    _expect(response, status)
    task: dict[str, object] = response.json()
    assert task.keys() == TASK, task
    assert str(task["created_at"]).endswith("Z"), task
    return task


def _moment(value: object) -> datetime:
    return datetime.fromisoformat(str(value))


def _expect(response: httpx2.Response, *statuses: int) -> None:
    request = response.request
    assert response.status_code in statuses, f"{request.method} {request.url}: {response} {response.text}"
