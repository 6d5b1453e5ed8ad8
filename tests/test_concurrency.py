"""Many at once: nothing is lost, nothing is doubled, nothing runs backwards.

Whoever sends whole requests from threads sees few of them meet. Here all but the last byte of each is sent first, and then the last
bytes one right after the other.
"""

import asyncio
import json
import socket
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPResponse
from itertools import pairwise
from threading import Event
from typing import Any
from urllib.parse import urlsplit

import httpx2
from sqlalchemy.sql.base import Executable

from support.rows import execute
from support.service import Client, Json, Service, sign
from taskwell.database import postgres, sqlite
from taskwell.database.interface import compile_statement
from taskwell.database.urls import SQLiteURL, parse_database_url
from taskwell.tasks import statements

Asked = tuple[Client, str, str, object]
Look = set[tuple[Any, ...]]


def _request(client: Client, method: str, path: str, body: object) -> bytes:
    content = json.dumps(body)
    return (
        f"{method} {client.home}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}"
    ).encode()


def _at_once(asked: Sequence[Asked]) -> list[httpx2.Response]:
    """The answers to requests that are complete at the same moment, all but."""
    address = urlsplit(str(asked[0][0].http.base_url))
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=20)) for _ in asked
        ]
        requests = [_request(*one) for one in asked]
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[:-1])
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[-1:])
        return [_answer(connection) for connection in connections]


def _answer(connection: socket.socket) -> httpx2.Response:
    answer = HTTPResponse(connection)
    answer.begin()
    return httpx2.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def _patches(client: Client, task: Json, members: Sequence[Json]) -> list[Json]:
    answers = _at_once([(client, "PATCH", f"/{task['id']}", patch) for patch in members])
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def test_concurrent_patches_of_different_members_are_all_kept(alice: Client) -> None:
    for _ in range(10):
        task = alice.create()
        _patches(alice, task, [{"title": "new"}, {"description": "new"}, {"complete": True}])
        now = alice.request("GET", task["id"]).json()
        assert (now["title"], now["description"], now["complete"]) == ("new", "new", True)


def test_of_forty_concurrent_patches_none_undoes_what_another_did(alice: Client) -> None:
    task = alice.create()
    patches: list[Json] = [
        patch
        for number in range(14)
        for patch in ({"title": f"title {number}"}, {"description": f"description {number}"}, {"complete": True})
    ][:40]
    answers = _patches(alice, task, patches)
    for patch, answer in zip(patches, answers, strict=True):
        assert patch.items() <= answer.items()
    # Only the first `complete` changes something, so that the others answer with what they found.
    states = {state["updated_at"]: state for state in [task, *answers]}
    in_turn = [states[moment] for moment in sorted(states)]
    assert len(in_turn) == 1 + 14 + 13 + 1
    for before, after in pairwise(in_turn):
        assert len(after.items() - before.items() - {("updated_at", after["updated_at"])}) == 1
    assert alice.request("GET", task["id"]).json() == in_turn[-1]


def test_concurrent_writes_of_one_task_are_told_apart_by_their_time(alice: Client) -> None:
    task = alice.create()
    answers = _patches(alice, task, [{"title": f"title {number}"} for number in range(40)])
    assert len({answer["updated_at"] for answer in answers}) == 40
    assert alice.request("GET", task["id"]).json() == max(answers, key=lambda answer: str(answer["updated_at"]))


def test_a_replacement_and_a_patch_end_in_one_of_their_two_orders(alice: Client) -> None:
    for _ in range(10):
        path = f"/{alice.create(description='old')['id']}"
        put = {"title": "put", "complete": False}
        _at_once([(alice, "PUT", path, put), (alice, "PATCH", path, {"description": "patched"})])
        now = alice.request("GET", path.removeprefix("/")).json()
        assert (now["title"], now["description"]) in {("put", None), ("put", "patched")}


def test_concurrent_creations_are_as_many_tasks(alice: Client) -> None:
    answers = _at_once([(alice, "POST", "", {"title": f"task {number}"}) for number in range(50)])
    assert len({answer.json()["id"] for answer in answers}) == 50
    assert alice.request("GET").json()["count"] == 50


