"""Traffic on the wire to PostgreSQL: one round trip for a request, also where no statement may have a name."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx2
import pytest

from support.relay import Relay
from support.service import Client, Json, Service, running
from taskwell.auth.tokens import UserId
from taskwell.database import postgres
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.etags import ListState
from taskwell.migrations.runner import upgrade
from taskwell.tasks.sync_tokens import token_of

ENGINES = ["postgres", "postgres-tls", "postgres-pooler"]


@contextmanager
def through_a_relay(url: str, **settings: str) -> Iterator[tuple[Service, Relay]]:
    upgrade(parse_database_url(url))
    # With one connection, so that the second request finds all its statements known there.
    with (
        Relay(url) as relay,
        running("postgres", migrate=False, DATABASE_URL=relay.url, TASKWELL_POOL_MAX="1", **settings) as service,
    ):
        yield service, relay


@pytest.fixture(scope="module", params=ENGINES)
def wired(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[tuple[Service, Relay]]:
    with through_a_relay(new_database_url(request.param)) as wired:
        yield wired


def once_of_each(client: Client, task: Json, doomed: Json, turn: int) -> list[tuple[str, int | str, Json | None]]:
    return [
        ("GET", "", None),
        ("GET", f"{client.home}?complete=false&limit=50&offset=0", None),
        ("GET", f"/api/{client.user}/changes?limit=50", None),
        ("GET", f"/api/{client.user}/export", None),
        ("POST", "", {"title": "new"}),
        ("GET", task["id"], None),
        ("PUT", task["id"], {"title": f"put {turn}", "complete": False}),
        ("PATCH", task["id"], {"title": f"patched {turn}"}),
        ("DELETE", doomed["id"], None),
        ("GET", f"/api/{client.user}/trash", None),
        ("GET", f"/api/{client.user}/trash?limit=1", None),
        ("POST", f"/api/{client.user}/trash/{doomed['id']}/restore", None),
        ("POST", "batch", {"operations": [{"op": "create", "task": {"title": f"{n}"}} for n in range(100)]}),
        ("DELETE", f"/api/{client.user}?confirm={client.user}", None),
    ]


def test_a_request_is_one_round_trip(wired: tuple[Service, Relay]) -> None:
    service, relay = wired
    client = service.client()
    for turn in range(2):
        task = client.create()
        for method, path, body in once_of_each(client, task, client.create(), turn):
            before = relay.round_trips
            assert client.request(method, path, json=body).is_success
            # A connection prepares a statement when it first meets it.
            if turn > 0:
                assert relay.round_trips - before == 1, f"{method} {path}"


def each_outcome(client: Client) -> Iterator[tuple[str, int, Callable[[], httpx2.Response]]]:
    """Yields each outcome that a read or a write can have, its status, and a function that sends such a request."""
    post: dict[str, Any] = {"method": "POST", "path": ""}
    new = {"title": "new"}

    def key(value: str) -> Json:
        return {"Idempotency-Key": value}

    task, doomed = client.create(), client.request(**post, json=new, headers=key("doomed")).json()
    client.request("DELETE", doomed["id"])
    client.request("DELETE", client.create()["id"])
    trash = f"/api/{client.user}/trash"
    etag = client.request("GET", task["id"]).headers["etag"]
    listed = client.request("GET").headers["etag"]
    stale = {"If-Match": '"0"'}
    changes = f"/api/{client.user}/changes"
    since = client.request("GET", changes).json()["since"]
    lost = token_of(UserId(client.user), ListState(2**40, 1))
    cases: list[tuple[str, int, dict[str, Any]]] = [
        ("a task that is missing", 404, {"method": "GET", "path": 0}),
        ("a task that is known", 304, {"method": "GET", "path": task["id"], "headers": {"If-None-Match": etag}}),
        ("a list that is known", 304, {"method": "GET", "path": "", "headers": {"If-None-Match": listed}}),
        ("a search", 200, {"method": "GET", "path": "", "params": {"q": "new", "sort": "title"}}),
        ("no changes", 200, {"method": "GET", "path": changes, "params": {"since": since}}),
        ("a page of changes", 200, {"method": "GET", "path": changes, "params": {"limit": 1}}),
        ("a token of a lost history", 410, {"method": "GET", "path": changes, "params": {"since": lost}}),
        ("created", 201, {**post, "json": new, "headers": key("a")}),
        ("replayed", 201, {**post, "json": new, "headers": key("a")}),
        ("other values", 422, {**post, "json": {"title": "other"}, "headers": key("a")}),
        ("gone", 410, {**post, "json": new, "headers": key("doomed")}),
        ("a change of what is missing", 404, {"method": "PATCH", "path": 0, "json": new}),
        ("a stale change", 412, {"method": "PATCH", "path": task["id"], "json": new, "headers": stale}),
        ("a change", 200, {"method": "PATCH", "path": task["id"], "json": new, "headers": {"If-Match": etag}}),
        ("no change", 200, {"method": "PATCH", "path": task["id"], "json": new}),
        ("a stale deletion", 412, {"method": "DELETE", "path": task["id"], "headers": stale}),
        ("a deletion", 204, {"method": "DELETE", "path": task["id"], "headers": {"If-Match": "*"}}),
        ("a deletion of what is missing", 404, {"method": "DELETE", "path": task["id"]}),
        ("the trash", 200, {"method": "GET", "path": trash}),
        (
            "a page of the trash",
            200,
            {"method": "GET", "path": client.request("GET", f"{trash}?limit=1").links["next"]["url"]},
        ),
        ("a restore", 200, {"method": "POST", "path": f"{trash}/{task['id']}/restore"}),
        ("a restore of what is not deleted", 200, {"method": "POST", "path": f"{trash}/{task['id']}/restore"}),
        ("a restore of what is missing", 404, {"method": "POST", "path": f"{trash}/0/restore"}),
    ]
    batch: dict[str, Any] = {"method": "POST", "path": "batch"}
    patch = {"op": "patch", "id": task["id"], "task": new}
    mixed = [{"op": "create", "task": new, "key": "a"}, patch, {"op": "delete", "id": doomed["id"]}]
    cases += [
        ("a batch", 200, {**batch, "json": {"operations": mixed}}),
        ("a batch that changes nothing", 200, {**batch, "json": {"operations": mixed}}),
        ("a batch with a missing task", 404, {**batch, "json": {"operations": [*mixed, {"op": "delete", "id": 0}]}}),
        ("a stale batch", 412, {**batch, "json": {"operations": [patch | {"if_match": '"0"'}]}}),
        ("an erasure", 204, {"method": "DELETE", "path": f"/api/{client.user}?confirm={client.user}"}),
        ("an erasure of nothing", 204, {"method": "DELETE", "path": f"/api/{client.user}?confirm={client.user}"}),
    ]
    for what, status, options in cases:
        yield what, status, partial(client.request, **options)


def test_a_request_is_one_round_trip_whatever_its_outcome(
    wired: tuple[Service, Relay], subtests: pytest.Subtests
) -> None:
    service, relay = wired
    # A connection prepares a statement when it first meets it.
    for _, _, send in each_outcome(service.client()):
        send()
    for outcome, status, send in each_outcome(service.client()):
        with subtests.test(outcome):
            before = relay.round_trips
            assert send().status_code == status
            assert relay.round_trips - before == 1


@pytest.mark.parametrize("engine", ENGINES)
def test_names_are_for_those_who_keep_them(engine: str, new_database_url: Callable[[str], str]) -> None:
    async def keeps_names(url: PostgresURL) -> bool:
        connection = await postgres.connect(url)
        try:
            return await postgres.keeps_names(url, connection)
        finally:
            await connection.close()

    url = parse_database_url(new_database_url(engine))
    assert isinstance(url, PostgresURL)
    assert asyncio.run(keeps_names(url)) == (engine != "postgres-pooler")


@pytest.mark.parametrize(
    ("engine", "setting", "named"),
    [("postgres", "auto", True), ("postgres", "on", True), ("postgres", "off", False), ("postgres-tls", "auto", True)],
)
def test_the_server_plans_a_named_statement_once(
    engine: str, setting: str, *, named: bool, new_database_url: Callable[[str], str]
) -> None:
    with running(
        engine, DATABASE_URL=new_database_url(engine), TASKWELL_POOL_MAX="1", TASKWELL_PREPARED_STATEMENTS=setting
    ) as service:
        client = service.client()
        task = client.create()
        client.request("GET", task["id"])
        (connection,) = [one for one in service.state["tasks"]._get._pool._slots.idle if one]
        known = asyncio.run_coroutine_threadsafe(
            connection.driver.fetch("SELECT name FROM pg_prepared_statements WHERE name <> ''"),
            connection.driver._loop,
        ).result(10)
    assert bool(known) == named


def mixed_up(service: Service) -> list[str]:
    """Returns responses that belong to another user or another request, of many requests at once."""

    def use(client: Client) -> list[str]:
        wrong = []
        for number in range(15):
            answer = client.request("POST", json={"title": f"{client.user} {number}"})
            if answer.status_code != 201 or answer.json()["title"] != f"{client.user} {number}":
                wrong.append(answer.text)
                continue
            task = answer.json()
            for method, path, body in (
                ("GET", task["id"], None),
                ("GET", "", None),
                ("PATCH", task["id"], {"complete": True}),
                ("GET", f"{client.home}?complete=true", None),
            ):
                answer = client.request(method, path, json=body)
                tasks = answer.json().get("tasks") or [answer.json()]
                if not answer.is_success or {one.get("user_id") for one in tasks} != {client.user}:
                    wrong.append(answer.text)
        return wrong

    with ThreadPoolExecutor(12) as threads:
        return [text for one in threads.map(use, [service.client() for _ in range(12)]) for text in one]


def test_a_pooler_mixes_nothing_up(new_database_url: Callable[[str], str]) -> None:
    with running("postgres-pooler", DATABASE_URL=new_database_url("postgres-pooler")) as service:
        assert mixed_up(service) == []


def test_names_behind_this_pooler_would_be_mixed_up(new_database_url: Callable[[str], str]) -> None:
    url = new_database_url("postgres-pooler")
    with running("postgres-pooler", DATABASE_URL=url, TASKWELL_PREPARED_STATEMENTS="on") as service:
        assert mixed_up(service) != []
