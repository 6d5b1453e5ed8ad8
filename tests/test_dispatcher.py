"""The short way to a route answers what the framework's does, to the byte."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import Depends, Header
from starlette.types import Receive, Scope, Send

from support.rows import execute
from support.service import Service, running, sign
from taskwell.app import Application
from taskwell.http.endpoint import Dispatcher, _is_known
from taskwell.tasks.routes import TaskRoute, router
from test_bad_input import MALFORMED, WRONG_SHAPE

ORIGIN = "https://app.example"
TIME = re.compile(rb'"\d{4}-\d\d-\d\dT[0-9:.]+Z"')
TITLES = ["Buy milk", '"quoted" \\ and / slashed', "\t\x7f\x1f\u2028 in between", "ünïcödé 𐀀 e\u0301", "x" * 200]

Asked = tuple[str, str, bytes | None, dict[str, str]]


@pytest.fixture
def ways(new_database_url: Callable[[str], str]) -> Iterator[list[Service]]:
    urls = [new_database_url("sqlite") for _ in range(2)]
    with (
        running("sqlite", DATABASE_URL=urls[0], TASKWELL_CORS_ORIGINS=ORIGIN, TASKWELL_DISPATCHER="on") as short,
        running("sqlite", DATABASE_URL=urls[1], TASKWELL_CORS_ORIGINS=ORIGIN, TASKWELL_DISPATCHER="off") as long,
    ):
        yield [short, long]


HOME = "/api/alice/tasks"
AS_JSON = {"Content-Type": "application/json"}


def in_order() -> Iterator[Asked]:
    """Makes tasks, asks for them, changes them."""
    for title, description, complete in itertools.product(TITLES, [None, "", "so\nso"], [True, False]):
        task = json.dumps({"title": title, "description": description, "complete": complete})
        yield "POST", HOME, task.encode(), AS_JSON
    queries = ["", "?limit=3", "?limit=3&offset=2", "?complete=true", "?complete=false&limit=1&other=1", "?offset=99"]
    for query, method in itertools.product(queries, ["GET", "HEAD"]):
        yield method, HOME + query, None, {}
    for path in (f"{HOME}/1", f"{HOME}/%31", f"{HOME}/1/", f"{HOME}/99", f"{HOME}/0", "/api/%61lice/tasks/1"):
        yield "GET", path, None, {}
        yield "HEAD", path, None, {}
        yield "PATCH", path, b'{"complete":true}', AS_JSON
        yield "PUT", path, b'{"title":"p","complete":true}', AS_JSON
    yield "GET", HOME, None, {"Origin": ORIGIN}
    yield "POST", HOME, b'{"title":"a"}', {"Content-Type": "application/vnd.api+json"}
    yield "DELETE", f"{HOME}/2", None, {}


def not_in_order() -> Iterator[Asked]:
    """Breaks every rule there is."""
    yield "DELETE", f"{HOME}/2", None, {}
    bodies = [*MALFORMED.values(), *[body for body, _ in WRONG_SHAPE.values()], b'{"title":"' + b"x" * 70000 + b'"}']
    for (method, path), body in itertools.product(
        [("POST", HOME), ("PUT", f"{HOME}/1"), ("PATCH", f"{HOME}/1"), ("PATCH", f"{HOME}/x")], bodies
    ):
        yield method, path, body, AS_JSON
    yield "POST", HOME, b'{"title":"a"}', {"Content-Type": "text/plain"}
    paths = (f"{HOME}/abc", f"{HOME}/-1", "/api/bob/tasks", "/api/bob/tasks/1", f"{HOME}/1/2", "/api/alice", "/nothing")
    for path, method in itertools.product(paths, ["GET", "DELETE", "POST", "OPTIONS"]):
        yield method, path, None, {}
    for query in ("limit=0", "limit=", "limit=1&limit=2", "complete=1", "offset=-1", "other=1&other=2"):
        yield "GET", f"{HOME}?{query}", None, {}
    for authorization in ("", "Basic eA==", f"Bearer {sign('alice', 'x' * 40)}", f"Bearer {sign('alice', exp=1)}"):
        yield "POST", HOME, b"{", {"Authorization": authorization}
    yield "GET", HOME, None, {"Accept": "application/problem+json", "Authorization": "Bearer x"}


def answer_of(service: Service, asked: Asked) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    method, path, content, headers = asked
    token = {"Authorization": f"Bearer {sign('alice')}", "X-Request-ID": "the-same"}
    answer = service.http.request(method, path, content=content, headers=token | headers)
    told = [header for header in answer.headers.raw if header[0].lower() != b"date"]
    return answer.status_code, told, TIME.sub(b'"T"', answer.content)


def test_both_ways_give_the_same_answers(ways: list[Service]) -> None:
    for asked in itertools.chain(in_order(), not_in_order()):
        short, long = (answer_of(service, asked) for service in ways)
        assert short == long, asked[:3]


def test_both_ways_write_times_alike(ways: list[Service]) -> None:
    answers = []
    for service in ways:
        client = service.client("clockmaker")
        for fraction in ("000000", "000001", "120000"):
            client.create(fraction)
            times = f"created_at = '2026-11-21 10:30:00.{fraction}', updated_at = '0999-01-01 00:00:00.{fraction}'"
            execute(service.url_of_database, f"UPDATE task SET {times} WHERE title = '{fraction}'")  # noqa: S608
        answers.append(client.request("GET").json()["tasks"])
    assert answers[0] == answers[1]
    assert [task["created_at"][19:] for task in answers[0]] == [".120000Z", ".000001Z", ".000000Z"]


def test_every_route_of_tasks_has_a_short_way() -> None:
    async def nowhere(*_: Any) -> None:
        raise AssertionError

    short = Dispatcher(nowhere, router.routes)
    known = {(path.pattern, method) for path, methods in short._endpoints.items() for method in methods}
    assert known == {(route.path_regex.pattern, method) for route in router.routes for method in route.methods}  # type: ignore[attr-defined]


def test_a_route_that_asks_for_more_goes_the_frameworks_way() -> None:
    async def outer(number: Annotated[int, Depends(lambda: 1)]) -> int:
        return number

    async def of_a_dependency(number: Annotated[int, Depends(outer)]) -> None: ...

    async def of_a_header(number: int, accept: Annotated[str, Header()]) -> None: ...

    def in_a_thread(number: int) -> None: ...

    async def known(number: int) -> None: ...

    assert [
        _is_known(TaskRoute("/{number}", function).dependant)
        for function in (of_a_dependency, of_a_header, in_a_thread, known)
    ] == [False, False, False, True]


def test_the_short_way_is_taken(ways: list[Service], monkeypatch: pytest.MonkeyPatch) -> None:
    the_frameworks_way = Application.framework

    async def closed_to_requests(app: Application, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await the_frameworks_way(app, scope, receive, send)

    monkeypatch.setattr(Application, "framework", closed_to_requests)
    with running("sqlite", migrate=False, DATABASE_URL=ways[0].url_of_database) as service:
        client = service.client()
        task = client.create()
        assert client.request("GET").json()["tasks"] == [task]
        assert client.request("PATCH", task["id"], json={"complete": True}).status_code == 200
        assert client.request("PUT", task["id"], json={"title": "a", "complete": True}).status_code == 200
        assert client.request("DELETE", task["id"]).status_code == 204
        assert client.request("GET", task["id"]).status_code == 404
        assert service.http.get("/docs").status_code == 500
