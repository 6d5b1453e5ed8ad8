"""A user can erase everything about themselves. No table keeps a trace of it, and nobody else notices."""

from collections.abc import Iterator
from urllib.parse import quote
from uuid import uuid4

import httpx2
import pytest
from sqlmodel import SQLModel

from support.changes import Copy, changes
from support.etags import etag_of
from support.problem import assert_problem
from support.racing import Call, race, race_behind_a_writer
from support.rows import execute
from support.service import Client, Service


def erase(client: Client, confirm: str | None = None) -> httpx2.Response:
    """Sends the request; without `confirm`, it is confirmed."""
    query = {"confirm": client.user if confirm is None else confirm}
    return client.request("DELETE", f"/api/{quote(client.user, safe='')}", params=query)


def use(client: Client, canary: str) -> None:
    """Leaves texts in live, changed and deleted tasks, in the trash, and in keys, by single requests and by batches."""
    task = client.create(f"{canary} one", description=f"{canary} two")
    client.request("PATCH", task["id"], json={"title": f"{canary} three"})
    doomed = client.request("POST", json={"title": f"{canary} four"}, headers={"Idempotency-Key": f"{canary}-five"})
    client.request("DELETE", doomed.json()["id"])
    created = {"op": "create", "task": {"title": f"{canary} six", "description": canary}, "key": f"{canary}-seven"}
    failing = {"op": "delete", "id": 2**62}
    for operations, status in (([created], 200), ([created, {"op": "delete", "id": task["id"]}], 200)):
        assert client.request("POST", "batch", json={"operations": operations}).status_code == status
    assert client.request("POST", "batch", json={"operations": [created, failing]}).status_code == 404


def tables(service: Service) -> Iterator[str]:
    """Every table of the database, with the schema on PostgreSQL."""
    if service.engine == "sqlite":
        found = execute(service.url_of_database, "SELECT name FROM sqlite_schema WHERE type = 'table'")
    else:
        found = execute(
            service.url_of_database,
            "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
            " WHERE table_schema NOT IN ('pg_catalog', 'information_schema')",
        )
    yield from (str(name) for (name,) in found)


def everything(service: Service) -> str:
    """Every row and column of every table, as text."""
    names = list(tables(service))
    assert {name.rpartition(".")[2] for name in names} >= {table.name for table in SQLModel.metadata.sorted_tables}
    rows = [row for name in names for row in execute(service.url_of_database, f"SELECT * FROM {name}")]  # noqa: S608
    return repr(rows)


def test_no_row_of_any_table_has_a_trace_of_the_user(service: Service, alice: Client) -> None:
    canary = f"canary-{uuid4().hex}"
    use(alice, canary)
    found = everything(service)
    assert canary in found
    assert alice.user in found
    response = erase(alice)
    assert (response.status_code, response.content) == (204, b"")
    assert "taskwell-revision" not in response.headers
    found = everything(service)
    assert canary not in found
    assert alice.user not in found


def test_erasing_what_is_not_there_succeeds_and_leaves_nothing(service: Service, alice: Client) -> None:
    for _ in range(2):
        assert erase(alice).status_code == 204
    assert alice.user not in everything(service)
    use(alice, "x")
    for _ in range(2):
        assert erase(alice).status_code == 204
    assert alice.user not in everything(service)


def test_the_user_sees_nothing_any_more(alice: Client) -> None:
    use(alice, "x")
    task = alice.create("last")
    erase(alice)
    assert alice.request("GET").json() == {"tasks": [], "count": 0}
    assert alice.request("GET", f"/api/{alice.user}/trash").json() == {"tasks": [], "count": 0}
    assert alice.request("GET", task["id"]).status_code == 404
    assert alice.request("POST", f"/api/{alice.user}/trash/{task['id']}/restore").status_code == 404
    assert changes(alice).json()["revision"] == 0


def test_other_users_notice_nothing(alice: Client, mallory: Client) -> None:
    use(alice, "x")
    use(mallory, "y")
    copy = Copy(mallory)
    copy.sync()
    listed = mallory.request("GET")
    before = changes(mallory).json(), mallory.request("GET", f"/api/{mallory.user}/trash").json()
    erase(alice)
    assert mallory.request("GET", headers={"If-None-Match": listed.headers["etag"]}).status_code == 304
    assert (changes(mallory).json(), mallory.request("GET", f"/api/{mallory.user}/trash").json()) == before
    assert copy.pull()["tasks"] == []


def test_tokens_and_tags_from_before_are_recognized(alice: Client) -> None:
    use(alice, "x")
    task = alice.create("last")
    since, listed, etag = (
        changes(alice).json()["since"],
        alice.request("GET").headers["etag"],
        etag_of(alice, task["id"]),
    )
    erase(alice)
    for write in (False, True, True):
        if write:
            # Until the revision is above that of the token.
            for _ in range(10):
                alice.create("new")
        assert_problem(changes(alice, since=since), 410, "GONE")
        assert alice.request("GET", headers={"If-None-Match": listed}).status_code == 200
        response = alice.request("DELETE", task["id"], headers={"If-Match": etag})
        assert_problem(response, 404, "NOT_FOUND")


def test_the_user_can_begin_anew(alice: Client) -> None:
    use(alice, "x")
    highest = alice.create("last")["id"]
    erase(alice)
    response = alice.request("POST", json={"title": "first"}, headers={"Idempotency-Key": "x-five"})
    assert response.status_code == 201
    assert "idempotency-replayed" not in response.headers
    assert response.headers["taskwell-revision"] == "1"
    # IDs are never used again.
    assert response.json()["id"] > highest
    copy = Copy(alice)
    copy.sync()
    assert [task["title"] for task in copy.listed()] == ["first"]


