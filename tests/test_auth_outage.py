"""While the auth server is slow, broken or away, only who needs a new key waits, and not for long."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler

import httpx2
import pytest

from support.auth_server import AuthServer, body, key_set
from support.problem import assert_problem
from support.service import Client, Service, running
from support.tokens import Signer, jwk, private_key

KEY = private_key("EdDSA")
KNOWN = jwk(KEY, kid="known")


@dataclass
class Site:
    """An auth server that does as it is told, and the service that believes its keys."""

    auth_server: AuthServer
    service: Service

    def ask(self, client: Client, kid: str = "known") -> httpx2.Response:
        origin = self.auth_server.origin
        token = Signer("EdDSA", KEY, {"kid": kid}, {"iss": origin, "aud": origin}).token(client.user)
        return client.http.get(client.home, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def site(new_database_url: Callable[[str], str]) -> Iterator[Site]:
    with AuthServer(key_set(KNOWN)) as auth_server:
        settings = {"BETTER_AUTH_URL": auth_server.origin, "BETTER_AUTH_SECRET": ""}
        with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service:  # type: ignore[arg-type]
            made = Site(auth_server, service)
            assert made.ask(service.client()).status_code == 200
            yield made


def test_nobody_else_waits_for_a_key_that_is_slow_to_come(site: Site) -> None:
    def hang(request: BaseHTTPRequestHandler) -> None:
        del request
        site.auth_server.over.wait(8)

    site.auth_server.behaviour = hang
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(site.ask, site.service.client(), "new")
        time.sleep(0.2)
        started = time.monotonic()
        assert site.service.http.get("/health").status_code == 200
        assert site.service.http.get("/health/ready").status_code == 200
        assert site.ask(site.service.client()).status_code == 200
        assert time.monotonic() - started < 2
        assert not waiting.done()
        assert_problem(waiting.result(), 401, "AUTH_INVALID")


def test_a_flood_of_invented_keys_reaches_the_auth_server_three_times(site: Site) -> None:
    site.auth_server.behaviour = body(b"{}", 500)
    before = len(site.auth_server.requests)
    started = time.monotonic()
    client = site.service.client()
    with ThreadPoolExecutor(20) as threads:
        answers = [job.result() for job in [threads.submit(site.ask, client, f"new {n}") for n in range(400)]]
    assert {answer.status_code for answer in answers} == {401}
    refilled = (time.monotonic() - started) // 5
    assert 1 <= len(site.auth_server.requests) - before <= 3 + refilled
    assert site.ask(client).status_code == 200
