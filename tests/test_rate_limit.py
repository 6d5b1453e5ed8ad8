"""Rate limits: a user above the limit gets 429, and so does an address that fails to authenticate too often."""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from support.problem import assert_problem
from support.servers import WANTED
from support.service import SECRET, Client, Service, running, sign
from taskwell.errors import AuthForbidden, AuthInvalid
from taskwell.http.body import BodyReader
from taskwell.http.endpoint import Endpoint, EndpointEngine
from taskwell.http.limits import InFlight
from taskwell.http.rate_counters import BoundedMemory
from taskwell.http.rate_limits import RateLimits, failure_limit, user_limit
from taskwell.http.rates import Rate

# Windows end with the UTC day, so no test sees one end.
USERS = "3/day"
FAILURES = "2/day"
SECONDS = 86_400


@pytest.fixture(scope="module", params=["sqlite", *WANTED])
def limited(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """A service with both limits, behind a proxy on this machine, so that a test can choose the client's address."""
    with running(
        request.param,
        DATABASE_URL=new_database_url(request.param),
        TASKWELL_RATE_LIMIT=USERS,
        TASKWELL_AUTH_FAILURE_LIMIT=FAILURES,
        TASKWELL_FORWARDED_ALLOW_IPS="127.0.0.1",
        TASKWELL_CORS_ORIGINS="https://app.example",
    ) as service:
        yield service


def left(answer: httpx2.Response) -> int:
    """Checks the headers of draft-ietf-httpapi-ratelimit-headers, and returns what is left."""
    assert answer.headers["ratelimit-policy"] == f'"user";q=3;w={SECONDS}'
    name, remaining, seconds = answer.headers["ratelimit"].split(";")
    assert name == '"user"'
    assert 0 < int(seconds.removeprefix("t=")) <= SECONDS
    return int(remaining.removeprefix("r="))


def test_a_user_above_the_limit_gets_429_and_other_users_do_not(limited: Service) -> None:
    alice, bob = limited.client(), limited.client()
    assert [left(alice.request("GET")) for _ in range(3)] == [2, 1, 0]
    for method, path, options in (
        ("GET", "", {}),
        ("HEAD", "", {}),
        ("POST", "", {"json": {"title": "no"}}),
        ("DELETE", "1", {}),
        # Neither the method nor the body is looked at.
        ("TRACE", "", {}),
        ("POST", "", {"content": b"x" * 100_000}),
    ):
        answer = alice.request(method, path, **options)
        assert (answer.status_code, left(answer)) == (429, 0)
        assert answer.headers["retry-after"] == answer.headers["ratelimit"].rpartition("t=")[2]
    assert_problem(alice.request("GET"), 429, "RATE_LIMITED")
    assert "3/day" in alice.request("GET").json()["detail"]
    assert bob.titles() == []


def test_errors_after_the_authentication_count_and_tell_what_is_left(limited: Service) -> None:
    alice = limited.client()
    assert [left(alice.request("GET", 404)), left(alice.request("POST", json={})), left(alice.request("TRACE"))] == [
        2, 1, 0,
    ]  # fmt: skip


def test_polling_for_what_has_not_changed_counts_nothing(limited: Service) -> None:
    alice = limited.client()
    answer = alice.request("GET")
    known = {"If-None-Match": answer.headers["etag"]}
    again = [alice.request("GET", headers=known) for _ in range(10)]
    assert {response.status_code for response in again} == {304}
    assert {left(response) for response in again} == {left(answer)}


def test_a_user_above_the_limit_still_gets_403_for_another_user(limited: Service) -> None:
    alice, bob = limited.client(), limited.client()
    for _ in range(4):
        answer = alice.request("GET", bob.home)
        assert_problem(answer, 403, "AUTH_FORBIDDEN")
        assert "ratelimit" not in answer.headers
    # It did not count for either of them.
    assert (left(alice.request("GET")), left(bob.request("GET"))) == (2, 2)


def test_a_page_may_read_the_headers_of_the_limit(limited: Service) -> None:
    answer = limited.client().request("GET", headers={"Origin": "https://app.example"})
    exposed = {name.strip().lower() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"ratelimit", "ratelimit-policy", "retry-after"} <= exposed


def fail(service: Service, address: str, token: str | None = None) -> httpx2.Response:
    headers = {"X-Forwarded-For": address} | ({"Authorization": f"Bearer {token}"} if token else {})
    return service.http.get("/api/someone/tasks", headers=headers)


def test_an_address_that_fails_to_authenticate_too_often_gets_429(limited: Service) -> None:
    address = "192.0.2.1"
    assert_problem(fail(limited, address), 401, "AUTH_MISSING")
    answer = fail(limited, address, sign("someone", secret=f"another-{SECRET}"))
    assert_problem(answer, 401, "AUTH_INVALID")
    assert "ratelimit" not in answer.headers
    answer = fail(limited, address)
    assert_problem(answer, 429, "RATE_LIMITED")
    assert answer.headers["ratelimit-policy"] == f'"auth-failure";q=2;w={SECONDS}'
    assert answer.headers["ratelimit"] == f'"auth-failure";r=0;t={answer.headers["retry-after"]}'
    # Other addresses are not affected, nor are valid tokens from the same one.
    assert fail(limited, "192.0.2.2").status_code == 401
    assert limited.client().request("GET", headers={"X-Forwarded-For": address}).status_code == 200
    assert limited.http.get("/health", headers={"X-Forwarded-For": address}).status_code == 200


def test_a_403_is_no_failure_to_authenticate(limited: Service) -> None:
    headers = {"X-Forwarded-For": "192.0.2.3"}
    for _ in range(3):
        assert limited.client().request("GET", "/api/someone/tasks", headers=headers).status_code == 403
    assert fail(limited, "192.0.2.3").status_code == 401


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("2001:db8:1:1::1", "2001:db8:1:1:ffff::2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.4", "192.0.2.4", True),
        ("::ffff:192.0.2.5", "::ffff:192.0.2.6", False),
    ],
)
def test_the_addresses_of_an_ipv6_network_count_together(
    limited: Service, first: str, second: str, *, shared: bool
) -> None:
    assert [fail(limited, first).status_code for _ in range(3)] == [401, 401, 429]
    assert fail(limited, second).status_code == (429 if shared else 401)


