"""Idempotency-Key: a client that does not know whether its request arrived sends it again, and makes one task at most."""

import random
from collections.abc import Sequence

import httpx2
import pytest

from support.problem import assert_problem
from support.racing import Call, race, race_behind_a_writer
from support.service import Client, Json, Service, sign

# For requests that are refused before they reach the database, whatever its kind.
ONCE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")

MILK: Json = {"title": "Buy milk"}


def create(client: Client, key: str | bytes, body: object = MILK) -> httpx2.Response:
    return client.request("POST", json=body, headers={"Idempotency-Key": key})


def assert_created(response: httpx2.Response) -> Json:
    assert response.status_code == 201, response.text
    assert "idempotency-replayed" not in response.headers
    task: Json = response.json()
    return task


def assert_replayed(response: httpx2.Response, task: Json) -> None:
    assert (response.status_code, response.json()) == (201, task)
    assert response.headers["idempotency-replayed"] == "true"


def revision(client: Client) -> int:
    """Returns the revision that the user's last write took, from a write that takes the next one."""
    response = client.request("POST", json={"title": "probe"})
    assert client.request("DELETE", response.json()["id"]).status_code == 204
    return int(response.headers["taskwell-revision"]) - 1


def test_a_repeated_request_gets_the_task_that_the_first_one_made(alice: Client) -> None:
    first = create(alice, "k")
    task = assert_created(first)
    again = create(alice, "k")
    assert_replayed(again, task)
    names = ("location", "etag", "taskwell-revision", "cache-control", "vary", "content-type", "x-content-type-options")
    assert [again.headers[name] for name in names] == [first.headers[name] for name in names]
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert alice.request("GET").json() == {"tasks": [task], "count": 1}


def test_a_replay_shows_the_task_as_it_is_now(alice: Client) -> None:
    task = assert_created(create(alice, "k"))
    changed = alice.request("PATCH", task["id"], json={"title": "Buy bread", "complete": True})
    again = create(alice, "k")
    assert_replayed(again, changed.json())
    for name in ("etag", "taskwell-revision"):
        assert again.headers[name] == changed.headers[name]
    assert alice.request("GET", again.headers["location"]).headers["etag"] == again.headers["etag"]


def test_a_replay_changes_nothing(alice: Client) -> None:
    create(alice, "k")
    listed = alice.request("GET")
    create(alice, "k")
    create(alice, "k", {"title": "other"})
    again = alice.request("GET", headers={"If-None-Match": listed.headers["etag"]})
    assert again.status_code == 304
    assert revision(alice) == 1