@pytest.mark.parametrize("confirm", ["", "x", "{}x", "{} ", " {}", "%7B%7D"])
def test_without_the_matching_confirmation_nothing_is_erased(alice: Client, confirm: str) -> None:
    task = alice.create()
    problem = assert_problem(erase(alice, confirm.replace("{}", alice.user)), 422, "VALIDATION_ERROR")
    assert [violation["loc"] for violation in problem["errors"]] == [["query", "confirm"]]
    assert alice.user not in problem["detail"]
    assert alice.request("GET").json()["tasks"] == [task]


@pytest.mark.parametrize("query", ["", "?confirm", "?Confirm={}", "?confirm={}&confirm={}", "?confirm={}&force=true"])
def test_the_confirmation_is_one_parameter_and_there_is_no_other(alice: Client, query: str) -> None:
    task = alice.create()
    response = alice.request("DELETE", f"/api/{alice.user}{query.replace('{}', alice.user)}")
    assert_problem(response, 422, "VALIDATION_ERROR")
    assert alice.request("GET").json()["tasks"] == [task]


@pytest.mark.parametrize(
    "user", ["a/b", "a b+c", "\u00fcser\U0001f9c0", "a%2Fb", "..", "confirm=x&y", "x" * 255, "\ufffd"]
)
def test_any_user_can_confirm_with_their_own_id(service: Service, user: str) -> None:
    client = service.client(user)
    url = f"/api/{quote(user, safe='').replace('.', '%2E')}"
    assert client.request("POST", f"{url}/tasks", json={"title": "x"}).status_code == 201
    response = client.request("DELETE", f"{url}?confirm={quote(user, safe='')}")
    assert response.status_code == 204, response.text
    assert client.request("GET", f"{url}/tasks").json()["count"] == 0


def test_nobody_erases_another_user(alice: Client, mallory: Client) -> None:
    task = alice.create()
    for confirm in (alice.user, mallory.user):
        response = mallory.request("DELETE", f"/api/{alice.user}", params={"confirm": confirm})
        assert_problem(response, 403, "AUTH_FORBIDDEN")
    mallory.create()
    assert_problem(mallory.request("DELETE", f"/api/{mallory.user}?confirm={alice.user}"), 422, "VALIDATION_ERROR")
    assert alice.request("GET").json()["tasks"] == [task]
    assert mallory.titles() == ["Buy milk"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "OPTIONS"])
def test_a_user_can_only_be_erased(alice: Client, method: str) -> None:
    response = alice.request(method, f"/api/{alice.user}")
    assert response.status_code == 405
    assert response.headers["allow"] == "DELETE"


# --- concurrency


def test_writers_during_an_erasure_succeed_or_find_nothing(alice: Client) -> None:
    for turn in range(4):
        ids = [alice.create()["id"] for _ in range(6)]
        erasure = Call(alice, "DELETE", f"/api/{alice.user}?confirm={alice.user}")
        operations = [{"op": "patch", "id": task_id, "task": {"title": f"{turn}"}} for task_id in ids]
        calls = [
            *[Call(alice, "PATCH", f"/{task_id}", {"title": "new"}) for task_id in ids],
            *[Call(alice, "DELETE", f"/{ids[0]}")] * 2,
            *[Call(alice, "POST", "/batch", {"operations": operations[:: -1 if n % 2 else 1]}) for n in range(4)],
            *[Call(alice, "POST", "", {"title": "survivor"}, {"Idempotency-Key": f"{turn}"})] * 3,
        ]
        middle = len(calls) // 2
        responses = race([*calls[:middle], erasure, *calls[middle:], erasure])
        statuses = [response.status_code for response in responses]
        assert set(statuses) <= {200, 201, 204, 404}, [response.text for response in responses]
        assert statuses[middle] == statuses[-1] == 204
        # Only what was created after an erasure is there.
        assert set(alice.titles()) <= {"survivor"}
        assert len(alice.titles()) <= 1
        copy = Copy(alice)
        copy.sync()
        assert copy.listed() == alice.request("GET").json()["tasks"]


def test_writers_that_wait_for_an_erasure_begin_anew(service: Service, alice: Client) -> None:
    for turn in range(3):
        task = alice.create()["id"]
        erasure = Call(alice, "DELETE", f"/api/{alice.user}?confirm={alice.user}")
        writers = [Call(alice, "PATCH", f"/{task}", {"title": f"{turn}"}), Call(alice, "DELETE", f"/{task}")]
        creators = [Call(alice, "POST", "", {"title": "new"}), Call(alice, "POST", "", {"title": "new"})]
        batches = [Call(alice, "POST", "/batch", {"operations": [{"op": "create", "task": {"title": "new"}}]})]
        responses = race_behind_a_writer(service, [erasure, *writers, *creators, *batches, erasure, *writers])
        assert {response.status_code for response in responses} <= {200, 201, 204, 404}
        tasks = alice.request("GET").json()["tasks"]
        assert {found["title"] for found in tasks} <= {"new"}
        page = changes(alice).json()
        assert page["deleted"] == []
        assert page["revision"] == max([int(found["etag"].strip('"')) for found in page["tasks"]], default=0)
        alice.create("so that there is a row to wait for")
