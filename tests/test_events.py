"""Events: an open stream tells a client of every change, once, whoever makes it and whatever fails meanwhile."""

import asyncio
import gc
import json
import logging
import random
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support import events
from support.changes import Copy, changes
from support.download import MANY, fill
from support.events import Stream, connect, stream
from support.process import Server, production, serving
from support.relay import Relay
from support.rows import execute
from support.service import Client, Json, Service, running, sign
from taskwell.auth.tokens import UserId
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.database.urls import parse_database_url
from taskwell.etags import ListState
from taskwell.http import streams
from taskwell.migrations.runner import upgrade
from taskwell.tasks import events as endpoint
from taskwell.tasks import live
from taskwell.tasks.live import LiveChanges
from taskwell.tasks.repository import Stored, StoredChanges

MakeDatabase = Callable[[str], str]

ENGINES = ["sqlite", "postgres"]

NEVER = 3600


def path_of(client: Client) -> str:
    return f"/api/{client.user}/events"


def eventually(condition: Callable[[], bool], message: str) -> None:
    deadline = time.monotonic() + events.WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.01)


# --- what a stream tells


def test_a_stream_tells_each_change_as_changes_do(alice: Client, mallory: Client) -> None:
    before = alice.create("before")
    since = changes(alice).json()["since"]
    with stream(alice) as opened:
        assert opened.status == 200
        assert opened.headers["content-type"].startswith("text/event-stream")
        assert opened.headers["cache-control"] == "private, no-cache"
        assert opened.headers["vary"] == "Authorization"
        assert opened.headers["x-accel-buffering"] == "no"
        assert opened.last_id == since, "it begins with a token of what the client could have read"
        mallory.create("theirs")
        seen: list[Json] = []
        for method, path, body in (
            ("POST", "", {"title": "new"}),
            ("PATCH", before["id"], {"complete": True}),
            ("PUT", before["id"], {"title": "put\nin\r\ntwo lines \u2028", "complete": False}),
            ("DELETE", before["id"], None),
            ("POST", f"{alice.home.removesuffix('/tasks')}/trash/{before['id']}/restore", None),
        ):
            assert alice.request(method, path, json=body).is_success
            (event,) = opened.changes(1)
            page = changes(alice, since=since).json()
            assert page["tasks" if event.name == "task" else "deleted"] == [event.data]
            assert event.id == page["since"]
            since = event.id
            seen.append(event.data)
        assert [one["id"] for one in seen] == [seen[0]["id"], *[before["id"]] * 4]
        assert opened.waiting() == [], "each change comes once, and nobody else's does"


def test_a_write_that_changes_nothing_is_no_event(alice: Client) -> None:
    task = alice.create()
    with stream(alice) as opened:
        assert alice.request("PATCH", task["id"], json={"title": task["title"]}).status_code == 200
        assert alice.request("PATCH", task["id"], json={"title": "x"}, headers={"If-Match": '"9"'}).status_code == 412
        last = alice.create("last")
        (event,) = opened.changes(1)
        assert event.data["id"] == last["id"]


def test_all_streams_of_a_user_are_told(alice: Client) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(stream(alice)) for _ in range(5)]
        task = alice.create()
        assert [one.changes(1)[0].data["id"] for one in opened] == [task["id"]] * 5


