"""@taskwell/client reads and writes tasks: nothing is lost, done twice, or overwritten unseen."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.client_package import outcome
from support.relay import Relay
from support.service import Client, Service, running, sign


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """One service is enough: the responses are the same on every database."""
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service


@pytest.fixture
def network(service: Service) -> Iterator[Relay]:
    """The network between the client and the service."""
    with Relay(service.url) as relay:
        yield relay


def with_client(name: str, user: str, url: str) -> Any:
    """Runs a scenario as this user."""
    return outcome("writes", name, url=url, user=user, tokens=[sign(user)])


def is_request(start: bytes) -> Callable[[bytes], bool]:
    return lambda request: request.startswith(start)


def revision(alice: Client) -> int:
    return int(alice.request("GET", f"/api/{alice.user}/changes").json()["revision"])


def test_every_operation_is_a_call(alice: Client, service: Service) -> None:
    seen = with_client("everything", alice.user, service.url)
    assert seen.pop("revisions") == [1, 2, 3, 4, 5, 7]
    assert seen == {
        "user": True,
        "read": ["Buy milk", True],
        "done": ["Buy milk", "Oat", True],
        "trash": ["Buy milk"],
        "results": [[201, "Buy bread"], [200, "Buy tea"]],
        "listed": ["Buy bread", "Buy tea"],
        "open": ["Buy bread"],
        "page": [1, 2],
        "pages": ["Buy bread", "Buy tea"],
        "next": "Buy tea",
        "exported": 2,
        "csv": "id,user_id,title,description,complete,created_at,updated_at,etag,deleted_at",
        "refused": "ApiError 422 VALIDATION_ERROR",
        "erased": 0,
    }


def test_a_creation_whose_response_is_lost_creates_one_task(alice: Client, network: Relay) -> None:
    lost = network.swallow(is_request(b"POST"), then="cut")
    assert with_client("create", alice.user, network.url) == {"title": "Buy milk", "revision": 1}
    assert lost.is_set()
    assert alice.titles() == ["Buy milk"]


def test_a_creation_that_is_repeated_after_a_reload_creates_one_task(alice: Client, service: Service) -> None:
    assert with_client("createAfterReload", alice.user, service.url)
    assert alice.titles() == ["Buy milk"]


def test_a_change_whose_response_is_lost_is_not_taken_for_a_conflict(alice: Client, network: Relay) -> None:
    alice.create()
    lost = network.swallow(is_request(b"PATCH"), then="cut")
    seen = with_client("change", alice.user, network.url)
    assert lost.is_set()
    # The change happened once. The second attempt met it, and the third one changed nothing.
    assert revision(alice) == 2
    assert seen == {
        "title": "Buy bread",
        "revision": 2,
        "isCurrent": True,
        "seen": ["GET 200", "GET 200", "PATCH 412", "PATCH 200", "GET 200"],
    }


def test_a_replacement_of_a_listed_task_whose_response_is_lost_is_done_once(alice: Client, network: Relay) -> None:
    alice.create()
    lost = network.swallow(is_request(b"PUT"), then="cut")
    assert with_client("replace", alice.user, network.url) == {"title": "Buy bread", "revision": 2}
    assert lost.is_set()
    assert revision(alice) == 2


def test_a_deletion_whose_response_is_lost_succeeds(alice: Client, network: Relay) -> None:
    alice.create()
    lost = network.swallow(is_request(b"DELETE"), then="cut")
    assert with_client("remove", alice.user, network.url) == {"revision": 2}
    assert lost.is_set()
    assert alice.titles() == []


def test_a_batch_whose_response_is_lost_is_done_once(alice: Client, network: Relay) -> None:
    for title in ("a", "b"):
        alice.create(title)
    lost = network.swallow(is_request(b"POST"), then="cut")
    seen = with_client("batch", alice.user, network.url)
    assert lost.is_set()
    assert seen["titles"] == ["new", "patched", "replaced"]
    assert seen["revision"] == revision(alice)
    assert sorted(alice.titles()) == ["new", "patched", "replaced"]


def test_a_change_by_id_is_not_repeated_when_it_may_have_happened(alice: Client, network: Relay) -> None:
    alice.create()
    lost = network.swallow(is_request(b"PATCH"), then="cut")
    assert with_client("changeById", alice.user, network.url) == "NetworkError"
    assert lost.is_set()
    assert alice.titles() == ["Buy bread"]


def test_a_task_that_does_not_exist_is_an_error(alice: Client, service: Service) -> None:
    assert with_client("missing", alice.user, service.url) == ["ApiError 404 NOT_FOUND"] * 2


def test_a_change_of_another_client_is_merged_and_not_overwritten(alice: Client, service: Service) -> None:
    assert with_client("merge", alice.user, service.url) == {
        "outcomes": ["PreconditionFailed 412 PRECONDITION_FAILED", "Oat", "Oat"],
        "now": ["Oat", True],
    }


def test_what_has_not_changed_is_not_sent_again(alice: Client, service: Service) -> None:
    assert with_client("unchanged", alice.user, service.url) == {
        "lists": [["Buy milk"], ["Buy milk"]],
        "kept": "Buy milk",
        "after": ["Buy bread"],
        "seen": ["POST 201", "GET 200", "GET 304", "GET 200", "GET 304", "GET 304", "PATCH 200", "GET 200"],
    }


def test_a_client_above_the_rate_limit_waits(new_database_url: Callable[[str], str]) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_RATE_LIMIT="2/second") as service:
        seen = with_client("many", service.client().user, service.url)
    assert seen["titles"] == ["1", "2", "3", "4"]
    assert seen["refusals"] > 0


def test_a_client_waits_until_the_date_that_a_proxy_says(alice: Client, service: Service) -> None:
    assert 1.5 < with_client("unavailable", alice.user, service.url)["waited"] < 10
    assert alice.titles() == ["Buy milk"]


def test_a_client_that_would_have_to_wait_for_hours_gets_the_error(new_database_url: Callable[[str], str]) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_RATE_LIMIT="1/day") as service:
        seen = with_client("limited", service.client().user, service.url)
    assert seen["error"] == "ApiError 429 RATE_LIMITED"
    assert seen["waited"] < 1


def test_errors_say_what_is_wrong_and_where(alice: Client, service: Service) -> None:
    assert with_client("errors", alice.user, service.url) == {
        "invalid": ["title: must have at least 1 character", [["body", "title"]], "string"],
        "elsewhere": "ApiError 404 NOT_FOUND",
        "unreachable": "NetworkError",
    }


def test_a_call_can_be_aborted_and_then_sends_nothing(alice: Client, network: Relay) -> None:
    network.black_hole()
    seen = with_client("abort", alice.user, network.url)
    assert seen["errors"] == ["AbortError", "AbortError"]
    assert seen["waited"] < 2
    assert alice.titles() == []


def test_react_native_can_use_everything_but_streams(alice: Client, service: Service) -> None:
    seen = with_client("reactNative", alice.user, service.url)
    assert seen == ["Buy milk", 1, "StreamsUnsupported"]