def test_the_log_has_one_line_for_all_refused_requests(limited: Service, caplog: pytest.LogCaptureFixture) -> None:
    alice = limited.client()
    time_of_a_line = 1.1

    async def main() -> None:
        # Let the lines of other tests pass.
        await asyncio.sleep(time_of_a_line)
        with caplog.at_level(logging.INFO, "taskwell.problems"):
            caplog.clear()
            for _ in range(6):
                await asyncio.to_thread(alice.request, "GET")
            for _ in range(6):
                await asyncio.to_thread(fail, limited, "192.0.2.7")
            await asyncio.sleep(time_of_a_line)

    asyncio.run(main())
    messages = [record.getMessage() for record in caplog.records if record.name == "taskwell.problems"]
    assert sum("AUTH_MISSING" in message for message in messages) == 2
    assert [message for message in messages if "AUTH_MISSING" not in message] == [
        "refused 3 requests of users above the rate limit of 3/day",
        "refused 4 requests without a valid token, from addresses above the limit of 2/day",
    ]


# --- with routes of our own


class App(FastAPI):
    front: EndpointEngine

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"request_id": "the-id"}
        await self.front(scope, receive, send)


router = APIRouter(route_class=Endpoint)


@router.get("/{status}")
async def respond(status: int) -> Response:
    return Response(status_code=status)


async def alice_or_error(request: Request) -> None:
    if error := {"401": AuthInvalid("wrong"), "403": AuthForbidden()}.get(request.headers.get("x-auth", "")):
        raise error
    request.scope["state"]["owner"] = "alice"