@pytest.fixture
def no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for the changes of other processes only once an hour."""
    monkeypatch.setattr(live, "LOOK_SECONDS", NEVER)


@pytest.mark.usefixtures("no_polling")
def test_a_write_of_the_same_process_is_told_at_once(new_database_url: MakeDatabase) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        alice = service.client()
        # Twice, because the first stream of a process makes it look at once.
        with stream(alice), stream(alice) as opened:
            for number in range(3):
                task = alice.create(str(number))
                assert opened.changes(1)[0].data["id"] == task["id"]


@pytest.mark.parametrize("engine", ["sqlite", "postgres", "postgres-pooler"])
def test_a_write_of_another_process_is_told(engine: str, new_database_url: MakeDatabase) -> None:
    url = new_database_url(engine)
    with running(engine, DATABASE_URL=url) as one, running(engine, migrate=False, DATABASE_URL=url) as other:
        alice = one.client()
        elsewhere = other.client(alice.user)
        with stream(alice) as opened:
            for number in range(3):
                assert elsewhere.create(str(number))["id"] == opened.changes(1)[0].data["id"]


def test_more_changes_than_one_look_reads_all_arrive_in_order(service: Service, alice: Client) -> None:
    """Another process has written them, all between two looks."""
    tasks = [alice.create(str(number)) for number in range(3 * live.MAX_CHANGES)]
    with stream(alice) as opened:
        moment = "'2026-11-21 10:30:00.000000'"
        revision = int(changes(alice).json()["revision"])
        sql = f"UPDATE task SET complete = true, updated_at = {moment}, revision = revision + {revision} WHERE user_id = '{alice.user}'"  # noqa: S608
        if service.engine != "sqlite":
            sql = f"WITH o AS (UPDATE owner SET revision = 2 * {revision} WHERE user_id = '{alice.user}') {sql}"  # noqa: S608
        execute(service.url_of_database, sql)
        assert [one.data["id"] for one in opened.changes(len(tasks))] == [task["id"] for task in tasks]


# --- after an interruption


def test_a_stream_that_goes_on_tells_exactly_what_was_missed(alice: Client) -> None:
    with stream(alice) as opened:
        first = alice.create("first")
        (event,) = opened.changes(1)
        token = event.id
    second, third = alice.create("second"), alice.create("third")
    for _ in range(3):
        alice.request("PATCH", first["id"], json={"title": f"{random.random()}"})  # noqa: S311
    alice.request("DELETE", third["id"])
    with stream(alice, last_id=token) as opened:
        missed = opened.changes(3)
        assert [(one.name, one.data["id"]) for one in missed] == [
            ("task", second["id"]),
            ("task", first["id"]),
            ("deleted", third["id"]),
        ]
        fourth = alice.create("fourth")
        assert opened.changes(1)[0].data["id"] == fourth["id"]
        assert opened.waiting() == []
    # From the token of an event in the middle, only what follows.
    with stream(alice, last_id=missed[1].id) as opened:
        assert [one.data["id"] for one in opened.changes(2)] == [third["id"], fourth["id"]]


def test_missed_changes_come_in_pages(monkeypatch: pytest.MonkeyPatch, alice: Client) -> None:
    monkeypatch.setattr(endpoint, "REPLAYED_CHANGES", 4)
    since = changes(alice).json()["since"]
    ids = [alice.create(str(number))["id"] for number in range(13)]
    with stream(alice, last_id=since) as opened:
        assert [one.data["id"] for one in opened.changes(13)] == ids


def test_the_tokens_of_events_and_of_changes_are_the_same(alice: Client) -> None:
    copy = Copy(alice)
    with stream(alice) as opened:
        alice.create("one")
        alice.create("two")
        one, two = opened.changes(2)
    assert [task["title"] for task in changes(alice, since=one.id).json()["tasks"]] == ["two"]
    copy.sync()
    assert copy.since == two.id
    with stream(alice, last_id=copy.since) as opened:
        assert opened.last_id == two.id
        assert opened.waiting() == []


@contextmanager
def writers(client: Client, number: int) -> Iterator[None]:
    """Writes in several threads until the end of the block."""
    over = threading.Event()

    def write(seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - not a secret
        own: list[int] = []
        while not over.is_set():
            if not own or chance.random() < 0.4:
                own.append(client.create(f"{seed}")["id"])
            elif chance.random() < 0.7:
                client.request("PATCH", chance.choice(own), json={"title": f"{chance.random()}"})
            else:
                client.request("DELETE", own.pop(chance.randrange(len(own))))

    threads = [threading.Thread(target=write, args=[seed]) for seed in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_copy_kept_by_an_interrupted_stream_is_true_under_five_writers(alice: Client) -> None:
    tasks: dict[int, Json] = {}
    last_id = changes(alice).json()["since"]
    revisions: list[int] = []

    def apply(found: list[events.Event]) -> None:
        for event in found:
            if event.name == "deleted":
                tasks.pop(event.data["id"], None)
            elif event.name == "task":
                tasks[event.data["id"]] = event.data
                revisions.append(int(event.data["etag"].strip('"')))

    with writers(alice, 5):
        for _ in range(8):
            with stream(alice, last_id=last_id) as opened:
                time.sleep(0.15)
                opened.close()
                apply(opened.waiting())
                last_id = opened.last_id
    final = changes(alice).json()["since"]
    with stream(alice, last_id=last_id) as opened:
        eventually(lambda: opened.last_id == final, "the stream does not reach the end")
        apply(opened.waiting())
    copy = Copy(alice)
    copy.sync()
    assert tasks == copy.tasks
    assert revisions == sorted(set(revisions)), "nothing comes twice"


def test_an_open_stream_keeps_nothing_of_what_it_has_told(service: Service, alice: Client) -> None:
    """Thousands of streams can be open for hours."""
    beginning = changes(alice).json()["since"]
    fill(service.url_of_database, alice.user, 50)
    with stream(alice, last_id=beginning) as opened:
        opened.changes(50)
        eventually(lambda: alice.user in service.state["live"]._watches, "the stream does not go on")
        pages = [one for one in gc.get_objects() if isinstance(one, StoredChanges)]
        kept = [change for page in pages for change in page.changes if isinstance(change, Stored)]
        assert [change.task["id"] for change in kept if change.task["user_id"] == alice.user] == []


# --- what is refused, before the stream starts


def test_a_token_of_another_user_is_refused(alice: Client, mallory: Client) -> None:
    mallory.create()
    theirs = changes(mallory).json()["since"]
    with stream(alice, last_id=theirs) as opened:
        assert opened.status == 410
        assert json.loads(opened.body)["error_code"] == "GONE"


@pytest.mark.parametrize("text", ["x", "57", "*", "A" * 31, "A" * 33, "", "\u00e9" * 32])
def test_what_is_no_token_is_refused(alice: Client, text: str) -> None:
    response = alice.request("GET", path_of(alice), headers={"Last-Event-ID": text.encode()})
    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"loc": ["header", "Last-Event-ID"], "msg": "is not a token of this service", "type": "sync_token"}
    ]


def test_the_token_of_the_user_is_never_in_the_url(alice: Client) -> None:
    for name in ("token", "access_token", "jwt"):
        assert alice.request("GET", f"{path_of(alice)}?{name}={sign(alice.user)}").status_code == 422
        response = alice.http.get(f"{path_of(alice)}?{name}={sign(alice.user)}")
        assert (response.status_code, response.json()["error_code"]) == (401, "AUTH_MISSING")


def test_streams_of_others_are_refused(alice: Client, mallory: Client) -> None:
    assert mallory.request("GET", path_of(alice)).status_code == 403


def test_head_shows_the_headers_and_ends(alice: Client) -> None:
    response = alice.request("HEAD", path_of(alice))
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert alice.request("GET").status_code == 200


# --- how long a stream lasts


def test_a_silent_stream_has_heartbeats(monkeypatch: pytest.MonkeyPatch, alice: Client) -> None:
    assert endpoint.HEARTBEAT_SECONDS == 15
    monkeypatch.setattr(endpoint, "HEARTBEAT_SECONDS", 0.05)
    with stream(alice) as opened:
        eventually(lambda: opened.comments > 3, "there are no heartbeats")
        assert opened.waiting() == []


def test_a_stream_ends_when_its_token_expires(alice: Client) -> None:
    with stream(alice, token=sign(alice.user, exp=int(time.time()) + 2)) as opened:
        event = opened.next()
        assert (event.name, event.data) == ("expired", {})
        assert opened.ended.wait(events.WAIT_SECONDS)
        assert opened.is_complete
        last_id = opened.last_id
    task = alice.create("while the client signs in again")
    with stream(alice, last_id=last_id) as opened:
        assert opened.changes(1)[0].data["id"] == task["id"]


def test_a_stream_that_is_still_telling_what_was_missed_ends_when_its_token_expires(
    service: Service, alice: Client
) -> None:
    beginning = changes(alice).json()["since"]
    fill(service.url_of_database, alice.user)
    with connect(str(alice.http.base_url)) as connection:
        connection.settimeout(None)
        connection.sendall(events.request(alice, beginning, sign(alice.user, exp=int(time.time()) + 2)))
        time.sleep(3)
        with Stream(connection) as opened:
            assert opened.ended.wait(events.WAIT_SECONDS)
            assert opened.is_complete
            *told, last = opened.waiting()
    assert last.name == "expired"
    assert len(told) < MANY


def test_a_stream_ends_when_the_key_of_its_token_is_withdrawn(
    monkeypatch: pytest.MonkeyPatch, service: Service, alice: Client
) -> None:
    """However late its token expires: whoever steals a key could make such a token."""
    monkeypatch.setattr(endpoint, "HEARTBEAT_SECONDS", 0.05)
    with stream(alice, token=sign(alice.user, exp=int(time.time()) + 10**8)) as opened:
        eventually(lambda: opened.comments > 0, "there are no heartbeats")
        verifier = service.state["verifier"]
        monkeypatch.setattr(verifier, "keys", type(verifier.keys)("another-secret-of-the-test-suite-of-32-bytes"))
        assert opened.next().name == "expired"
        assert opened.ended.wait(events.WAIT_SECONDS)


def test_a_stream_ends_when_the_history_of_its_tasks_is_another_one(service: Service, alice: Client) -> None:
    """As after a restore of the database, or after an erasure by another process."""
    alice.create()
    with stream(alice) as opened:
        execute(service.url_of_database, f"DELETE FROM owner WHERE user_id = '{alice.user}'")  # noqa: S608
        assert opened.ended.wait(events.WAIT_SECONDS)
        assert opened.is_complete
        last_id = opened.last_id
    with stream(alice, last_id=last_id) as opened:
        assert opened.status == 410


def erase(client: Client) -> None:
    assert client.request("DELETE", f"/api/{client.user}?confirm={client.user}").status_code == 204


def test_a_stream_of_an_erased_user_whose_client_does_not_read_does_not_disturb_new_ones(
    service: Service, alice: Client
) -> None:
    task = alice.create()
    with connect(str(alice.http.base_url)) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(events.request(alice))
        watches = service.state["live"]._watches
        eventually(lambda: alice.user in watches, "the stream does not start")
        (stuck,) = watches[alice.user].subscriptions
        number = 0
        while not stuck._pending_bytes and not stuck.is_over:
            description = f"{number} " + "\N{GRINNING FACE}" * 980
            assert alice.request("PATCH", task["id"], json={"description": description}).status_code == 200
            number += 1
        erase(alice)
        for number in range(2):
            with stream(alice) as opened:
                task = alice.create(f"{number}")
                assert opened.changes(1)[0].data["id"] == task["id"]


@pytest.mark.usefixtures("no_polling")
def test_a_new_stream_begins_at_once_after_another_process_has_erased_the_user(new_database_url: MakeDatabase) -> None:
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url) as one, running("sqlite", migrate=False, DATABASE_URL=url) as other:
        alice = one.client()
        alice.create()
        with stream(alice) as before:
            eventually(lambda: not one.state["live"]._due.is_set(), "the process still looks")
            erase(other.client(alice.user))
            with stream(alice) as opened:
                assert before.ended.wait(events.WAIT_SECONDS)
                task = alice.create()
                assert opened.changes(1)[0].data["id"] == task["id"]


def test_a_stream_joins_only_streams_of_its_own_history(tmp_path: Path) -> None:
    """Otherwise it would end with those of a history that was erased."""

    async def join() -> list[bool]:
        async with SQLiteDatabase(tmp_path / "taskwell.db") as database, LiveChanges(database, NEVER) as changes:
            # Without an await in between, so that no look ends the first one.
            states = [(5, 1), (1, 2), (0, 0), (4, 1), (5, 1), (6, 1)]
            return [changes.join(UserId("alice"), ListState(*state)) is not None for state in states]

    assert asyncio.run(join()) == [True, False, False, False, True, True]


def number_of_streams(service: Service) -> int:
    return len(service.state["streams"])


def test_a_client_that_goes_away_leaves_nothing_behind(service: Service, alice: Client) -> None:
    watches = service.state["live"]._watches
    for leave in (Stream.close, lambda opened: opened.connection.shutdown(socket.SHUT_WR)):
        with stream(alice) as opened:
            assert alice.user in watches
            leave(opened)
            eventually(lambda: alice.user not in watches, "the stream is still open")
            eventually(lambda: number_of_streams(service) == 0, "the stream still counts")
    assert alice.request("GET").status_code == 200


def test_requests_after_a_stream_on_the_same_connection_are_served(alice: Client) -> None:
    token = sign(alice.user, exp=int(time.time()) + 2)
    with connect(str(alice.http.base_url)) as connection:
        lines = f"GET {alice.home} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {sign(alice.user)}\r\n\r\n"
        connection.sendall(events.request(alice, token=token) + lines.encode())
        received = b""
        while b'"count":0' not in received:
            part = connection.recv(65536)
            assert part, received
            received += part
    assert received.index(b"event: expired") < received.index(b"HTTP/1.1 200 OK", 20)


# --- limits


@pytest.fixture
def limited(new_database_url: MakeDatabase) -> Iterator[Service]:
    limits: dict[str, Any] = {"TASKWELL_MAX_STREAMS": "3", "TASKWELL_MAX_STREAMS_PER_USER": "2"}
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **limits) as service:
        yield service


def test_a_user_has_at_most_the_configured_number_of_streams(limited: Service) -> None:
    alice, bob = limited.client(), limited.client()
    with stream(alice), stream(alice) as second:
        response = alice.request("GET", path_of(alice))
        assert (response.status_code, response.json()["error_code"]) == (429, "RATE_LIMITED")
        assert response.headers["retry-after"] == str(streams.RETRY_SECONDS)
        with stream(bob):
            assert number_of_streams(limited) == 3
        second.close()
        eventually(lambda: number_of_streams(limited) == 1, "the stream still counts")
        with stream(alice) as third:
            assert third.status == 200


def test_a_process_has_at_most_the_configured_number_of_streams(limited: Service) -> None:
    users = [limited.client() for _ in range(4)]
    with ExitStack() as stack:
        for user in users[:3]:
            stack.enter_context(stream(user))
        response = users[3].request("GET", path_of(users[3]))
        assert (response.status_code, response.json()["error_code"]) == (503, "OVERLOADED")
        assert "retry-after" in response.headers
        assert users[3].request("GET").status_code == 200
    eventually(lambda: number_of_streams(limited) == 0, "the streams still count")


def test_a_refused_stream_does_not_count(limited: Service) -> None:
    alice = limited.client()
    for _ in range(5):
        with stream(alice, last_id="A" * 32) as opened:
            assert opened.status == 410
    assert number_of_streams(limited) == 0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_holds_no_slot_of_a_request_and_no_connection_to_the_database(
    engine: str, new_database_url: MakeDatabase
) -> None:
    small: dict[str, Any] = {"TASKWELL_MAX_IN_FLIGHT": "1", "TASKWELL_POOL_MAX": "1"}
    with running(engine, DATABASE_URL=new_database_url(engine), **small) as service, ExitStack() as stack:
        alice = service.client()
        opened = [stack.enter_context(stream(alice)) for _ in range(10)]
        task = alice.create()
        assert [one.changes(1)[0].data["id"] for one in opened] == [task["id"]] * 10


def test_a_client_that_reads_too_slowly_is_cut_off_and_the_others_are_not(service: Service, alice: Client) -> None:
    with connect(str(alice.http.base_url)) as slow, stream(alice) as opened:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(events.request(alice))
        watch = service.state["live"]._watches[alice.user]
        eventually(lambda: len(watch.subscriptions) == 2, "the stream does not start")
        task = alice.create()
        number = 0
        while len(watch.subscriptions) == 2 and all(not one.is_over for one in watch.subscriptions):
            # Together the sockets of both sides hold a few megabytes.
            assert number < 20_000, "the client is not cut off"
            description = f"{number} " + "\N{GRINNING FACE}" * 980
            assert alice.request("PATCH", task["id"], json={"description": description}).status_code == 200
            number += 1
            assert all(one._pending_bytes < 2 * live.MAX_PENDING_BYTES for one in watch.subscriptions)
        alice.request("PATCH", task["id"], json={"title": "last"})
        while opened.changes(1)[0].data["title"] != "last":
            pass


def test_a_batch_of_the_longest_tasks_cuts_off_no_client_that_reads(alice: Client) -> None:
    # In JSON, a control character has six bytes.
    longest = {"title": "\x01" * 200, "description": "\x01" * 1000}
    creations = {"operations": [{"op": "create", "task": longest}] * 100}
    with stream(alice) as opened:
        assert alice.request("POST", "batch", json=creations).status_code == 200
        assert [one.data["title"] for one in opened.changes(100)] == [longest["title"]] * 100


# --- a stop


@pytest.mark.parametrize("workers", [1, 2])
def test_a_stop_ends_streams_at_once_and_says_when_to_connect_again(
    workers: int, tmp_path: Path, new_database_url: MakeDatabase
) -> None:
    settings = production(new_database_url("sqlite"))
    upgrade(parse_database_url(settings["DATABASE_URL"]))
    with serving(tmp_path, "serve", "--workers", str(workers), **settings) as server, ExitStack() as stack:
        alice = server.client("alice")
        opened = [stack.enter_context(stream(alice)) for _ in range(8)]
        since = opened[0].last_id
        server.process.send_signal(signal.SIGTERM)
        for one in opened:
            # The time for requests to finish is ten seconds.
            assert one.ended.wait(5)
            assert one.is_complete
            assert one.retry is not None
            assert 0 <= one.retry < endpoint.MAX_RECONNECT_MILLISECONDS
        assert server.process.wait(5) == 0
        assert "Traceback" not in server.log.read_text()
    folder = tmp_path / "again"
    folder.mkdir()
    with serving(folder, **settings) as server:
        alice = server.client("alice")
        with stream(alice, last_id=since) as again:
            task = alice.create()
            assert again.changes(1)[0].data["id"] == task["id"]


# --- the database


@contextmanager
def through_a_relay(url: str, **settings: str) -> Iterator[tuple[Service, Relay]]:
    upgrade(parse_database_url(url))
    with (
        Relay(url) as relay,
        running("postgres", migrate=False, DATABASE_URL=relay.url, TASKWELL_POOL_MAX="1", **settings) as service,
    ):
        yield service, relay


def test_streams_survive_an_outage_of_the_database_and_miss_nothing(
    new_database_url: MakeDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    url = new_database_url("postgres")
    with through_a_relay(url) as (service, relay), running("postgres", migrate=False, DATABASE_URL=url) as other:
        alice = service.client()
        elsewhere = other.client(alice.user)
        with stream(alice) as opened, caplog.at_level(logging.INFO, logger="taskwell.tasks.live"):
            relay.close()
            relay.cut()
            ids = [elsewhere.create(str(number))["id"] for number in range(5)]
            eventually(lambda: "cannot look" in caplog.text, "the outage is not noticed")
            time.sleep(2.5)
            relay.open()
            assert [one.data["id"] for one in opened.changes(5)] == ids
        assert caplog.text.count("cannot look for changes") == 1
        assert "looking for changes again" in caplog.text


@pytest.mark.parametrize("engine", ["postgres", "postgres-pooler"])
def test_one_statement_a_second_serves_all_users(engine: str, new_database_url: MakeDatabase) -> None:
    with through_a_relay(new_database_url(engine)) as (service, relay), ExitStack() as stack:
        users = [service.client() for _ in range(30)]
        for user in users:
            user.create()
            stack.enter_context(stream(user))
        time.sleep(1.5)
        before, started = relay.round_trips, time.monotonic()
        time.sleep(3)
        looks, elapsed = relay.round_trips - before, time.monotonic() - started
        assert 1 <= looks <= elapsed / live.LOOK_SECONDS + 1


def test_changes_of_many_users_within_a_second_cost_one_statement(new_database_url: MakeDatabase) -> None:
    url = new_database_url("postgres")
    with (
        through_a_relay(url) as (service, relay),
        running("postgres", migrate=False, DATABASE_URL=url) as other,
        ExitStack() as stack,
    ):
        users = [service.client() for _ in range(20)]
        opened = [stack.enter_context(stream(user)) for user in users]
        before, started = relay.round_trips, time.monotonic()
        for user in users:
            other.client(user.user).create()
        for one in opened:
            one.changes(1)
        assert relay.round_trips - before <= (time.monotonic() - started) / live.LOOK_SECONDS + 2


@pytest.fixture(scope="module")
def many_files() -> None:
    """Lets this process have a connection for each of a thousand streams."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def test_a_server_allows_as_many_connections_as_the_system_permits(
    tmp_path: Path, new_migrated_url: MakeDatabase
) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    try:
        with serving(tmp_path, **production(new_migrated_url("sqlite"))) as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (limits[1], limits[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@dataclass
class Reader:
    """A stream that is read only when the test looks at it."""

    connection: socket.socket
    received: bytes = b""

    def until(self, text: bytes) -> bytes:
        """Reads up to the end of `text`, and returns what came before it."""
        while text not in self.received:
            part = self.connection.recv(65536)
            assert part, self.received
            self.received += part
        before, _, self.received = self.received.partition(text)
        return before

    def last(self, *texts: bytes) -> bytes:
        """Returns the one of `texts` that has arrived last, and forgets what has arrived."""
        with suppress(BlockingIOError):
            self.received += self.connection.recv(65536, socket.MSG_DONTWAIT)
        received, self.received = self.received, b""
        return max(texts, key=received.rfind)


@contextmanager
def open_streams(server: Server, number: int) -> Iterator[list[Reader]]:
    with ExitStack() as stack:
        readers = [Reader(stack.enter_context(connect(server.url))) for _ in range(number)]
        # One after the other, because the service sheds requests that come all at once.
        for index, reader in enumerate(readers):
            reader.connection.sendall(events.request(server.client(f"user-{index % 100}")))
            reader.until(b"\nid: ")
        yield readers


IDLE, AWAKE = b"event: idle\ndata: {}\n\n", b"event: awake\ndata: {}\n\n"


@pytest.mark.slow
@pytest.mark.usefixtures("many_files")
def test_the_database_sleeps_while_a_thousand_streams_are_open_and_wakes_up(
    tmp_path: Path, new_database_url: MakeDatabase
) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    with Relay(url) as relay:
        settings = production(relay.url) | {"TASKWELL_EVENTS_IDLE_SECONDS": "2"}
        with serving(tmp_path, **settings) as server, open_streams(server, 1000) as readers:
            time.sleep(5)
            before = relay.round_trips
            time.sleep(5)
            assert relay.round_trips == before, "the database cannot sleep"
            assert {reader.last(IDLE, AWAKE) for reader in readers} == {IDLE}
            # A write through the process, of any user.
            task = server.client("user-7").create()
            for index, reader in enumerate(readers):
                reader.until(AWAKE)
                assert (b'"id":%d,' % task["id"] in reader.until(IDLE)) == (index % 100 == 7)
            with stream(server.client("new")) as opened:
                for reader in readers:
                    reader.until(AWAKE)
                assert opened.waiting() == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_stream_that_was_idle_learns_what_another_process_wrote_meanwhile(
    engine: str, new_database_url: MakeDatabase
) -> None:
    url = new_database_url(engine)
    with (
        running(engine, DATABASE_URL=url, TASKWELL_EVENTS_IDLE_SECONDS="1") as service,
        running(engine, migrate=False, DATABASE_URL=url) as other,
    ):
        alice, bob = service.client(), service.client()
        with stream(alice) as opened:
            assert opened.next().name == "idle"
            late = other.client(alice.user).create("late")
            time.sleep(1.5)
            assert opened.waiting() == [], "nobody asks the database"
            bob.create()
            assert opened.next().name == "awake"
            assert opened.next().data["id"] == late["id"]
            assert opened.next().name == "idle"
