"""Many at once: nothing is lost, nothing is doubled, nothing runs backwards.

Whoever sends whole requests from threads sees few of them meet. Here all but the last byte of each is sent first, and then the last
bytes one right after the other.
"""

import json
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from http.client import HTTPResponse
from urllib.parse import urlsplit

import httpx

from service import Client, Json, sign

Asked = tuple[str, str, object]


def _request(client: Client, method: str, path: str, body: object) -> bytes:
    content = json.dumps(body)
    return (
        f"{method} {client.home}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(client.user)}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n{content}"
    ).encode()


def _at_once(client: Client, asked: Sequence[Asked]) -> list[httpx.Response]:
    """The answers to requests that are complete at the same moment, all but."""
    address = urlsplit(str(client.http.base_url))
    with ExitStack() as stack:
        connections = [
            stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=20)) for _ in asked
        ]
        requests = [_request(client, *one) for one in asked]
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[:-1])
        for connection, request in zip(connections, requests, strict=True):
            connection.sendall(request[-1:])
        return [_answer(connection) for connection in connections]


def _answer(connection: socket.socket) -> httpx.Response:
    answer = HTTPResponse(connection)
    answer.begin()
    return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def _patches(client: Client, task: Json, members: Sequence[Json]) -> list[Json]:
    answers = _at_once(client, [("PATCH", f"/{task['id']}", patch) for patch in members])
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json() for answer in answers]


def test_concurrent_patches_of_different_members_are_all_kept(alice: Client) -> None:
    for _ in range(10):
        task = alice.create()
        _patches(alice, task, [{"title": "new"}, {"description": "new"}, {"complete": True}])
        now = alice.request("GET", task["id"]).json()
        assert (now["title"], now["description"], now["complete"]) == ("new", "new", True)


def test_concurrent_writes_of_one_task_are_told_apart_by_their_time(alice: Client) -> None:
    task = alice.create()
    answers = _patches(alice, task, [{"title": f"title {number}"} for number in range(40)])
    assert len({answer["updated_at"] for answer in answers}) == 40
    assert alice.request("GET", task["id"]).json() == max(answers, key=lambda answer: str(answer["updated_at"]))


def test_a_replacement_and_a_patch_end_in_one_of_their_two_orders(alice: Client) -> None:
    for _ in range(10):
        path = f"/{alice.create(description='old')['id']}"
        _at_once(
            alice, [("PUT", path, {"title": "put", "complete": False}), ("PATCH", path, {"description": "patched"})]
        )
        now = alice.request("GET", path.removeprefix("/")).json()
        assert (now["title"], now["description"]) in {("put", None), ("put", "patched")}


def test_concurrent_creations_are_as_many_tasks(alice: Client) -> None:
    answers = _at_once(alice, [("POST", "", {"title": f"task {number}"}) for number in range(50)])
    assert len({answer.json()["id"] for answer in answers}) == 50
    assert alice.request("GET").json()["count"] == 50


def test_one_of_many_concurrent_deletions_deletes(alice: Client) -> None:
    path = f"/{alice.create()['id']}"
    answers = _at_once(alice, [("DELETE", path, {})] * 10)
    assert sorted(answer.status_code for answer in answers) == [204] + [404] * 9
