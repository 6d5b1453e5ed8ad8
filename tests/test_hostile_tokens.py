"""Any token that the auth server did not issue is a cheap 401, with a shared secret and with a key set."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.auth_server import AuthServer, body, key_set
from support.hostile import hostile_tokens, tokens_without_scope
from support.problem import assert_problem
from support.service import SECRET, Client, Service, running
from support.tokens import Signer, jwk, private_key

MODES = ["HS256", "EdDSA", "ES256", "RS256"]
KEY = private_key("EdDSA")


@dataclass
class ProtectedService:
    """A service and the signer whose tokens it accepts."""

    service: Service
    signer: Signer
    auth_server: AuthServer | None


@pytest.fixture(scope="module", params=MODES)
def protected(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[ProtectedService]:
    """A service that verifies tokens in the given mode."""
    url, alg = new_database_url("sqlite"), request.param
    if alg == "HS256":
        with running("sqlite", DATABASE_URL=url) as service:
            yield ProtectedService(service, Signer(alg, SECRET.encode()), None)
        return
    key = private_key(alg)
    with AuthServer(key_set(jwk(private_key("ES384"), kid="other"), jwk(key, kid="k"))) as auth_server:
        origin = auth_server.origin
        with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=origin, BETTER_AUTH_SECRET="") as service:
            signer = Signer(alg, key, {"kid": "k"}, {"iss": origin, "aud": origin})
            _wait_for_keys(service)
            yield ProtectedService(service, signer, auth_server)


def test_until_the_first_key_set_arrives_clients_are_told_to_retry(new_database_url: Callable[[str], str]) -> None:
    with AuthServer(body(b"", 500)) as auth_server:
        origin = auth_server.origin
        url = new_database_url("sqlite")
        with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=origin, BETTER_AUTH_SECRET="") as service:
            client = service.client("alice")
            token = Signer("EdDSA", KEY, {"kid": "k"}, {"iss": origin, "aud": origin}).token("alice")
            response = client.request("GET", headers={"Authorization": f"Bearer {token}"})
            assert_problem(response, 503, "AUTH_UNAVAILABLE")
            assert int(response.headers["retry-after"]) > 0


def _wait_for_keys(service: Service) -> None:
    deadline = time.monotonic() + 5
    while service.http.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.01)


def _send(client: Client, token: str) -> tuple[int, float]:
    """Sends `token`. Returns the status and the CPU seconds that this process used."""
    started = time.process_time()
    headers = {b"Authorization": f"Bearer {token}".encode("latin-1", "replace")}
    response = client.http.get(client.home, headers=headers)
    seconds = time.process_time() - started
    if response.status_code != 200:
        assert_problem(response, 401, "AUTH_INVALID")
        assert response.headers["www-authenticate"].startswith("Bearer error=")
    return response.status_code, seconds


def test_a_good_token_is_accepted(protected: ProtectedService) -> None:
    client = protected.service.client("alice")
    assert _send(client, protected.signer.token("alice"))[0] == 200
    assert _send(client, protected.signer.token("alice", {"typ": "JWT"}, nbf=int(time.time())))[0] == 200


def test_no_hostile_token_is_accepted_or_logged(protected: ProtectedService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = protected.service.client("alice")
    forms = hostile_tokens(protected.signer, "alice")
    assert len(forms) >= 180
    accepted = [name for name, token in forms.items() if _send(client, token)[0] != 401]
    assert accepted == []
    log = caplog.text
    assert "signature: " in log
    for name, token in forms.items():
        assert len(token) < 40 or token not in log, name
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_no_access_token_without_the_scope_is_accepted(protected: ProtectedService) -> None:
    client = protected.service.client("alice")
    tokens = tokens_without_scope(protected.signer, "alice")
    assert len(tokens) >= 100
    for name, token in tokens.items():
        response = client.http.get(client.home, headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 403, name
        assert_problem(response, 403, "AUTH_FORBIDDEN")
        assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="tasks:read"', name


def test_a_hostile_token_costs_less_than_50_ms_of_cpu(protected: ProtectedService) -> None:
    client = protected.service.client("alice")
    # The minimum of three, because other work of this process counts too.
    for name, token in hostile_tokens(protected.signer, "alice").items():
        assert min(_send(client, token)[1] for _ in range(3)) < 0.05, name


def test_hostile_tokens_cause_few_fetches(protected: ProtectedService) -> None:
    if protected.auth_server is None:
        return
    client = protected.service.client("alice")
    before = len(protected.auth_server.requests)
    started = time.monotonic()
    for number in range(300):
        _send(client, protected.signer.token("alice", {"kid": f"unknown {number}"}))
    allowed = 3 + (time.monotonic() - started) / 5 + 1
    assert len(protected.auth_server.requests) - before <= allowed


def test_a_token_with_wrong_claims_causes_no_fetch(protected: ProtectedService) -> None:
    if protected.auth_server is None:
        return
    client = protected.service.client("alice")
    before = len(protected.auth_server.requests)
    wrong: list[dict[str, Any]] = [{"iss": "https://elsewhere.example"}, {"aud": "x"}, {"exp": 1}, {"sub": None}]
    for number, claims in enumerate(wrong):
        _send(client, protected.signer.token("alice", {"kid": f"wrong claims {number}"}, **claims))
    assert len(protected.auth_server.requests) == before
