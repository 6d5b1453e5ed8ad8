"""ETags: a client overwrites nothing that it has not seen, and does not load again what it has."""

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.etags import assert_not_modified, etag_of
from support.problem import assert_problem, assert_problem_details
from support.racing import Call, race, race_behind_a_writer, raw_response
from support.rows import execute
from support.service import Client, Json, Service, running, sign

PUT = ("PUT", {"title": "new", "complete": True})
PATCH = ("PATCH", {"title": "new"})
DELETE = ("DELETE", None)
EVERY_WRITE = (PUT, PATCH, DELETE)
WRITES = pytest.mark.parametrize(("method", "body"), EVERY_WRITE)
CHANGES = pytest.mark.parametrize(("method", "body"), [PUT, PATCH])
READS = pytest.mark.parametrize("method", ["GET", "HEAD"])

# For requests that are refused before they reach the database, whatever its kind.
ONCE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")

JSON = {"Content-Type": "application/json"}
BLANKS = " " * 60_000


def create_and_change(client: Client) -> tuple[Json, str, str]:
    """Returns a task that has changed, its ETag, and the one before."""
    task = client.create()
    old = etag_of(client, task["id"])
    changed: Json = client.request("PATCH", task["id"], json={"description": "newer"}).json()
    return changed, etag_of(client, task["id"]), old


