"""While the auth server is slow or down, only requests that need a new key wait, and only a few seconds."""

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
class Deployment:
    """A controllable auth server and the service that uses its keys."""

    auth_server: AuthServer
    service: Service

    def request(self, client: Client, kid: str = "known") -> httpx2.Response:
        origin = self.auth_server.origin
        token = Signer("EdDSA", KEY, {"kid": kid}, {"iss": origin, "aud": origin}).token(client.user)
        return client.http.get(client.home, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture
def deployment(new_database_url: Callable[[str], str]) -> Iterator[Deployment]:
    with AuthServer(key_set(KNOWN)) as auth_server:
        settings = {"BETTER_AUTH_URL": auth_server.origin, "BETTER_AUTH_SECRET": ""}
        with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service:  # type: ignore[arg-type]
            deployment = Deployment(auth_server, service)
            assert deployment.request(service.client()).status_code == 200
            yield deployment


def test_other_requests_do_not_wait_for_a_slow_key_set(deployment: Deployment) -> None:
    def never_reply(request: BaseHTTPRequestHandler) -> None:
        del request
        deployment.auth_server.over.wait(8)

    deployment.auth_server.behaviour = never_reply
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(deployment.request, deployment.service.client(), "new")
        time.sleep(0.2)
        started = time.monotonic()
        assert deployment.service.http.get("/health").status_code == 200
        assert deployment.service.http.get("/health/ready").status_code == 200
        assert deployment.request(deployment.service.client()).status_code == 200
        assert time.monotonic() - started < 2
        assert not waiting.done()
        assert_problem(waiting.result(), 401, "AUTH_INVALID")


def test_a_flood_of_unknown_keys_causes_three_fetches(deployment: Deployment) -> None:
    deployment.auth_server.behaviour = body(b"{}", 500)
    before = len(deployment.auth_server.requests)
    started = time.monotonic()
    client = deployment.service.client()
    with ThreadPoolExecutor(20) as threads:
        responses = [
            job.result() for job in [threads.submit(deployment.request, client, f"new {n}") for n in range(400)]
        ]
    assert {response.status_code for response in responses} == {401}
    refilled = (time.monotonic() - started) // 5
    assert 1 <= len(deployment.auth_server.requests) - before <= 3 + refilled
    assert deployment.request(client).status_code == 200
