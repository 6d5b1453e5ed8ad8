"""@taskwell/client and the users of one page: tokens are renewed in time, and never cross users."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.better_auth import BetterAuth
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


def with_client(name: str, alice: Client, url: str, *tokens: str, other: Client | None = None) -> Any:
    """Runs a scenario of alice, and perhaps another user."""
    second = {"user": other.user, "token": sign(other.user)} if other else None
    return outcome("users", name, url=url, user=alice.user, tokens=tokens or [sign(alice.user)], other=second)


def test_the_next_user_gets_their_own_tasks_and_no_request_has_the_old_token(
    alice: Client, mallory: Client, service: Service
) -> None:
    assert with_client("nextUser", alice, service.url, other=mallory) == {
        "seen": [["of alice"], "SignedOut", ["of bob"], True],
        "sent": ["alice", "alice", "bob", "bob"],
    }


def test_nothing_is_written_for_a_user_who_signed_in_unnoticed(
    alice: Client, mallory: Client, service: Service
) -> None:
    token = sign(alice.user, exp=int(time.time()) + 6, iat=int(time.time()))
    assert with_client("anotherTab", alice, service.url, token, other=mallory) == ["UserChanged", []]


def test_a_call_that_is_for_one_user_is_refused_while_another_is_signed_in(
    alice: Client, mallory: Client, service: Service
) -> None:
    assert with_client("forUser", alice, service.url, other=mallory) == {
        "refused": ["UserChanged"] * 5,
        "ofBob": [],
        "ofAlice": ["of alice"],
    }


def test_no_response_event_or_page_goes_to_the_next_user(alice: Client, mallory: Client, service: Service) -> None:
    with Relay(service.url) as network:
        network.delay(to_client=0.3)
        assert with_client("lateResponse", alice, network.url, other=mallory) == {
            "late": "UserChanged",
            "seen": ["UserChanged", "UserChanged", "UserChanged"],
            "now": [],
        }


def test_a_token_is_fetched_once_and_renewed_before_it_expires_and_after_a_refusal(
    alice: Client, service: Service
) -> None:
    now = int(time.time())
    short = sign(alice.user, iat=now, exp=now + 6)
    refused = sign(alice.user, "a-secret-of-nobody-that-is-long-enough-for-hs256")
    tokens = [short, refused, sign(alice.user)]
    # The first token is used for three seconds. The next one is refused, and the third one takes its place.
    assert with_client("renewal", alice, service.url, *tokens) == [1, 1, 3, 3]


def test_a_token_that_is_refused_twice_is_an_error(alice: Client, service: Service) -> None:
    forged = sign(alice.user, "a-secret-of-nobody-that-is-long-enough-for-hs256")
    assert with_client("refused", alice, service.url, forged) == ["ApiError 401 AUTH_INVALID", 2]


def test_an_auth_server_that_fails_once_is_asked_again(alice: Client, service: Service) -> None:
    assert with_client("authServerFails", alice, service.url) == [[], "TokenUnavailable"]


def test_a_user_can_have_any_id(service: Service) -> None:
    alice = service.client("zoë/☕ %2F\U0001f9c0")
    assert with_client("unicode", alice, service.url) == [True, True]


def test_a_new_key_of_the_auth_server_interrupts_nobody(tmp_path: Path, new_database_url: Callable[[str], str]) -> None:
    with BetterAuth(tmp_path) as auth:
        user = auth.sign_up()
        before = auth.token(user)
        auth.expire_keys()
        settings: dict[str, Any] = {"BETTER_AUTH_URL": auth.url, "BETTER_AUTH_SECRET": ""}
        with (
            running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service,
            scenario("users", "rotation", url=service.url, user=user.id, tokens=[before, auth.token(user)]) as program,
        ):
            assert program.heard() == "before"
            program.go_on()
            assert program.heard() == "after"
