"""Every token that is not exactly what the auth server issued is 401, cheaply, in both modes."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from support.auth_server import AuthServer, body, key_set
from support.hostile import hostile_tokens
from support.problem import assert_problem
from support.service import SECRET, Client, Service, running
from support.tokens import Signer, jwk, private_key

MODES = ["HS256", "EdDSA", "ES256", "RS256"]
KEY = private_key("EdDSA")


@dataclass
class Guarded:
    """A service, and who signs for it."""

    service: Service
    signer: Signer
    auth_server: AuthServer | None


@pytest.fixture(scope="module", params=MODES)
def guarded(request: pytest.FixtureRequest, new_database_url: Callable[[str], str]) -> Iterator[Guarded]:
    """A service that verifies by the mode."""
    url, alg = new_database_url("sqlite"), request.param
    if alg == "HS256":
        with running("sqlite", DATABASE_URL=url) as service:
            yield Guarded(service, Signer(alg, SECRET.encode()), None)
        return
    key = private_key(alg)
    with AuthServer(key_set(jwk(private_key("ES384"), kid="other"), jwk(key, kid="k"))) as auth_server:
        origin = auth_server.origin
        with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=origin, BETTER_AUTH_SECRET="") as service:
            signer = Signer(alg, key, {"kid": "k"}, {"iss": origin, "aud": origin})
            _wait_for_keys(service)
            yield Guarded(service, signer, auth_server)


def test_before_any_key_came_users_are_told_to_come_again(new_database_url: Callable[[str], str]) -> None:
    with AuthServer(body(b"", 500)) as auth_server:
        origin = auth_server.origin
        url = new_database_url("sqlite")
        with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=origin, BETTER_AUTH_SECRET="") as service:
            client = service.client("alice")
            token = Signer("EdDSA", KEY, {"kid": "k"}, {"iss": origin, "aud": origin}).token("alice")
            answer = client.request("GET", headers={"Authorization": f"Bearer {token}"})
            assert_problem(answer, 503, "AUTH_UNAVAILABLE")
            assert int(answer.headers["retry-after"]) > 0


def _wait_for_keys(service: Service) -> None:
    deadline = time.monotonic() + 5
    while service.http.get("/health/ready").status_code != 200 and time.monotonic() < deadline:
        time.sleep(0.01)


def _asked(client: Client, token: str) -> tuple[int, float]:
    """The status for `token`, and the CPU seconds of this whole process meanwhile."""
    started = time.process_time()
    headers = {b"Authorization": f"Bearer {token}".encode("latin-1", "replace")}
    answer = client.http.get(client.home, headers=headers)
    seconds = time.process_time() - started
    if answer.status_code != 200:
        assert_problem(answer, 401, "AUTH_INVALID")
        assert answer.headers["www-authenticate"].startswith("Bearer error=")
    return answer.status_code, seconds


def test_a_good_token_is_believed(guarded: Guarded) -> None:
    client = guarded.service.client("alice")
    assert _asked(client, guarded.signer.token("alice"))[0] == 200
    assert _asked(client, guarded.signer.token("alice", {"typ": "JWT"}, nbf=int(time.time())))[0] == 200


def test_no_hostile_token_is_believed_or_costly_or_in_the_log(
    guarded: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = guarded.service.client("alice")
    forms = hostile_tokens(guarded.signer, "alice")
    assert len(forms) >= 150
    believed = [name for name, token in forms.items() if _asked(client, token)[0] != 401]
    assert believed == []
    log = caplog.text
    assert "signature: " in log
    for name, token in forms.items():
        assert len(token) < 40 or token not in log, name
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_hostile_token_costs_less_than_50_ms_of_cpu(guarded: Guarded) -> None:
    client = guarded.service.client("alice")
    # The least of three: what else the process does meanwhile is not the token's cost.
    for name, token in hostile_tokens(guarded.signer, "alice").items():
        assert min(_asked(client, token)[1] for _ in range(3)) < 0.05, name


def test_hostile_tokens_cause_few_fetches(guarded: Guarded) -> None:
    if guarded.auth_server is None:
        return
    client = guarded.service.client("alice")
    before = len(guarded.auth_server.requests)
    started = time.monotonic()
    for number in range(300):
        _asked(client, guarded.signer.token("alice", {"kid": f"unknown {number}"}))
    allowed = 3 + (time.monotonic() - started) / 5 + 1
    assert len(guarded.auth_server.requests) - before <= allowed


def test_tokens_that_would_not_fit_anyway_cause_no_fetch(guarded: Guarded) -> None:
    if guarded.auth_server is None:
        return
    client = guarded.service.client("alice")
    before = len(guarded.auth_server.requests)
    misfits: list[dict[str, Any]] = [{"iss": "https://elsewhere.example"}, {"aud": "x"}, {"exp": 1}, {"sub": None}]
    for number, claims in enumerate(misfits):
        _asked(client, guarded.signer.token("alice", {"kid": f"fitting not {number}"}, **claims))
    assert len(guarded.auth_server.requests) == before
