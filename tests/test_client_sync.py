"""@taskwell/client keeps a copy up to date: no change is missed, whatever happens to the connection."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.client_package import installed, outcome, scenario
from support.relay import Relay
from support.service import Client, Service, running, sign


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """One service is enough: the responses are the same on every database."""
    # Before there are tokens, because building the package takes longer than some of them are valid.
    installed()
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service


def with_client(name: str, alice: Client, url: str) -> Any:
    return outcome("sync", name, url=url, user=alice.user, tokens=[sign(alice.user)])


def test_a_walk_through_the_changes_makes_a_whole_copy_and_begins_anew_after_an_erasure(
    alice: Client, service: Service
) -> None:
    assert with_client("changes", alice, service.url) == {
        "all": 1100,
        "more": 1101,
        "contained": True,
        "after": [1, 2],
    }


def test_a_checkpoint_that_is_not_one_is_an_error(alice: Client, service: Service) -> None:
    assert with_client("badCheckpoint", alice, service.url) == ["ApiError 422 VALIDATION_ERROR"] * 3


def test_events_go_on_where_they_ended_when_the_token_expires_or_the_connection_breaks(
    alice: Client, service: Service
) -> None:
    now = int(time.time())
    tokens = [sign(alice.user, iat=now, exp=now + 6), sign(alice.user), sign(alice.user)]
    with (
        Relay(service.url) as network,
        scenario("sync", "events", url=network.url, user=alice.user, tokens=tokens) as program,
    ):
        assert program.heard() == "checkpoint"
        first = alice.create("first")
        assert program.heard() == "first"
        # After six seconds, the service ends the stream. The next one begins with a checkpoint, too.
        assert program.heard() == "checkpoint"
        network.close()
        # Regular expressions take U+2028 for the end of a line. It is not one of the format's.
        alice.create("sec\u2028ond")
        alice.request("DELETE", first["id"])
        network.open()
        assert [program.heard() for _ in range(3)] == ["sec\u2028ond", f"deleted {first['id']}", "checkpoint"]
        program.go_on()
        assert program.heard() == "AbortError"
        # The checkpoints of events are those of changes.
        assert program.heard() == [[False, 0]]


def test_a_watched_copy_survives_a_restart_of_the_service_and_an_erasure(
    new_database_url: Callable[[str], str],
) -> None:
    database = new_database_url("sqlite")
    with ExitStack() as stack:
        with running("sqlite", DATABASE_URL=database) as service:
            alice = service.client()
            network = stack.enter_context(Relay(service.url))
            alice.create("first")
            program = stack.enter_context(
                scenario("sync", "watch", url=network.url, user=alice.user, tokens=[sign(alice.user)])
            )
            assert program.heard() == [["first"], 1]
            alice.create("second")
            assert program.heard() == [["first", "second"], 1]
        with running("sqlite", DATABASE_URL=database) as service:
            alice = service.client(alice.user)
            alice.create("third")
            network.lead_to(service.url)
            assert program.heard() == [["first", "second", "third"], 1]
            erased = alice.request("DELETE", f"/api/{alice.user}", params={"confirm": alice.user})
            assert erased.status_code == 204
            assert program.heard() == [[], 2]
            alice.create("new")
            assert program.heard() == [["new"], 2]


def test_a_watched_copy_asks_once_for_writes_that_come_together(alice: Client, service: Service) -> None:
    assert with_client("watchMany", alice, service.url) == {"ended": "AbortError", "isCheap": True}


@pytest.mark.slow
def test_a_watched_copy_is_up_to_date_when_the_user_comes_back_after_a_while(
    new_database_url: Callable[[str], str],
) -> None:
    database = new_database_url("postgres")
    with (
        running("postgres", DATABASE_URL=database, TASKWELL_EVENTS_IDLE_SECONDS="1") as service,
        running("postgres", migrate=False, DATABASE_URL=database) as other_process,
    ):
        alice = other_process.client()
        tokens = [sign(alice.user)]
        with scenario("sync", "watch", url=service.url, user=alice.user, tokens=tokens) as program:
            assert program.heard() == [[], 1]
            # Longer than the stream needs to become idle.
            time.sleep(4)
            alice.create("first")
            program.go_on()
            assert program.heard() == [["first"], 1]
            alice.create("second")
            assert program.heard() == [["first", "second"], 1]


@pytest.mark.slow
def test_a_connection_that_died_silently_is_noticed(alice: Client, service: Service) -> None:
    with (
        Relay(service.url) as network,
        scenario("sync", "watch", url=network.url, user=alice.user, tokens=[sign(alice.user)]) as program,
    ):
        assert program.heard() == [[], 1]
        alice.create("first")
        assert program.heard() == [["first"], 1]
        network.mute()
        alice.create("second")
        assert program.heard() == [["first", "second"], 1]