def test_one_of_many_concurrent_deletions_deletes(alice: Client) -> None:
    path = f"/{alice.create()['id']}"
    answers = _at_once([(alice, "DELETE", path, {})] * 10)
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 9


# --- revisions, and what they promise to whoever reads by them; see docs/adr/0002-revision-inside-the-write.md


def test_concurrent_writes_of_several_users_take_each_revision_once(service: Service) -> None:
    # Together fewer than are worked on at once.
    users = [service.client() for _ in range(3)]
    asked: list[Asked] = []
    for user in users:
        changed, deleted = ([f"/{user.create()['id']}" for _ in range(5)] for _ in range(2))
        asked += [(user, "PATCH", path, {"title": "new"}) for path in changed]
        asked += [(user, "DELETE", path, {}) for path in deleted]
        asked += [(user, "POST", "", {"title": "new"})] * 5
    assert all(answer.is_success for answer in _at_once(asked))
    columns = "count(*), count(DISTINCT task.revision), max(task.revision), max(owner.revision)"
    assert [_look(service, user, columns) for user in users] == [{(15, 15, 25, 25)}] * 3


def test_whoever_has_seen_a_revision_has_seen_all_before_it(service: Service, alice: Client) -> None:
    paths = [f"/{alice.create()['id']}" for _ in range(5)]
    with _watched(service, alice) as looks:
        for number in range(5):
            patches = [(alice, "PATCH", path, {"title": f"title {number}{n}"}) for path in paths for n in range(3)]
            _at_once([*patches, *[(alice, "POST", "", {"title": "another"})] * 20])
    for before, after in pairwise(looks):
        newest = max(revision for _, revision, _ in before)
        assert [revision for _, revision, _ in after - before if revision <= newest] == []
    for (task, _, earlier), (same, _, later) in pairwise(sorted(set().union(*looks))):
        assert task != same or earlier < later


def test_a_write_waits_for_the_one_that_took_its_revision_before(service: Service, alice: Client) -> None:
    first, second = alice.create()["id"], alice.create()["id"]
    with ThreadPoolExecutor(1) as thread:
        with _uncommitted(service, statements.delete_task, owner=alice.user, id=first):
            writing = thread.submit(alice.request, "PATCH", second, json={"title": "new"})
            time.sleep(0.3)
            assert not writing.done()
        assert writing.result().status_code == 200
    assert _look(service, alice, "id, task.revision") == {(first, 3), (second, 4)}


@contextmanager
def _uncommitted(service: Service, statement: Executable, **values: object) -> Generator[None]:
    """A write of another process, which is committed at the end."""
    url = parse_database_url(service.url_of_database)
    if isinstance(url, SQLiteURL):
        compiled = compile_statement(statement, sqlite._DIALECT)
        with closing(sqlite.connect(url.path)) as writer:
            writer.execute("BEGIN IMMEDIATE")
            writer.execute(compiled.sql, compiled.arguments(values))
            yield
            writer.execute("COMMIT")
        return
    compiled = compile_statement(statement, postgres._DIALECT)
    with asyncio.Runner() as loop:
        connection = loop.run(postgres.connect(url))
        try:
            loop.run(connection.execute("BEGIN"))
            loop.run(connection.execute(compiled.sql, *compiled.arguments(values)))
            yield
            loop.run(connection.execute("COMMIT"))
        finally:
            loop.run(connection.close())


@contextmanager
def _watched(service: Service, client: Client) -> Generator[list[Look]]:
    """What the database shows of a user's tasks, looked at again and again meanwhile."""
    looks: list[Look] = []
    done = Event()

    def watch() -> None:
        while not done.is_set():
            looks.append(_look(service, client, "id, task.revision, updated_at"))

    with ThreadPoolExecutor(1) as thread:
        watching = thread.submit(watch)
        try:
            yield looks
        finally:
            done.set()
        watching.result()


def _look(service: Service, client: Client, columns: str) -> Look:
    sql = f"SELECT {columns} FROM task JOIN owner USING (user_id) WHERE user_id = '{client.user}'"  # noqa: S608
    return set(execute(service.url_of_database, sql))