class Absent:
    """A counter that cannot count."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> None:
        del key, expiry, amount


def statuses(limits: RateLimits, requests: list[tuple[str, str]]) -> list[tuple[int, str | None]]:
    """Sends GET requests, and returns the status and the RateLimit header of each response."""
    app = App()
    app.include_router(router)
    app.front = EndpointEngine(
        super(App, app).__call__,
        app.routes,
        authenticate=alice_or_error,
        in_flight=InFlight(10),
        bodies=BodyReader(seconds=1),
        on_write=lambda _owner: None,
        rate_limits=limits,
    )

    async def main() -> list[tuple[int, str | None]]:
        answers: list[tuple[int, str | None]] = []
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            for path, auth in requests:
                answer = await client.get(path, headers={"X-Auth": auth})
                limit = answer.headers.get("ratelimit")
                answers.append((answer.status_code, limit and limit.partition(";t=")[0]))
        return answers

    return anyio.run(main)


def test_a_304_counts_nothing() -> None:
    limits = RateLimits(user_limit(Rate(2, "day"), BoundedMemory()), None)
    assert statuses(limits, [(path, "") for path in ("/304", "/304", "/200", "/304", "/304", "/200", "/304")]) == [
        (304, '"user";r=2'),
        (304, '"user";r=2'),
        (200, '"user";r=1'),
        (304, '"user";r=1'),
        (304, '"user";r=1'),
        (200, '"user";r=0'),
        (429, '"user";r=0'),
    ]


def test_each_limit_works_without_the_other() -> None:
    requests = [("/200", ""), ("/200", "401"), ("/200", "401"), ("/200", ""), ("/200", "403")]
    users = RateLimits(user_limit(Rate(1, "day"), BoundedMemory()), None)
    assert [status for status, _ in statuses(users, requests)] == [200, 401, 401, 429, 403]
    failures = RateLimits(None, failure_limit(Rate(1, "day"), BoundedMemory()))
    assert statuses(failures, requests) == [
        (200, None), (401, None), (429, '"auth-failure";r=0'), (200, None), (403, None),
    ]  # fmt: skip


def test_requests_pass_when_they_cannot_be_counted() -> None:
    limits = RateLimits(user_limit(Rate(1, "day"), Absent()), failure_limit(Rate(1, "day"), Absent()))
    requests = [("/200", ""), ("/304", ""), ("/200", ""), ("/200", "401"), ("/200", "401")]
    assert statuses(limits, requests) == [(200, None), (304, None), (200, None), (401, None), (401, None)]


# --- memory


def counts(memory: BoundedMemory, keys: list[str], expiry: float = SECONDS) -> list[int]:
    async def main() -> list[int]:
        return [await memory.incr(key, expiry) for key in keys]

    return asyncio.run(main())


def test_strangers_cannot_fill_the_memory() -> None:
    memory = BoundedMemory(max_keys=100)
    assert counts(memory, ["first", "second", "second"]) == [1, 1, 2]
    assert set(counts(memory, [str(number) for number in range(99)])) == {1}
    assert len(memory) == 100
    # The oldest key is forgotten, the others are not.
    assert counts(memory, ["second", "98", "first"]) == [3, 2, 1]
    assert len(memory) == 100


def test_the_memory_forgets_counts_that_expired() -> None:
    memory = BoundedMemory()
    counts(memory, [str(number) for number in range(50)], expiry=0)
    assert counts(memory, ["a", "b", "a"]) == [1, 1, 2]
    counts(memory, [str(number) for number in range(100, 150)])
    assert len(memory) == 52


# --- off


def test_without_a_limit_nothing_is_sent_or_imported(service: Service) -> None:
    alice: Client = service.client()
    for answer in [alice.request("GET") for _ in range(20)] + [fail(service, "192.0.2.1") for _ in range(20)]:
        assert answer.status_code in {200, 401}
        assert not {"ratelimit", "ratelimit-policy", "retry-after"} & set(answer.headers)


IMPORTED = """
import sys
from taskwell.app import create_app
from taskwell.settings import Settings

create_app(Settings.read(%r))
print(*sorted({"limits", "redis"} & sys.modules.keys()))
"""


@pytest.mark.parametrize(
    ("settings", "imported"),
    [
        ({}, []),
        ({"TASKWELL_RATE_LIMIT": "1/second"}, ["limits"]),
        ({"TASKWELL_AUTH_FAILURE_LIMIT": "1/second"}, ["limits"]),
        (
            {"TASKWELL_RATE_LIMIT": "1/second", "TASKWELL_RATE_LIMIT_STORAGE": "redis://localhost"},
            ["limits", "redis"],
        ),
    ],
)
def test_only_a_limit_imports_the_packages_that_count(
    settings: dict[str, str], imported: list[str], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"DATABASE_URL": f"sqlite:///{tmp_path}/t.db", "BETTER_AUTH_SECRET": SECRET, **settings}
    assert output_of(IMPORTED % given).split() == imported


def output_of(program: str) -> str:
    """Runs a program in a process of its own."""
    return str(anyio.run(anyio.run_process, [sys.executable, "-W", "error", "-c", program]).stdout.decode())