def conditional(
    client: Client, task: Json | int, method: str, body: object = None, **headers: str | bytes
) -> httpx2.Response:
    """Sends a request with headers, in whose names underscores stand for hyphens."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.request(method, task if isinstance(task, int) else task["id"], json=body, headers=sent)


def assert_stale(client: Client, task: Json, etag: str, response: httpx2.Response) -> None:
    """Asserts that a write was refused without effect, and that the refusal shows the task as it is."""
    assert assert_problem(response, 412, "PRECONDITION_FAILED")["current"] == task
    assert response.headers["etag"] == etag
    assert_unchanged(client, task, etag)


def assert_unchanged(client: Client, task: Json, etag: str) -> None:
    shown = client.request("GET", task["id"])
    assert (shown.json(), shown.headers["etag"]) == (task, etag)


# --- the ETag of a task


def test_every_response_with_one_task_has_its_strong_etag(alice: Client) -> None:
    created = alice.request("POST", json={"title": "Buy milk"})
    task = created.json()
    replaced = conditional(alice, task, *PUT)
    patched = conditional(alice, task, "PATCH", {"title": "newer"})
    tags = [response.headers["etag"] for response in (created, replaced, patched)]
    assert len(set(tags)) == 3
    assert all(re.fullmatch(r'"[!#-~]+"', tag) for tag in tags)
    assert alice.request("HEAD", task["id"]).headers["etag"] == etag_of(alice, task["id"]) == tags[-1]


def test_the_etag_changes_exactly_when_the_task_changes(alice: Client, mallory: Client) -> None:
    task = alice.create()
    seen = [etag_of(alice, task["id"])]
    for change in ({"title": "a"}, {"description": "b"}, {"complete": True}, {"description": None}):
        for _ in ("once", "again"):
            assert conditional(alice, task, "PATCH", change).headers["etag"] == etag_of(alice, task["id"])
            seen.append(etag_of(alice, task["id"]))
        other = alice.create()
        conditional(alice, other, "PATCH", {"title": "other"})
        conditional(alice, other, "DELETE")
        mallory.create()
        assert etag_of(alice, task["id"]) == seen[-1]
    assert seen[1::2] == seen[2::2]
    assert len(set(seen)) == 5


# --- If-Match


@WRITES
@pytest.mark.parametrize(
    "form",
    ["{etag}", '"1" ,\t{etag}', ',,"a,b", {etag},', "*", 'W/{etag}, {etag}, ""'],
)
def test_a_write_happens_if_the_task_has_one_of_the_etags(alice: Client, method: str, body: object, form: str) -> None:
    task, etag, _ = create_and_change(alice)
    assert conditional(alice, task, method, body, If_Match=form.format(etag=etag)).is_success
    assert alice.titles() == ([] if method == "DELETE" else ["new"])


@pytest.mark.parametrize(
    "form",
    [
        "{old}", "W/{etag}", "{old}, W/{etag}", '"abc"', '"057"', '"99999999999999999999"', '"9223372036854775807"',
        '"9223372036854775808"', '"0"', '"-1"', '""', '"*"', '"2\\"', "{listed}",
    ],
)  # fmt: skip
def test_a_write_is_refused_if_the_task_has_none_of_the_etags(alice: Client, form: str) -> None:
    task, etag, old = create_and_change(alice)
    if_match = form.format(etag=etag, old=old, listed=etag_of(alice, ""))
    for method, body in EVERY_WRITE:
        assert_stale(alice, task, etag, conditional(alice, task, method, body, If_Match=if_match))


@pytest.mark.parametrize("form", ["  *\t", " {etag} ", "\t,, {etag},,\t", ""])
def test_white_space_around_a_header_is_not_part_of_it(alice: Client, form: str) -> None:
    task, etag, _ = create_and_change(alice)
    if_match = {"If-Match": form.format(etag=etag) + " \t "}
    (response,) = race([Call(alice, "PATCH", f"/{task['id']}", {"title": "new"}, if_match)])
    assert response.status_code == (200 if form else 400)


@ONCE
@pytest.mark.parametrize(
    "value",
    [
        "57", '"57', '57"', "", '*, "57"', '"57", *', "**", ",", ", ,", "W/57", 'w/"57"', 'W/ "57"', '"5 7"',
        '"57" "58"', '"57";', "'57'", '"57"W/"58"', '"\t"', "null",
        pytest.param("," * 60_000, id="commas"),
        pytest.param("," + " ," * 30_000, id="commas and blanks"),
        pytest.param(f",{BLANKS}x", id="blanks before x"),
        pytest.param(f'"57"{BLANKS}x', id="blanks behind a tag"),
        pytest.param(f"x{BLANKS}x", id="blanks behind x"),
        pytest.param('"' + "5" * 60_000, id="digits without an end"),
        pytest.param('W/"1"' * 12_000, id="tags without commas"),
    ],
)  # fmt: skip
def test_a_malformed_if_match_gets_400_at_once(alice: Client, value: str) -> None:
    task, etag, _ = create_and_change(alice)
    for method, body in EVERY_WRITE:
        started = time.perf_counter()
        response = conditional(alice, task, method, body, If_Match=value)
        assert time.perf_counter() - started < 3
        problem = assert_problem(response, 400, "VALIDATION_ERROR")
        assert [violation["loc"] for violation in problem["errors"]] == [["header", "If-Match"]]
        assert problem["detail"].startswith("header If-Match: must be * or a list of entity tags")
    assert_unchanged(alice, task, etag)


@ONCE
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", [b"\xff", b'"\xff', b"\xe2\x80\x9c57\xe2\x80\x9d"])
def test_bytes_outside_ascii_are_never_a_server_error(alice: Client, header: str, value: bytes) -> None:
    task = alice.create()
    for method, body in (PUT, PATCH, DELETE):
        response = alice.request(method, task["id"], json=body, headers={header: value})
        assert_problem(response, 400, "VALIDATION_ERROR")
    for path in ("", task["id"]):
        assert alice.request("GET", path, headers={header: value}).status_code == (200 if header == "If-Match" else 400)


def test_thousands_of_etags_are_accepted(alice: Client) -> None:
    task, etag, _ = create_and_change(alice)
    others = ",".join(f'"{number}"' for number in range(100_000, 106_500))
    for method, body in EVERY_WRITE:
        assert_stale(alice, task, etag, conditional(alice, task, method, body, If_Match=others))
        assert_stale(alice, task, etag, conditional(alice, task, method, body, If_None_Match=f"{others},{etag}"))
    for method, body in EVERY_WRITE:
        if_match = f"{others},{etag_of(alice, task['id'])}"
        assert conditional(alice, task, method, body, If_Match=if_match).is_success


@WRITES
@pytest.mark.parametrize("first", ['"abc"', ""])
def test_repeated_headers_are_one_list(alice: Client, method: str, body: object, first: str) -> None:
    task, etag, _ = create_and_change(alice)

    def send(*values: str) -> httpx2.Response:
        headers = [("Authorization", f"Bearer {sign(alice.user)}"), *(("If-Match", value) for value in values)]
        return alice.http.request(method, f"{alice.home}/{task['id']}", json=body, headers=headers)

    assert_problem(send('"abc"', first, "*"), 400, "VALIDATION_ERROR")
    assert_stale(alice, task, etag, send(first, '"98", "99"', "W/" + etag))
    assert send(first, etag).is_success


def test_a_stale_write_is_refused_in_problem_json_too(alice: Client) -> None:
    task, etag, old = create_and_change(alice)
    for method, body in EVERY_WRITE:
        response = conditional(alice, task, method, body, If_Match=old, Accept="application/problem+json")
        assert assert_problem_details(response, 412, "PRECONDITION_FAILED")["current"] == task
        assert response.headers["etag"] == etag


def test_a_refused_client_can_repeat_its_change_with_what_the_refusal_shows(alice: Client) -> None:
    task, _, old = create_and_change(alice)
    refused = conditional(alice, task, *PATCH, If_Match=old)
    changed = refused.json()["current"] | {"title": "again"}
    response = conditional(alice, task, "PUT", changed, If_Match=refused.headers["etag"])
    assert response.json() == changed | {"updated_at": response.json()["updated_at"]}


def test_a_refusal_writes_a_time_without_a_fraction_as_a_read_does(service: Service, alice: Client) -> None:
    task = alice.create()
    moment = "'2026-11-21 10:30:00.000000'"
    execute(
        service.url_of_database,
        f"UPDATE task SET created_at = {moment}, updated_at = {moment} WHERE id = {task['id']} RETURNING id",  # noqa: S608
    )
    shown = alice.request("GET", task["id"]).json()
    assert shown["updated_at"].endswith(":00.000000Z")
    assert_stale(alice, shown, etag_of(alice, task["id"]), conditional(alice, task, *PATCH, If_Match='"0"'))


@CHANGES
def test_a_stale_write_that_would_change_nothing_is_refused_too(alice: Client, method: str, body: Json) -> None:
    task, etag, old = create_and_change(alice)
    same = {name: task[name] for name in ("title", "description", "complete") if name in body or method == "PUT"}
    assert_stale(alice, task, etag, conditional(alice, task, method, same, If_Match=old))


@pytest.mark.parametrize("if_match", ["{etag}", "*", None])
@pytest.mark.parametrize("members", [("title",), ("description",), ("title", "description", "complete")])
def test_a_write_that_changes_nothing_leaves_no_trace(
    alice: Client, if_match: str | None, members: tuple[str, ...]
) -> None:
    task, etag, _ = create_and_change(alice)
    listed = etag_of(alice, "")
    headers = {"If_Match": if_match.format(etag=etag)} if if_match else {}
    bodies: list[tuple[str, Json]] = [("PATCH", {name: task[name] for name in members}), ("PUT", task)]
    for method, body in bodies:
        response = conditional(alice, task, method, body, **headers)
        assert (response.status_code, response.json(), response.headers["etag"]) == (200, task, etag)
        assert response.headers["taskwell-revision"] == etag.strip('"')
    assert etag_of(alice, "") == listed


@WRITES
def test_a_missing_task_is_not_found_whatever_the_condition(
    alice: Client, mallory: Client, method: str, body: object
) -> None:
    gone = alice.create()["id"]
    alice.request("DELETE", gone)
    missing = (gone, mallory.create()["id"], 2**63 - 1, 2**63, 0)
    for task_id, if_match in product(missing, ["*", '"1"', '"2"', 'W/"1"']):
        assert_problem(conditional(alice, task_id, method, body, If_Match=if_match), 404, "NOT_FOUND")
        assert_problem(conditional(alice, task_id, method, body, If_None_Match=if_match), 404, "NOT_FOUND")


@ONCE
def test_requests_are_refused_for_the_first_of_these_reasons(alice: Client, mallory: Client) -> None:
    task, _, old = create_and_change(alice)
    path, stale = f"{alice.home}/{task['id']}", {"If-Match": old}
    missing = f"{alice.home}/{2**62}"
    anonymous = alice.http.patch(path, json={}, headers={"If-Match": "57"})
    assert_problem(anonymous, 401, "AUTH_MISSING")
    assert_problem(mallory.request("PATCH", path, json={}, headers={"If-Match": "57"}), 403, "AUTH_FORBIDDEN")
    assert_problem(
        alice.request("PATCH", path, json={"title": ""}, headers={"If-Match": "57"}), 400, "VALIDATION_ERROR"
    )
    for target in (path, missing):
        assert_problem(alice.request("PATCH", target, json={}, headers=stale), 400, "VALIDATION_ERROR")
        assert_problem(alice.request("PATCH", target, json={"title": ""}, headers=stale), 422, "VALIDATION_ERROR")
        assert_problem(alice.request("DELETE", f"{target}?x=1", headers=stale), 422, "VALIDATION_ERROR")
    assert_problem(alice.request("PATCH", missing, json={"title": "a"}, headers=stale), 404, "NOT_FOUND")
    assert_problem(alice.request("PATCH", path, json={"title": "a"}, headers=stale), 412, "PRECONDITION_FAILED")


_HEADER = st.binary(max_size=30) | st.text('"W/*,57 \\-a', max_size=30).map(str.encode)


@ONCE
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["If-Match", "If-None-Match", "Idempotency-Key"]), value=_HEADER)
def test_a_header_of_any_bytes_is_never_a_server_error(alice: Client, name: str, value: bytes) -> None:
    text = re.sub(rb"[\0\r\n]", b"", value).decode("latin-1")
    task = alice.create()["id"]
    calls = [
        Call(alice, method, path, body, {name: text})
        for method, path, body in [("GET", "", None), ("POST", "", PUT[1]), ("GET", f"/{task}", None)]
        + [(method, f"/{task}", body) for method, body in EVERY_WRITE]
    ]
    for call in calls:
        (response,) = race([call])
        assert response.status_code in (200, 201, 204, 304, 400, 404, 410, 412, 422)


# --- If-None-Match on one task


@pytest.mark.parametrize("form", ["{etag}", "W/{etag}", "*", '"1", {etag}', "{old},{etag},", ',W/"abc", W/{etag}'])
def test_a_task_that_has_not_changed_is_not_sent_again(alice: Client, form: str) -> None:
    task, etag, old = create_and_change(alice)
    for method, slash in product(("GET", "HEAD"), ("", "/")):
        headers = {"If-None-Match": form.format(etag=etag, old=old)}
        assert_not_modified(alice.request(method, f"{alice.home}/{task['id']}{slash}", headers=headers), etag)


@pytest.mark.parametrize("form", ["{old}", "W/{old}", '"abc"', "{listed}", '""', '"*"', '"99999999999999999999"'])
def test_a_task_that_has_changed_is_sent(alice: Client, form: str) -> None:
    task, etag, old = create_and_change(alice)
    if_none_match = form.format(old=old, listed=etag_of(alice, ""))
    for method in ("GET", "HEAD"):
        response = conditional(alice, task, method, If_None_Match=if_none_match)
        assert (response.status_code, response.headers["etag"]) == (200, etag)
        assert response.content == alice.request(method, task["id"]).content


@READS
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_a_missing_task_is_never_unchanged(alice: Client, method: str, header: str) -> None:
    for value in ("*", '"1"', 'W/"1"'):
        response = alice.request(method, 2**62, headers={header: value})
        assert (response.status_code, response.headers["cache-control"]) == (404, "no-store")


@READS
@pytest.mark.parametrize("path", ["", "/{id}"])
def test_a_304_ends_with_its_head_and_keeps_the_connection(alice: Client, method: str, path: str) -> None:
    path = path.format(id=alice.create()["id"])
    call = Call(alice, method, path, headers={"If-None-Match": "*"})
    head, _, rest = raw_response(call, Call(alice, "GET", path, headers={"Connection": "close"})).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 304 Not Modified\r\n")
    assert b"content-" not in head.lower().replace(b"x-content-type-options", b"")
    assert b"transfer-encoding" not in head.lower()
    assert rest.startswith(b"HTTP/1.1 200 OK\r\n")


# --- If-None-Match on writes: RFC 9110, section 13.1.2


@pytest.mark.parametrize("form", ["*", "{etag}", "W/{etag}", '"abc", {etag}', 'W/"1", W/{etag}'])
def test_a_write_is_refused_if_the_task_has_an_etag_that_it_must_not_have(alice: Client, form: str) -> None:
    task, etag, _ = create_and_change(alice)
    for (method, body), also in product(EVERY_WRITE, ({}, {"If_Match": "*"}, {"If_Match": etag})):
        response = conditional(alice, task, method, body, If_None_Match=form.format(etag=etag), **also)
        assert_stale(alice, task, etag, response)


@WRITES
@pytest.mark.parametrize(
    ("form", "if_match"), [("{old}", None), ("W/{old}", "*"), ('"abc"', "{etag}"), ('"99999999999999999999"', None)]
)
def test_a_write_happens_if_the_task_has_none_of_the_etags_that_it_must_not_have(
    alice: Client, method: str, body: object, form: str, if_match: str | None
) -> None:
    task, etag, old = create_and_change(alice)
    also = {"If_Match": if_match.format(etag=etag)} if if_match else {}
    assert conditional(alice, task, method, body, If_None_Match=form.format(old=old), **also).is_success


# --- where the operator demands If-Match


@pytest.fixture(scope="module")
def strict(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url, TASKWELL_REQUIRE_IF_MATCH="true") as service:
        yield service


@WRITES
@pytest.mark.parametrize("headers", [{}, {"If_None_Match": '"1"'}, {"If_None_Match": "*"}])
def test_an_operator_can_demand_if_match(strict: Service, method: str, body: object, headers: dict[str, str]) -> None:
    client = strict.client()
    task, etag, old = create_and_change_strictly(client)
    assert_problem(conditional(client, task, method, body, **headers), 428, "PRECONDITION_REQUIRED")
    assert_unchanged(client, task, etag)
    missing = conditional(client, 2**62, method, body, Accept="application/problem+json", **headers)
    assert_problem_details(missing, 428, "PRECONDITION_REQUIRED")
    assert_problem(conditional(client, 2**62, method, body, If_Match="*"), 404, "NOT_FOUND")
    assert_stale(client, task, etag, conditional(client, task, method, body, If_Match=old))


def create_and_change_strictly(client: Client) -> tuple[Json, str, str]:
    created = client.request("POST", json={"title": "Buy milk"})
    old = created.headers["etag"]
    changed = conditional(client, created.json(), "PATCH", {"description": "newer"}, If_Match=old)
    return changed.json(), changed.headers["etag"], old


@WRITES
@pytest.mark.parametrize("form", ["*", "{etag}", '"1", {etag}'])
def test_a_write_with_if_match_satisfies_the_operator(strict: Service, method: str, body: object, form: str) -> None:
    client = strict.client()
    task, etag, _ = create_and_change_strictly(client)
    assert conditional(client, task, method, body, If_Match=form.format(etag=etag)).is_success


@CHANGES
def test_the_demand_for_if_match_comes_after_all_complaints_about_the_request(
    strict: Service, method: str, body: object
) -> None:
    client, stranger = strict.client(), strict.client()
    path = f"{client.home}/{client.create()['id']}"
    assert_problem(client.http.request(method, path, json=body), 401, "AUTH_MISSING")
    assert_problem(stranger.request(method, path, json=body), 403, "AUTH_FORBIDDEN")
    for target in (path, f"{client.home}/{2**62}"):
        assert_problem(client.request(method, target, content=b"{", headers=JSON), 400, "VALIDATION_ERROR")
        assert_problem(client.request(method, target, json={"title": ""}), 422, "VALIDATION_ERROR")
        assert_problem(client.request(method, target, json=body, headers={"If-Match": ""}), 400, "VALIDATION_ERROR")
        assert_problem(client.request(method, f"{target}?x=1", json=body), 422, "VALIDATION_ERROR")


def test_reading_and_creating_need_no_if_match(strict: Service) -> None:
    client = strict.client()
    task = client.create()
    assert client.request("GET", task["id"]).json() == task
    assert client.titles() == ["Buy milk"]


# --- revisions


def test_every_write_says_its_revision(alice: Client) -> None:
    def revision(response: httpx2.Response) -> int:
        assert response.is_success, response.text
        number = response.headers["taskwell-revision"]
        assert response.headers.get("etag", f'"{number}"') == f'"{number}"'
        return int(number)

    created = alice.request("POST", json={"title": "a"})
    path = created.json()["id"]
    replaced = alice.request("PUT", path, json={"title": "b", "complete": True})
    patched = alice.request("PATCH", path, json={"title": "c"})
    unchanged = alice.request("PATCH", path, json={"title": "c"})
    other = alice.request("POST", json={"title": "other"})
    still_unchanged = alice.request("PUT", path, json=patched.json())
    deleted = alice.request("DELETE", path)
    responses = (created, replaced, patched, unchanged, other, still_unchanged, deleted)
    assert [revision(response) for response in responses] == [1, 2, 3, 3, 4, 3, 5]
    assert "taskwell-revision" not in alice.request("GET").headers


def test_a_merge_patch_that_changes_nothing_leaves_no_trace(alice: Client) -> None:
    task, etag, _ = create_and_change(alice)
    listed = etag_of(alice, "")
    merge_patch = {"Content-Type": "application/merge-patch+json"}
    for content in (b'{"title": "Buy milk"}', b'{"description": "newer", "complete": false}'):
        response = alice.request("PATCH", task["id"], content=content, headers=merge_patch)
        assert (response.status_code, response.json(), response.headers["etag"]) == (200, task, etag)
        assert response.headers["taskwell-revision"] == etag.strip('"')
    assert etag_of(alice, "") == listed
    cleared = alice.request("PATCH", task["id"], content=b'{"description": null}', headers=merge_patch)
    assert (cleared.json()["description"], cleared.headers["etag"]) == (None, etag_of(alice, task["id"]))
    assert cleared.headers["etag"] != etag


# --- many clients at once


def test_one_of_forty_writers_with_the_same_etag_wins(service: Service, alice: Client) -> None:
    task, etag, _ = create_and_change(alice)
    before = int(etag.strip('"'))
    calls = [
        Call(alice, "PATCH", f"/{task['id']}", {"title": f"title {number}"}, {"If-Match": etag}) for number in range(40)
    ]
    responses = race_behind_a_writer(service, calls)
    assert sorted(response.status_code for response in responses) == [200] + [412] * 39
    winner = next(response for response in responses if response.status_code == 200)
    assert winner.headers["taskwell-revision"] == str(before + 1)
    for response in responses:
        assert response.headers["etag"] == winner.headers["etag"]
        if response is not winner:
            assert response.json()["current"] == winner.json()
    assert_unchanged(alice, winner.json(), winner.headers["etag"])
    # The losers took no revision.
    assert alice.request("POST", json={"title": "a"}).headers["taskwell-revision"] == str(before + 2)


def test_one_of_many_deletions_with_the_same_etag_wins_and_the_others_find_nothing(
    service: Service, alice: Client
) -> None:
    task, etag, _ = create_and_change(alice)
    responses = race_behind_a_writer(
        service, [Call(alice, "DELETE", f"/{task['id']}", headers={"If-Match": etag})] * 20
    )
    assert sorted(response.status_code for response in responses) == [204] + [404] * 19


def test_writers_that_want_the_same_change_all_find_it_made(service: Service, alice: Client) -> None:
    task, etag, _ = create_and_change(alice)
    responses = race_behind_a_writer(service, [Call(alice, "PATCH", f"/{task['id']}", {"title": "new"})] * 20)
    assert {response.status_code for response in responses} == {200}
    assert {response.headers["taskwell-revision"] for response in responses} == {str(int(etag.strip('"')) + 1)}
    assert len({response.content for response in responses}) == 1


def test_changes_and_a_deletion_at_once_take_a_revision_only_if_they_happen(service: Service, alice: Client) -> None:
    path = f"/{alice.create()['id']}"
    calls = [Call(alice, "PATCH", path, {"title": f"title {number % 5}"}) for number in range(30)]
    responses = race_behind_a_writer(service, [*calls[:10], Call(alice, "DELETE", path), *calls[10:]])
    assert responses[10].status_code == 204
    changed = [response for response in responses if response.status_code == 200]
    assert {response.status_code for response in responses} <= {200, 204, 404}
    taken = {int(response.headers["taskwell-revision"]) for response in [*changed, responses[10]]} - {1}
    assert taken == {*range(2, len(taken) + 2)}
    assert int(responses[10].headers["taskwell-revision"]) == max(taken)
    assert alice.request("POST", json={"title": "a"}).headers["taskwell-revision"] == str(len(taken) + 2)


@pytest.mark.slow
def test_clients_that_read_and_retry_lose_no_update(alice: Client) -> None:
    task = alice.create("0")

    def increment(_: int) -> None:
        for _ in range(5):
            status = 412
            while status == 412:
                seen = alice.request("GET", task["id"])
                patch = {"title": str(int(seen.json()["title"]) + 1)}
                response = conditional(alice, task, "PATCH", patch, If_Match=seen.headers["etag"])
                status = response.status_code
            assert status == 200

    with ThreadPoolExecutor(8) as clients:
        list(clients.map(increment, range(8)))
    assert alice.titles() == ["40"]