@pytest.mark.parametrize(
    ("first", "same"),
    [
        ("k", '"k"'),
        ('"k"', "k"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("!#$%&'*+-.^_`|~", '"!#$%&\'*+-.^_`|~"'),
        (r"\"", r'"\\\""'),
        ("8e03978e-40d5-43dd-bc93-6894a57f9324", '"8e03978e-40d5-43dd-bc93-6894a57f9324"'),
        ("x" * 255, f'"{"x" * 255}"'),
        ("k", " k\t"),
        (r'"\"\"' + r"\\" * 253 + '"', '"\\"\\"' + r"\\" * 253 + '"'),
    ],
)
def test_the_quoted_form_of_a_key_is_the_same_key(alice: Client, first: str, same: str) -> None:
    responses = [race([Call(alice, "POST", "", MILK, {"Idempotency-Key": key})])[0] for key in (first, same)]
    assert_replayed(responses[1], assert_created(responses[0]))


@pytest.mark.parametrize("key", ["K", "kk", "k,", "'k'", 'k"', "%6B", "\\k"])
def test_keys_are_compared_exactly(alice: Client, key: str) -> None:
    assert_created(create(alice, "k"))
    assert_created(create(alice, key))


@pytest.mark.parametrize(
    "other",
    [
        {"title": "Buy Milk"},
        {"title": "Buy milk", "description": ""},
        {"title": "Buy milk", "description": "x"},
        {"title": "Buy milk", "complete": True},
        {"title": "Buy\u00a0milk"},
    ],
)
def test_a_key_that_was_used_for_other_values_gets_422(alice: Client, other: Json) -> None:
    task = assert_created(create(alice, "k"))
    problem = assert_problem(create(alice, "k", other), 422, "VALIDATION_ERROR")
    assert [violation["loc"] for violation in problem["errors"]] == [["header", "Idempotency-Key"]]
    assert problem["detail"].startswith("header Idempotency-Key: ")
    assert alice.request("GET").json()["tasks"] == [task]
    assert_replayed(create(alice, "k"), task)


@pytest.mark.parametrize(
    ("first", "same"),
    [
        ('{"title": "a"}', '{"title":"  a\\n"}'),
        ('{"title": "a", "description": "b"}', '{"description": "b", "title": "a"}'),
        ('{"title": "a"}', '{"title": "a", "description": null, "complete": false}'),
        ('{"title": "a", "complete": false}', '{"title": "a", "id": 7, "created_at": "now", "user_id": null}'),
        ('{"title": "ä🧀"}', '{"title": "\\u00e4\\ud83e\\uddc0"}'),
        ('{"title": "a"}', '{"title": "b", "title": "a"}'),
    ],
)
def test_requests_with_equal_values_are_the_same_request(alice: Client, first: str, same: str) -> None:
    def send(body: str, media_type: str) -> httpx2.Response:
        headers = {"Idempotency-Key": "k", "Content-Type": media_type}
        return alice.request("POST", content=body.encode(), headers=headers)

    task = assert_created(send(first, "application/json"))
    assert_replayed(send(same, "application/vnd.x+json"), task)


def test_a_key_whose_task_was_deleted_is_gone(alice: Client) -> None:
    task = assert_created(create(alice, "k"))
    alice.request("DELETE", task["id"])
    for body in (MILK, {"title": "other"}):
        assert_problem(create(alice, "k", body), 410, "GONE")
    assert alice.titles() == []
    assert assert_created(create(alice, "another"))["id"] > task["id"]


@pytest.mark.parametrize("body", ["", "{", '{"title": ""}', '{"title": "a", "x": 1}', '{"title": "a\\u0000"}', "[]"])
def test_a_refused_request_does_not_use_up_its_key(alice: Client, mallory: Client, body: str) -> None:
    key = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    assert alice.request("POST", content=body.encode(), headers=key).status_code in (400, 422)
    assert alice.request("POST", f"{alice.home}?x=1", json=MILK, headers=key).status_code == 422
    assert alice.request("POST", content=b"{}", headers=key | {"Content-Type": "text/plain"}).status_code == 415
    assert alice.http.post(alice.home, json=MILK, headers=key).status_code == 401
    assert mallory.request("POST", alice.home, json=MILK, headers=key).status_code == 403
    assert_created(create(alice, "k"))


def test_users_do_not_share_keys(alice: Client, mallory: Client) -> None:
    mine = assert_created(create(alice, "k"))
    others = assert_created(create(mallory, "k", {"title": "other"}))
    assert_replayed(create(alice, "k"), mine)
    assert_replayed(create(mallory, "k", {"title": "other"}), others)


@ONCE
@pytest.mark.parametrize(
    "key",
    [
        "", " ", "a b", "a\tb", b"\xc3\xa4", b"\xff", b"k\xa0", "x" * 256, "x" * 60_000, '"', '"k', '"k"x', '"k";a=1',
        '""', '"a b"', '"a"b"', r'"\k"', r'"k\"', f'"{"x" * 256}"', '"' + r"\\" * 256 + '"', '"\u00e4"'.encode("latin-1"),
        '"' + r"\"" * 30_000, '"' + r"\a" * 30_000,
    ],
)  # fmt: skip
def test_a_malformed_key_gets_400_and_makes_no_task(alice: Client, key: str | bytes) -> None:
    text = key if isinstance(key, str) else key.decode("latin-1")
    (response,) = race([Call(alice, "POST", "", MILK, {"Idempotency-Key": text})])
    problem = assert_problem(response, 400, "VALIDATION_ERROR")
    assert [violation["loc"] for violation in problem["errors"]] == [["header", "Idempotency-Key"]]
    assert len(response.content) < 1000
    assert alice.titles() == []


@ONCE
@pytest.mark.parametrize("keys", [("k", "k"), ("a", "b"), ('"a', 'b"'), ('"a"', '"b"'), ("k", "")])
def test_two_keys_get_400(alice: Client, keys: Sequence[str]) -> None:
    headers = [("Authorization", f"Bearer {sign(alice.user)}"), *(("Idempotency-Key", key) for key in keys)]
    assert_problem(alice.http.post(alice.home, json=MILK, headers=headers), 400, "VALIDATION_ERROR")
    assert alice.titles() == []


def test_requests_without_a_key_each_make_a_task_even_if_random_numbers_repeat(alice: Client) -> None:
    state = random.getstate()
    tasks = []
    for _ in range(3):
        # The service runs in this process, where any library could do this.
        random.setstate(state)
        tasks.append(assert_created(alice.request("POST", json=MILK)))
    assert alice.request("GET").json()["tasks"] == tasks[::-1]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
def test_other_methods_ignore_the_key(alice: Client, method: str) -> None:
    task = alice.create()
    body = {"title": "a", "complete": True} if method in {"PUT", "PATCH"} else None
    response = alice.request(method, task["id"], json=body, headers={"Idempotency-Key": "a b"})
    assert response.is_success
    assert "idempotency-replayed" not in response.headers


# --- many requests at once


def test_twenty_equal_requests_at_once_make_one_task(service: Service, alice: Client) -> None:
    before = revision(alice)
    responses = race_behind_a_writer(service, [Call(alice, "POST", "", MILK, {"Idempotency-Key": "k"})] * 20)
    assert [response.status_code for response in responses] == [201] * 20
    assert len({response.content for response in responses}) == 1
    assert len({(response.headers["etag"], response.headers["location"]) for response in responses}) == 1
    assert {response.headers["taskwell-revision"] for response in responses} == {str(before + 3)}
    assert sorted(response.headers.get("idempotency-replayed", "") for response in responses) == [""] + ["true"] * 19
    assert alice.titles() == ["Buy milk"]
    # The replays took no revision.
    assert revision(alice) == before + 3


def test_a_new_users_first_requests_at_once_make_one_task(service: Service) -> None:
    for _ in range(5):
        user = service.client()
        responses = race([Call(user, "POST", "", MILK, {"Idempotency-Key": "k"})] * 8)
        assert {response.status_code for response in responses} == {201}
        assert {response.headers["taskwell-revision"] for response in responses} == {"1"}
        assert user.request("POST", json=MILK).headers["taskwell-revision"] == "2"


def test_different_requests_with_one_key_at_once_make_one_task(service: Service, alice: Client) -> None:
    before = revision(alice)
    bodies = [{"title": title} for title in ("left", "right")] * 10
    responses = race_behind_a_writer(
        service, [Call(alice, "POST", "", body, {"Idempotency-Key": "k"}) for body in bodies]
    )
    (title,) = alice.titles()
    assert [response.status_code for response in responses] == [
        201 if body["title"] == title else 422 for body in bodies
    ]
    assert len([response for response in responses if "idempotency-replayed" in response.headers]) == 9
    for response in responses:
        if response.status_code == 422:
            assert_problem(response, 422, "VALIDATION_ERROR")
    assert revision(alice) == before + 3


def test_keys_of_requests_at_once_are_kept_apart(alice: Client) -> None:
    calls = [Call(alice, "POST", "", {"title": str(n % 8)}, {"Idempotency-Key": f"k{n % 8}"}) for n in range(40)]
    responses = race(calls)
    assert {response.status_code for response in responses} == {201}
    assert sorted(alice.titles()) == sorted(str(n) for n in range(8))
    assert [response.json()["title"] for response in responses] == [str(n % 8) for n in range(40)]
    assert revision(alice) == 8


def test_a_deletion_between_replays_is_seen_by_all_that_follow(service: Service, alice: Client) -> None:
    task = assert_created(create(alice, "k"))
    repeated = [Call(alice, "POST", "", MILK, {"Idempotency-Key": "k"})] * 10
    responses = race_behind_a_writer(service, [*repeated, Call(alice, "DELETE", f"/{task['id']}"), *repeated])
    assert {response.status_code for response in responses} <= {201, 204, 410}
    assert alice.titles() == []
    assert_problem(create(alice, "k"), 410, "GONE")
