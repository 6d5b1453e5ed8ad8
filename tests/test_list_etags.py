"""ETags of lists: a client does not load again what it has, and never takes an old list for the present one."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from support.etags import assert_not_modified, etag_of
from support.problem import assert_problem
from support.service import Client, Json, Service

CHANGES: list[tuple[str, Json]] = [("PATCH", {"title": "new"}), ("PUT", {"title": "newer", "complete": True})]
DELETE = ("DELETE", None)
QUERIES = ["", "?complete=true", "?complete=false", "?q=milk", "?sort=title", "?limit=1", "?offset=1", "?limit=1&q=m"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_list_that_has_not_changed_is_not_sent_again(alice: Client, method: str) -> None:
    alice.create()
    alice.create()
    for path in (f"{alice.home}{slash}{query}" for slash in ("", "/") for query in QUERIES):
        etag = etag_of(alice, path)
        assert re.fullmatch(r'W/"[!#-~]+"', etag)
        strong = etag.removeprefix("W/")
        for known in (etag, strong, "*", f'"1", {etag}', f',W/"abc",{etag},'):
            assert_not_modified(alice.request(method, path, headers={"If-None-Match": known}), etag)


def test_every_write_of_a_user_changes_the_etag_of_all_their_lists(alice: Client) -> None:
    def tags() -> list[str]:
        return [etag_of(alice, alice.home + query) for query in QUERIES]

    seen = [tags()]
    task = alice.create()
    seen.append(tags())
    for method, body in (*CHANGES, DELETE):
        alice.request(method, task["id"], json=body)
        seen.append(tags())
    for before in seen[:-1]:
        for query, tag in zip(QUERIES, before, strict=True):
            assert alice.request("GET", alice.home + query, headers={"If-None-Match": tag}).status_code == 200
    assert len({tag for row in seen for tag in row}) == len(seen) * len(QUERIES)


def test_what_other_users_do_never_changes_the_etag_of_a_list(alice: Client, mallory: Client) -> None:
    alice.create()
    etag = etag_of(alice, "")
    task = mallory.create()
    for method, body in (*CHANGES, ("PATCH", {"complete": False}), DELETE):
        mallory.request(method, task["id"], json=body)
        assert etag_of(alice, "") == etag
        assert alice.request("GET", headers={"If-None-Match": etag}).status_code == 304


@pytest.mark.parametrize("headers", [{}, {"If-Match": '"1"'}, {"If-Match": "*"}])
def test_a_refused_or_idle_write_keeps_the_etag_of_a_list(alice: Client, headers: dict[str, str]) -> None:
    task = alice.create()
    etag = etag_of(alice, "")
    patches: list[Json] = [{"title": "Buy milk"}, {}, {"title": ""}, {"complete": False}]
    for patch in patches:
        alice.request("PATCH", task["id"], json=patch, headers=headers)
    for method, body in (*CHANGES, DELETE):
        alice.request(method, task["id"], json=body, headers={"If-Match": '"0"'})
    alice.request("DELETE", 2**62)
    assert alice.request("GET", headers={"If-None-Match": etag}).status_code == 304


def test_the_etag_of_one_query_never_hides_the_result_of_another(alice: Client) -> None:
    alice.create("Buy milk", complete=True)
    alice.create("Buy bread")
    tags = {query: etag_of(alice, alice.home + query) for query in QUERIES}
    assert len(set(tags.values())) == len(QUERIES)
    for query in QUERIES:
        others = ", ".join(tag for other, tag in tags.items() if other != query)
        assert alice.request("GET", alice.home + query, headers={"If-None-Match": others}).status_code == 200
        everything = ", ".join(tags.values())
        response = alice.request("GET", alice.home + query, headers={"If-None-Match": everything})
        assert_not_modified(response, tags[query])


@pytest.mark.parametrize(
    "value",
    [
        "{task}", 'W/"0-0-all"', 'W/"9223372036854775808-0-all"', 'W/"1-9999999999-all"', 'W/"01-1-all"', '"abc"', '""',
        'W/"99999999999999999999-1-all"', '"*"', 'W/"1--1-all"', 'W/"-1--1-all"', "{other}", "{upper}",
    ],
)  # fmt: skip
def test_a_tag_that_no_list_of_the_user_has_is_never_a_304(
    service: Service, alice: Client, mallory: Client, value: str
) -> None:
    task = alice.create()
    mallory.create()
    etag = etag_of(alice, "")
    sent = value.format(task=etag_of(alice, task["id"]), other=etag_of(mallory, ""), upper=etag.replace("all", "ALL"))
    response = alice.request("GET", headers={"If-None-Match": sent})
    assert (response.status_code, response.json()["tasks"]) == (200, [task]), service.engine


@pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")
@pytest.mark.parametrize("value", ["57", '"57', "", '*, "57"', ",", "," * 60_000, "," + " " * 60_000 + "x"])
@pytest.mark.parametrize("path", ["", "{id}"])
def test_a_malformed_if_none_match_gets_400_at_once(alice: Client, path: str, value: str) -> None:
    started = time.perf_counter()
    response = alice.request("GET", path.format(id=alice.create()["id"]), headers={"If-None-Match": value})
    assert time.perf_counter() - started < 3
    assert assert_problem(response, 400, "VALIDATION_ERROR")["errors"][0]["loc"] == ["header", "If-None-Match"]


@pytest.mark.parametrize("known", ["{etag}", "*"])
def test_a_user_without_tasks_has_an_etag_too_and_the_first_task_changes_it(alice: Client, known: str) -> None:
    etag = etag_of(alice, "")
    assert_not_modified(alice.request("GET", headers={"If-None-Match": known.format(etag=etag)}), etag)
    alice.create()
    response = alice.request("GET", headers={"If-None-Match": etag})
    assert (response.status_code, response.json()["count"]) == (200, 1)


@pytest.mark.slow
def test_a_list_that_is_being_changed_is_never_reported_as_unchanged(alice: Client) -> None:
    tasks = [alice.create()["id"] for _ in range(3)]
    finished = Event()

    def keep_writing(task_id: int) -> None:
        number = 0
        while not finished.is_set():
            number += 1
            alice.request("PATCH", task_id, json={"title": f"title {number}", "complete": number % 2 == 0})
            # Pauses, so that some reads find nothing changed.
            time.sleep(0.002 * (number % 7))

    contents: dict[str, bytes] = {}
    unchanged = 0
    queries = ["", "?complete=true", "?sort=title&limit=2"]
    with ThreadPoolExecutor(len(tasks)) as writers:
        running_writers = [writers.submit(keep_writing, task_id) for task_id in tasks]
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:
            for query in queries:
                first = alice.request("GET", alice.home + query)
                etag = first.headers["etag"]
                assert contents.setdefault(etag, first.content) == first.content
                again = alice.request("GET", alice.home + query, headers={"If-None-Match": etag})
                unchanged += again.status_code == 304
                if again.status_code == 200:
                    assert again.headers["etag"] != etag
                    assert contents.setdefault(again.headers["etag"], again.content) == again.content
        finished.set()
        for writer in running_writers:
            writer.result()
    assert len(contents) > len(queries)
    assert unchanged
    for query in queries:
        response = alice.request("GET", alice.home + query)
        assert contents.get(response.headers["etag"], response.content) == response.content


def test_a_write_that_was_acknowledged_shows_in_every_later_list(alice: Client) -> None:
    task = alice.create()
    for number in range(30):
        etag = etag_of(alice, "")
        alice.request("PATCH", task["id"], json={"title": f"title {number}"})
        response = alice.request("GET", headers={"If-None-Match": etag})
        assert (response.status_code, response.json()["tasks"][0]["title"]) == (200, f"title {number}")
