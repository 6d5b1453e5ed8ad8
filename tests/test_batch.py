"""A batch applies all of its operations or none, whatever else happens at the same time."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.changes import Copy, changes
from support.etags import etag_of
from support.problem import assert_problem, assert_problem_details
from support.racing import Call, race, race_behind_a_writer
from support.service import Client, Json, Service, running

# For requests that are refused before they reach the database, whatever its kind.
ONCE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")

MIB = 1024 * 1024
MILK: Json = {"title": "Buy milk"}


def send(client: Client, *operations: object, **options: Any) -> httpx2.Response:
    return client.request("POST", "batch", json={"operations": operations}, **options)


def apply(client: Client, *operations: object) -> list[Json]:
    response = send(client, *operations)
    assert response.status_code == 200, response.text
    results: list[Json] = response.json()["results"]
    assert len(results) == len(operations)
    assert all(result.keys() == {"status", "task"} for result in results)
    return results


def create(title: str = "Buy milk", **members: object) -> Json:
    key = {"key": members.pop("key")} if "key" in members else {}
    return {"op": "create", "task": {"title": title, **members}, **key}


def replace(task_id: object, title: str, **members: object) -> Json:
    return {"op": "replace", "id": task_id, "task": {"title": title, "complete": False}, **members}


def patch(task_id: object, title: str, **members: object) -> Json:
    return {"op": "patch", "id": task_id, "task": {"title": title}, **members}


def delete(task_id: object, **members: object) -> Json:
    return {"op": "delete", "id": task_id, **members}


def any_change(op: str, task_id: int) -> Json:
    """An operation of any kind on a task, without a condition."""
    return {"replace": replace(task_id, "x"), "patch": patch(task_id, "x"), "delete": delete(task_id)}[op]


def state(client: Client) -> tuple[object, ...]:
    """Everything that a user can see: tasks with tags, deletions, the revision, and the trash."""
    page = changes(client).json()
    trash = client.request("GET", f"/api/{client.user}/trash").json()
    return page["tasks"], page["deleted"], page["since"], trash


def unversioned(task: Json) -> Json:
    return {name: value for name, value in task.items() if name != "etag"}


def assert_failed(
    response: httpx2.Response, status: int, code: str, index: int, member: str, kind: str | None = None
) -> Json:
    """Asserts that the operation at `index` failed, because of its `member`."""
    problem = assert_problem(response, status, code)
    (violation,) = problem["errors"]
    assert violation["loc"] == ["body", "operations", index, member]
    assert problem["detail"] == f"operations {index} {member}: {violation['msg']}"
    assert kind is None or violation["type"] == kind
    return problem


# --- what operations do


def test_every_operation_does_what_the_request_of_its_own_would_do(alice: Client) -> None:
    old, patched, doomed = alice.create("old", description="two litres"), alice.create("patched"), alice.create()
    response = send(
        alice,
        create(" new ", description="d", complete=True),
        replace(old["id"], "replaced"),
        patch(patched["id"], "changed"),
        delete(doomed["id"]),
    )
    assert response.status_code == 200
    assert (response.headers["cache-control"], response.headers["vary"]) == ("private, no-cache", "Authorization")
    results = response.json()["results"]
    assert [result["status"] for result in results] == [201, 200, 200, 204]
    assert results[3]["task"] is None
    shown = [result["task"] for result in results[:3]]
    assert [task["title"] for task in shown] == ["new", "replaced", "changed"]
    assert shown[1]["description"] is None
    for task in shown:
        read = alice.request("GET", task["id"])
        assert (read.json(), read.headers["etag"]) == (unversioned(task), task["etag"])
    assert alice.request("GET", doomed["id"]).status_code == 404
    revisions = [int(task["etag"].strip('"')) for task in shown]
    assert revisions == [4, 5, 6]
    assert response.headers["taskwell-revision"] == "7"
    assert changes(alice).json()["revision"] == 7


def test_an_operation_that_changes_nothing_takes_no_revision(alice: Client) -> None:
    task, deleted = apply(alice, create(key="k"), create())
    apply(alice, delete(deleted["task"]["id"]))
    before = state(alice)
    response = send(alice, create(key="k"), patch(task["task"]["id"], "Buy milk"), delete(deleted["task"]["id"]))
    assert response.headers["taskwell-revision"] == "3"
    assert [result["status"] for result in response.json()["results"]] == [201, 200, 204]
    assert state(alice) == before


def test_operations_are_applied_in_their_order(alice: Client) -> None:
    results = apply(alice, *[create(f"task {number}") for number in range(100)])
    ids = [result["task"]["id"] for result in results]
    assert ids == sorted(ids)
    assert alice.titles() == [f"task {number}" for number in reversed(range(100))]


def test_a_task_can_be_sent_back(alice: Client) -> None:
    task = alice.create(description="two litres")
    (result,) = apply(alice, {"op": "replace", "id": task["id"], "task": task | {"complete": True}})
    assert unversioned(result["task"]) == task | {"complete": True, "updated_at": result["task"]["updated_at"]}


def test_a_patch_leaves_other_members_as_they_are_and_clears_with_null(alice: Client) -> None:
    one, two = alice.create(description="one"), alice.create(description="two")
    results = apply(
        alice,
        {"op": "patch", "id": one["id"], "task": {"complete": True}},
        {"op": "patch", "id": two["id"], "task": {"description": None}},
    )
    found = [(result["task"]["description"], result["task"]["complete"]) for result in results]
    assert found == [("one", True), (None, False)]


def test_every_text_that_a_task_can_have_arrives_unchanged(alice: Client) -> None:
    texts = [
        'quote " and \\',
        "{}[],:",
        "\x01\x1f\x7f",
        "\u2028\uffff\U0001f9c0",
        "'; DROP TABLE task; --",
        "$1 %s \\u0041",
    ]
    results = apply(alice, *[create("x", description=text) for text in texts])
    assert [result["task"]["description"] for result in results] == texts
    assert [task["description"] for task in reversed(alice.request("GET").json()["tasks"])] == texts


# --- conditions


def test_a_condition_that_holds_lets_the_operation_happen(alice: Client) -> None:
    ids = [alice.create()["id"] for _ in range(3)]
    tags = [etag_of(alice, task_id) for task_id in ids]
    results = apply(
        alice,
        replace(ids[0], "a", if_match=tags[0]),
        patch(ids[1], "b", if_match=f'"0", {tags[1]}'),
        delete(ids[2], if_match="*"),
    )
    assert [result["status"] for result in results] == [200, 200, 204]


@pytest.mark.parametrize("op", [replace, patch])
@pytest.mark.parametrize("tag", ['"999999"', "W/{}", '"abc"', '"0", "999999"'])
def test_a_condition_that_does_not_hold_fails_with_the_task_as_it_is(
    alice: Client, op: Callable[..., Json], tag: str
) -> None:
    task = alice.create()
    etag, before = etag_of(alice, task["id"]), state(alice)
    # Even if there would be nothing to change.
    response = send(alice, create(), op(task["id"], "Buy milk", if_match=tag.format(etag)))
    problem = assert_failed(response, 412, "PRECONDITION_FAILED", 1, "if_match", "precondition_failed")
    assert problem["current"] == task | {"etag": etag}
    assert response.headers["etag"] == etag
    assert state(alice) == before


def test_a_stale_deletion_fails(alice: Client) -> None:
    task = alice.create()
    response = send(alice, delete(task["id"], if_match='"999999"'))
    assert_failed(response, 412, "PRECONDITION_FAILED", 0, "if_match")
    assert alice.request("GET", task["id"]).json() == task


def test_a_failure_has_the_form_of_rfc_9457_on_request(alice: Client) -> None:
    task = alice.create()
    response = send(
        alice, create(), patch(task["id"], "x", if_match='"999"'), headers={"Accept": "application/problem+json"}
    )
    problem = assert_problem_details(response, 412, "PRECONDITION_FAILED")
    assert problem["errors"][0]["loc"] == ["body", "operations", 1, "if_match"]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def strict(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    url = new_database_url(request.param)
    with running(request.param, DATABASE_URL=url, TASKWELL_REQUIRE_IF_MATCH="true") as service:
        yield service


@pytest.mark.parametrize("op", ["replace", "patch", "delete"])
def test_an_operator_can_require_conditions_in_batches_too(strict: Service, op: str) -> None:
    alice = strict.client()
    one, two = alice.create(), alice.create()
    before = state(alice)
    response = send(alice, create(), patch(one["id"], "x", if_match="*"), any_change(op, two["id"]), any_change(op, 0))
    assert_failed(response, 428, "PRECONDITION_REQUIRED", 2, "if_match", "precondition_required")
    assert state(alice) == before
    apply(alice, create(), patch(one["id"], "x", if_match="*"), delete(two["id"], if_match=etag_of(alice, two["id"])))


# --- failures


def failing(client: Client, other: Client) -> dict[str, tuple[Json, int, str, str]]:
    """For each failure that depends on the tasks: the operation, the status, the code, and the member."""
    task, gone = client.create(), client.create()
    client.request("POST", json=MILK, headers={"Idempotency-Key": "used"})
    doomed = client.request("POST", json=MILK, headers={"Idempotency-Key": "doomed"}).json()
    for one in (gone, doomed):
        client.request("DELETE", one["id"])
    theirs = other.create()["id"]
    return {
        "missing": (patch(2**62, "x"), 404, "NOT_FOUND", "id"),
        "deleted": (replace(gone["id"], "x"), 404, "NOT_FOUND", "id"),
        "another user's": (patch(theirs, "x"), 404, "NOT_FOUND", "id"),
        "another user's, deleted": (delete(theirs), 404, "NOT_FOUND", "id"),
        "impossible": (delete(0), 404, "NOT_FOUND", "id"),
        "too large": (delete(2**63), 404, "NOT_FOUND", "id"),
        "beyond 64 bits": (delete(2**64), 404, "NOT_FOUND", "id"),
        "negative": (patch(-1, "x"), 404, "NOT_FOUND", "id"),
        "stale": (patch(task["id"], "x", if_match='"999999"'), 412, "PRECONDITION_FAILED", "if_match"),
        "other values": (create("other", key="used"), 422, "VALIDATION_ERROR", "key"),
        "gone": (create(key="doomed"), 410, "GONE", "key"),
    }


@pytest.mark.parametrize("index", [0, 1, 99])
def test_a_failure_names_its_operation_and_undoes_all_others(
    alice: Client, mallory: Client, index: int, subtests: pytest.Subtests
) -> None:
    kept, doomed = alice.create(), alice.create()
    for name, (operation, status, code, member) in failing(alice, mallory).items():
        with subtests.test(name):
            before, theirs = state(alice), state(mallory)
            others: list[Json] = [patch(kept["id"], "changed"), delete(doomed["id"])]
            others += [create(f"new {number}", key=f"new-{number}") for number in range(97)]
            operations = [*others[:index], operation, *others[index:]]
            assert_failed(send(alice, *operations), status, code, index, member)
            assert (state(alice), state(mallory)) == (before, theirs)
    # The keys were not used up.
    assert apply(alice, create("other values", key="new-0"))[0]["task"]["title"] == "other values"


def test_the_first_failure_is_reported(alice: Client) -> None:
    response = send(alice, create(), delete(2**62), patch(2**62 + 1, "x"))
    assert_failed(response, 404, "NOT_FOUND", 1, "id")


def test_a_failed_batch_of_a_new_user_leaves_nothing(service: Service, alice: Client) -> None:
    assert_failed(send(alice, create(), delete(2**62)), 404, "NOT_FOUND", 1, "id")
    assert changes(alice).json()["revision"] == 0
    assert alice.create()["id"]
    assert changes(alice).json()["revision"] == 1


def test_another_users_task_looks_like_one_that_never_existed(alice: Client, mallory: Client) -> None:
    theirs = alice.create()["id"]
    for op in (patch(0, "x"), replace(0, "x"), patch(0, "x", if_match='"1"'), delete(0), delete(0, if_match="*")):
        found = [
            send(mallory, op | {"id": task_id}, headers={"X-Request-ID": "the-same"}) for task_id in (theirs, 2**62)
        ]
        first, second = [(one.status_code, one.json() | {"timestamp": ""}) for one in found]
        assert first == second
        assert first[0] == 404


# --- sending it again


def test_a_batch_with_keys_can_be_sent_again(alice: Client) -> None:
    one, two, three = alice.create("one"), alice.create("two"), alice.create("three")
    operations = [
        create("a", key="a"),
        create("b", key='"b"', description="d"),
        replace(one["id"], "replaced"),
        patch(two["id"], "patched"),
        delete(three["id"], if_match=etag_of(alice, three["id"])),
    ]
    first = send(alice, *operations)
    before = state(alice)
    again = send(alice, *operations)
    assert (again.status_code, again.json()) == (200, first.json())
    assert again.headers["taskwell-revision"] == first.headers["taskwell-revision"]
    assert state(alice) == before


def test_a_key_is_the_same_in_a_batch_and_in_a_request_of_its_own(alice: Client) -> None:
    first = alice.request("POST", json=MILK, headers={"Idempotency-Key": '"k"'}).json()
    (result,) = apply(alice, create(key="k"))
    assert unversioned(result["task"]) == first
    apply(alice, create("other", key="l"))
    again = alice.request("POST", json={"title": "other"}, headers={"Idempotency-Key": "l"})
    assert again.headers["idempotency-replayed"] == "true"


def test_a_key_twice_in_a_batch_makes_one_task(alice: Client) -> None:
    one, two = apply(alice, create(key="k"), create(key="k"))
    assert one == two
    response = send(alice, create("a", key="l"), create("b", key="l"))
    assert_failed(response, 422, "VALIDATION_ERROR", 1, "key", "idempotency_key_reused")
    assert alice.titles() == ["Buy milk"]


def test_without_keys_each_batch_makes_new_tasks(alice: Client) -> None:
    for _ in range(2):
        apply(alice, create(), create())
    assert alice.titles() == ["Buy milk"] * 4


@pytest.mark.parametrize("if_match", [{}, {"if_match": '"1"'}, {"if_match": '"999"'}])
def test_deleting_what_is_deleted_succeeds_and_changes_nothing(alice: Client, if_match: Json) -> None:
    task = alice.create()["id"]
    alice.create()
    deletion = alice.request("DELETE", task)
    before = state(alice)
    response = send(alice, delete(task, **if_match))
    assert response.json() == {"results": [{"status": 204, "task": None}]}
    assert response.headers["taskwell-revision"] == deletion.headers["taskwell-revision"]
    assert state(alice) == before


# --- concurrency


def assert_whole(responses: Sequence[httpx2.Response]) -> None:
    assert {response.status_code for response in responses} == {200}, [response.text for response in responses]


def test_batches_over_the_same_tasks_in_any_order_never_deadlock_and_never_mix(alice: Client) -> None:
    ids = [alice.create()["id"] for _ in range(8)]
    for turn in range(4):
        calls = [
            Call(
                alice,
                "POST",
                "/batch",
                {"operations": [patch(task_id, f"{turn} {number}") for task_id in ids[:: -1 if number % 2 else 1]]},
            )
            for number in range(16)
        ]
        assert_whole(race(calls))
        assert len(set(alice.titles())) == 1


def test_a_batch_that_begins_with_nothing_to_do_does_not_mix_with_another(service: Service, alice: Client) -> None:
    one, two = [alice.create("old")["id"] for _ in range(2)]
    for turn in range(4):
        alice.request("PATCH", one, json={"title": f"{turn}"})
        # The first operation of this batch changes nothing, unless the other batch comes first.
        same = Call(alice, "POST", "/batch", {"operations": [patch(one, f"{turn}"), patch(two, f"{turn}")]})
        other = Call(alice, "POST", "/batch", {"operations": [patch(two, "other"), patch(one, "other")]})
        assert_whole(race_behind_a_writer(service, [same, other, same, other, same, other]))
        assert len(set(alice.titles())) == 1


def test_a_batch_is_sent_many_times_at_once_and_applied_once(service: Service, alice: Client) -> None:
    doomed = alice.create()["id"]
    operations = [*[create(f"{number}", key=f"{number}") for number in range(5)], delete(doomed)]
    calls = [Call(alice, "POST", "/batch", {"operations": operations})] * 10
    responses = race_behind_a_writer(service, calls)
    assert_whole(responses)
    assert len({response.text for response in responses}) == 1
    assert len(alice.titles()) == 5
    assert changes(alice).json()["revision"] == 7


def test_batches_and_single_writes_act_as_if_one_came_after_the_other(alice: Client) -> None:
    ids = [alice.create("old")["id"] for _ in range(5)]
    for turn in range(4):
        batches = [
            Call(alice, "POST", "/batch", {"operations": [patch(task_id, f"batch {turn} {n}") for task_id in ids]})
            for n in range(5)
        ]
        singles = [Call(alice, "PATCH", f"/{task_id}", {"description": f"{turn}"}) for task_id in ids]
        assert_whole(race([*batches, *singles]))
        tasks = alice.request("GET").json()["tasks"]
        assert len({task["title"] for task in tasks}) == 1
        assert {task["description"] for task in tasks} == {f"{turn}"}


def test_one_of_many_conditional_batches_wins(service: Service, alice: Client) -> None:
    one, two = [alice.create("old")["id"] for _ in range(2)]
    tags = {task_id: etag_of(alice, task_id) for task_id in (one, two)}
    calls = [
        Call(
            alice,
            "POST",
            "/batch",
            {
                "operations": [
                    patch(task_id, f"batch {number}", if_match=tags[task_id])
                    for task_id in ([one, two] if number % 2 else [two, one])
                ]
            },
        )
        for number in range(12)
    ]
    responses = race_behind_a_writer(service, calls)
    assert sorted(response.status_code for response in responses) == [200] + [412] * 11
    (winner,) = [number for number, response in enumerate(responses) if response.status_code == 200]
    assert alice.titles() == [f"batch {winner}"] * 2
    for response in responses:
        if response.status_code == 412:
            assert response.json()["current"]["title"] == f"batch {winner}"


def test_a_copy_kept_by_changes_is_complete_during_batches(alice: Client) -> None:
    copy, ids = Copy(alice, limit=7), [alice.create()["id"] for _ in range(10)]
    for turn in range(4):
        calls = [
            Call(
                alice,
                "POST",
                "/batch",
                {
                    "operations": [
                        *[patch(task_id, f"{turn} {number}") for task_id in ids[number:8]],
                        *[create(f"new {turn} {number}")] * 3,
                        delete(ids[8 + turn % 2]),
                    ]
                },
            )
            for number in range(6)
        ]
        assert_whole(race(calls))
        copy.sync()
        assert copy.listed() == alice.request("GET").json()["tasks"]


# --- invalid requests

NO_IDS: list[object] = ["5", 5.0, 5.5, True, None, [5], {}, 1e-300]
NO_TAGS: list[object] = [*("", "57", '"57', "\u201c57\u201d", '"\u20ac"', ",", '"a",' * 334, "*, *"), None, 57, ["*"]]


@ONCE
@pytest.mark.parametrize(
    ("operation", "loc", "kind"),
    [
        ({}, ["op"], "union_tag_not_found"),
        ({"op": "destroy", "id": 1}, ["op"], "union_tag_invalid"),
        ({"op": None, "id": 1}, ["op"], "union_tag_invalid"),
        ({"op": ["delete"], "id": 1}, ["op"], "union_tag_invalid"),
        (5, [], "model_attributes_type"),
        (None, [], "model_attributes_type"),
        ("delete", [], "model_attributes_type"),
        ([], [], "model_attributes_type"),
        ({"op": "create"}, ["task"], "missing"),
        ({"op": "create", "task": None}, ["task"], "model_attributes_type"),
        ({"op": "create", "task": {"title": ""}}, ["task", "title"], "string_too_short"),
        ({"op": "create", "task": {"title": "a\x00"}}, ["task", "title"], "string_nul"),
        ({"op": "create", "task": MILK, "if_match": "*"}, ["if_match"], "extra_forbidden"),
        ({"op": "create", "task": MILK, "id": 1}, ["id"], "extra_forbidden"),
        ({"op": "create", "task": MILK, "create": 1}, ["create"], "extra_forbidden"),
        ({"op": "create", "task": MILK | {"completed": True}}, ["task", "completed"], "extra_forbidden"),
        ({"op": "create", "task": MILK, "key": ""}, ["key"], "idempotency_key"),
        ({"op": "create", "task": MILK, "key": None}, ["key"], "idempotency_key"),
        ({"op": "create", "task": MILK, "key": 7}, ["key"], "idempotency_key"),
        ({"op": "create", "task": MILK, "key": "a b"}, ["key"], "idempotency_key"),
        ({"op": "create", "task": MILK, "key": "\u00e9"}, ["key"], "idempotency_key"),
        ({"op": "create", "task": MILK, "key": '"a'}, ["key"], "idempotency_key"),
        ({"op": "create", "task": MILK, "key": "x" * 256}, ["key"], "idempotency_key"),
        ({"op": "replace", "id": 1, "task": MILK}, ["task", "complete"], "missing"),
        ({"op": "replace", "task": MILK | {"complete": True}}, ["id"], "missing"),
        ({"op": "patch", "id": 1, "task": {"title": None}}, ["task", "title"], "string_type"),
        ({"op": "patch", "id": 1, "task": MILK, "key": "k"}, ["key"], "extra_forbidden"),
        ({"op": "delete", "id": 1, "task": MILK}, ["task"], "extra_forbidden"),
        ({"op": "delete"}, ["id"], "missing"),
        *[({"op": "delete", "id": value}, ["id"], "int_type") for value in NO_IDS],
        *[({"op": "delete", "id": 1, "if_match": value}, ["if_match"], "entity_tags") for value in NO_TAGS],
        ({"op": "delete", "id": 1} | {str(number): 1 for number in range(19)}, [], "too_many_members"),
        ({"op": "create", "task": {str(number): 1 for number in range(21)}}, ["task"], "too_many_members"),
    ],
    ids=str,
)
def test_an_error_is_located_where_the_client_wrote_it(
    alice: Client, operation: object, loc: list[str], kind: str
) -> None:
    problem = assert_problem(send(alice, create(), operation), 422, "VALIDATION_ERROR")
    found = [(violation["loc"], violation["type"]) for violation in problem["errors"]]
    assert found == [(["body", "operations", 1, *loc], kind)]
    assert problem["detail"].startswith(" ".join(["operations 1", *loc]) + ": ")
    assert alice.titles() == []


@ONCE
def test_an_error_never_repeats_what_was_sent(alice: Client) -> None:
    operations = [{"op": "canary"}, {"op": {"canary": "canary"}}, delete("canary"), create(key="c\u00e4nary")]
    response = send(alice, *operations, patch(1, "x", if_match="canary"))
    assert "nary" not in assert_problem(response, 422, "VALIDATION_ERROR")["detail"] + response.text


@ONCE
def test_an_empty_patch_is_400_as_on_its_own(alice: Client) -> None:
    problem = assert_problem(
        send(alice, create(), {"op": "patch", "id": 1, "task": {"id": 1}}), 400, "VALIDATION_ERROR"
    )
    assert [(one["loc"], one["type"]) for one in problem["errors"]] == [
        (["body", "operations", 1, "task"], "no_fields")
    ]


@ONCE
def test_several_errors_are_reported_together(alice: Client) -> None:
    problem = assert_problem(send(alice, *[create("")] * 100), 422, "VALIDATION_ERROR")
    assert [one["loc"] for one in problem["errors"]] == [["body", "operations", n, "task", "title"] for n in range(20)]
    assert problem["detail"].endswith("; and 80 more")


@ONCE
@pytest.mark.parametrize("first", ["replace", "patch", "delete"])
@pytest.mark.parametrize("task_id", [5, 0, 2**63, 2**64])
def test_the_same_task_twice_is_refused_and_the_second_one_named(alice: Client, first: str, task_id: int) -> None:
    response = send(alice, create(), any_change(first, task_id), delete(6), delete(task_id), delete(task_id))
    problem = assert_problem(response, 422, "VALIDATION_ERROR")
    expected = [(["body", "operations", index, "id"], "repeated_id") for index in (3, 4)]
    assert [(one["loc"], one["type"]) for one in problem["errors"]] == expected


@ONCE
@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        ({}, ["operations"], "missing"),
        ({"operations": []}, ["operations"], "too_short"),
        ({"operations": [delete(number) for number in range(101)]}, ["operations"], "too_long"),
        ({"operations": {}}, ["operations"], "list_type"),
        ({"operations": None}, ["operations"], "list_type"),
        ({"operations": [create()], "dry_run": True}, ["dry_run"], "extra_forbidden"),
        ([create()], [], "model_attributes_type"),
        (None, [], "model_attributes_type"),
        ({str(number): 1 for number in range(21)}, [], "too_many_members"),
    ],
    ids=str,
)
def test_a_batch_is_an_object_with_1_to_100_operations(alice: Client, body: object, loc: list[str], kind: str) -> None:
    response = alice.request("POST", "batch", content=json.dumps(body), headers={"Content-Type": "application/json"})
    problem = assert_problem(response, 422, "VALIDATION_ERROR")
    assert [(one["loc"], one["type"]) for one in problem["errors"]] == [(["body", *loc], kind)]


def padded(operations: Sequence[Json], size: int) -> bytes:
    body = json.dumps({"operations": operations}).encode()
    return body[:-1] + b" " * (size - len(body)) + b"}"


def test_a_batch_of_too_many_operations_is_told_the_maximum(alice: Client) -> None:
    creations = {"operations": [{"op": "create", "task": {"title": "x"}}] * 101}
    response = alice.request("POST", "batch", json=creations)
    assert response.json()["detail"] == "operations: must have at most 100 items, not 101"


def test_a_batch_may_have_1_mib_and_not_a_byte_more(alice: Client) -> None:
    headers = {"Content-Type": "application/json"}
    largest = [create("\U0001f9c0" * 200, description="\U0001f9c0" * 1000, key="k" * 200 + str(n)) for n in range(70)]
    body = padded(largest, MIB)
    assert len(body) == MIB
    response = alice.request("POST", "batch", content=body, headers=headers)
    assert response.status_code == 200, response.text
    assert len(alice.titles()) == 70

    def chunks() -> Iterator[bytes]:
        yield from (body, b" ")

    for content in (padded(largest, MIB + 1), chunks()):
        assert_problem(alice.request("POST", "batch", content=content, headers=headers), 413, "PAYLOAD_TOO_LARGE")
    # Other requests keep their limit.
    large = b" " * 65_000 + json.dumps({"title": "x" * 200, "description": "x" * 1000}).encode()
    assert_problem(alice.request("POST", content=large, headers=headers), 413, "PAYLOAD_TOO_LARGE")


@ONCE
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_path_of_batches_is_not_that_of_a_task(alice: Client, method: str) -> None:
    response = alice.request(method, "batch")
    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    if method != "HEAD":
        assert_problem(response, 405, "METHOD_NOT_ALLOWED")


def test_a_batch_may_have_a_slash_at_its_end_and_no_query(alice: Client) -> None:
    body = {"operations": [create()]}
    assert alice.request("POST", f"{alice.home}/batch/", json=body).status_code == 200
    assert_problem(alice.request("POST", f"{alice.home}/batch?dry_run=1", json=body), 422, "VALIDATION_ERROR")


# --- any input

_SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
_ANY = st.recursive(_SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))
_NEARLY = st.fixed_dictionaries(
    {"op": st.sampled_from(["create", "replace", "patch", "delete"]) | _ANY},
    optional={
        "id": st.sampled_from([0, 1, -1, 2**63 - 1, 2**63, 2**64, 1e308, -1e20]) | _ANY,
        "task": st.fixed_dictionaries(
            {}, optional={"title": st.text(max_size=3), "description": st.text() | st.none(), "complete": _SCALARS}
        )
        | _ANY,
        "if_match": st.sampled_from(["*", '"1"', 'W/"1"', '"1", "2"', '"99999999999999999999"']) | _ANY,
        "key": st.text('ab"\\', min_size=1) | _ANY,
    },
)


@given(operations=st.lists(_NEARLY, max_size=4) | _ANY)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_input_is_an_error_of_the_service(service: Service, operations: object) -> None:
    body = json.dumps({"operations": operations}).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/json"}
    response = service.client("hypothesis").request("POST", "batch", content=body, headers=headers)
    assert response.status_code < 500, response.text


# --- the same as requests of their own

_CREATE = st.builds(
    lambda title, key: create(title, **({"key": key} if key else {})),
    st.sampled_from(["Buy milk", "a"]),
    st.sampled_from([None, "used", "doomed", "new"]),
)
_CONDITION = st.sampled_from([None, "*", '"1"', '"2"', '"6"', '"1", "2"'])
_ON_TASK = st.tuples(st.sampled_from(["replace", "patch", "delete"]), st.sampled_from(["Buy milk", "b"]), _CONDITION)
_ON_TASKS = st.dictionaries(st.integers(0, 3), _ON_TASK)


@dataclass
class Twin:
    """A user with the same history as any other twin: two tasks, a deleted one, and two keys."""

    client: Client

    def __post_init__(self) -> None:
        self.ids = [self.client.create()["id"] for _ in range(3)]
        for key in ("used", "doomed"):
            created = self.client.request("POST", json=MILK, headers={"Idempotency-Key": key})
        for task_id in (self.ids[2], created.json()["id"]):
            assert self.client.request("DELETE", task_id).status_code == 204
        self.ids.append(2**62)

    def operation(self, number: int, op: str, title: str, if_match: str | None) -> Json:
        body = {"replace": replace, "patch": patch}[op](self.ids[number], title) if op != "delete" else {}
        return {"op": op, "id": self.ids[number], **body} | ({"if_match": if_match} if if_match else {})

    def send_alone(self, operation: Json) -> int:
        """Sends the operation as a request of its own, and returns the status that it has in a batch."""
        if operation["op"] == "create":
            headers = {"Idempotency-Key": operation["key"]} if "key" in operation else {}
            return self.client.request("POST", json=operation["task"], headers=headers).status_code
        if operation["op"] == "delete" and operation["id"] == self.ids[2]:
            return 204
        method = {"replace": "PUT", "patch": "PATCH", "delete": "DELETE"}[operation["op"]]
        headers = {"If-Match": operation["if_match"]} if "if_match" in operation else {}
        body = {"json": operation["task"]} if "task" in operation else {}
        return self.client.request(method, operation["id"], headers=headers, **body).status_code

    def tasks(self) -> list[Json]:
        """The tasks and deletions, without what differs between twins."""
        page = changes(self.client).json()
        numbers = {one["id"]: number for number, one in enumerate(sorted(page["tasks"] + page["deleted"], key=_by_id))}
        varying = ("created_at", "updated_at", "deleted_at", "user_id")
        return [
            {name: value for name, value in one.items() if name not in varying} | {"id": numbers[one["id"]]}
            for one in page["tasks"] + page["deleted"]
        ]


def _by_id(task: Json) -> int:
    return int(task["id"])


@given(creations=st.lists(_CREATE, max_size=3), changed=_ON_TASKS, order=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_batch_does_what_its_operations_would_do_alone_or_nothing(
    service: Service, creations: list[Json], changed: dict[int, tuple[str, str, str | None]], order: Random
) -> None:
    one, other = Twin(service.client()), Twin(service.client())
    plan: list[Json | int] = [*creations, *changed]
    order.shuffle(plan)
    if not plan:
        return
    batch, alone = (
        [twin.operation(step, *changed[step]) if isinstance(step, int) else step for step in plan]
        for twin in (one, other)
    )
    before = one.tasks()
    response = send(one.client, *batch)
    statuses: list[int] = []
    for operation in alone:
        statuses.append(other.send_alone(operation))
        if statuses[-1] >= 400:
            assert response.status_code == statuses[-1], response.text
            assert response.json()["errors"][0]["loc"][2] == len(statuses) - 1
            assert one.tasks() == before
            return
    assert [result["status"] for result in response.json()["results"]] == statuses
    assert one.tasks() == other.tasks()
