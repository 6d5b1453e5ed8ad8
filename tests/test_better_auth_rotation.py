"""When a real Better Auth changes its signing keys, and how it limits fetches of the key set."""

import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from support.better_auth import BetterAuth, User


def kid(auth: BetterAuth, user: User) -> str:
    """Returns the id of the key that signs tokens now."""
    return str(jwt.get_unverified_header(auth.token(user))["kid"])


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BetterAuth]:
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        yield auth


def test_a_new_key_appears_with_the_first_token_it_signs_and_the_old_key_stays(auth: BetterAuth) -> None:
    old = kid(auth, user := auth.sign_up())
    before = set(auth.keys())
    auth.expire_keys()
    assert set(auth.keys()) == before
    new = kid(auth, user)
    assert new not in before
    assert set(auth.keys()) == before | {new} > {old}
    assert kid(auth, user) == new


def test_a_deleted_key_disappears_immediately(auth: BetterAuth) -> None:
    kid(auth, user := auth.sign_up())
    auth.delete_keys()
    assert {kid(auth, user)} == set(auth.keys())


def test_keys_rotate_after_the_interval_and_the_old_key_disappears_after_its_grace_period(tmp_path: Path) -> None:
    with BetterAuth(tmp_path, jwt="jwt({ jwks: { rotationInterval: 1, gracePeriod: 3 } })") as auth:
        old = kid(auth, user := auth.sign_up())
        time.sleep(1.1)
        assert set(auth.keys()) == {old}
        new = kid(auth, user)
        assert set(auth.keys()) == {old, new}
        deadline = time.monotonic() + 10
        while old in set(auth.keys()):
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_key_made_without_an_interval_keeps_signing_after_an_interval_is_configured(tmp_path: Path) -> None:
    with BetterAuth(tmp_path) as auth:
        old = kid(auth, user := auth.sign_up())
        auth.restart(jwt='jwt({ jwks: { rotationInterval: 1, keyPairConfig: { alg: "ES256" } } })')
        time.sleep(1.1)
        assert kid(auth, user) == old
        auth.expire_keys()
        assert kid(auth, user) != old
        assert sorted(key["alg"] for key in auth.keys().values()) == ["ES256", "EdDSA"]


def test_in_production_the_101st_fetch_of_the_key_set_gets_429(tmp_path: Path) -> None:
    with BetterAuth(tmp_path, NODE_ENV="production") as auth:
        responses = [auth.request("GET", "/api/auth/jwks") for _ in range(101)]
    assert {response.status_code for response in responses[:100]} == {200}
    assert responses[100].status_code == 429
    assert int(responses[100].headers["x-retry-after"]) <= 10
    assert "retry-after" not in responses[100].headers


def test_steady_fetches_within_the_rate_limit_window_end_in_429(tmp_path: Path) -> None:
    with BetterAuth(tmp_path, options="rateLimit: { enabled: true, window: 2, max: 3 }, ") as auth:
        statuses = []
        for pause in (0, 0.8, 0.8, 0.8):
            time.sleep(pause)
            statuses.append(auth.request("GET", "/api/auth/jwks").status_code)
    assert statuses == [200, 200, 200, 429]
