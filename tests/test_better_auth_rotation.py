"""When the keys of a real Better Auth change, and how often it may be asked for them."""

import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from support.better_auth import BetterAuth, User


def kid(auth: BetterAuth, user: User) -> str:
    """The key that signs now."""
    return str(jwt.get_unverified_header(auth.token(user))["kid"])


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BetterAuth]:
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        yield auth


def test_a_new_key_appears_with_the_first_token_it_signs_and_the_old_one_stays(auth: BetterAuth) -> None:
    old = kid(auth, user := auth.sign_up())
    before = set(auth.keys())
    auth.expire_keys()
    assert set(auth.keys()) == before
    new = kid(auth, user)
    assert new not in before
    assert set(auth.keys()) == before | {new} > {old}
    assert kid(auth, user) == new


def test_deleted_keys_are_gone_at_once(auth: BetterAuth) -> None:
    kid(auth, user := auth.sign_up())
    auth.delete_keys()
    assert {kid(auth, user)} == set(auth.keys())


def test_a_rotation_by_time_is_the_same_and_the_old_key_goes_after_its_grace_period(tmp_path: Path) -> None:
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


def test_a_key_made_without_an_interval_signs_on_whatever_is_configured_later(tmp_path: Path) -> None:
    with BetterAuth(tmp_path) as auth:
        old = kid(auth, user := auth.sign_up())
        auth.restart(jwt='jwt({ jwks: { rotationInterval: 1, keyPairConfig: { alg: "ES256" } } })')
        time.sleep(1.1)
        assert kid(auth, user) == old
        auth.expire_keys()
        assert kid(auth, user) != old
        assert sorted(key["alg"] for key in auth.keys().values()) == ["ES256", "EdDSA"]


def test_in_production_the_key_set_is_refused_after_100_fetches(tmp_path: Path) -> None:
    with BetterAuth(tmp_path, NODE_ENV="production") as auth:
        answers = [auth.request("GET", "/api/auth/jwks") for _ in range(101)]
    assert {answer.status_code for answer in answers[:100]} == {200}
    assert answers[100].status_code == 429
    assert int(answers[100].headers["x-retry-after"]) <= 10
    assert "retry-after" not in answers[100].headers


def test_fetches_closer_than_the_window_are_refused_in_the_end(tmp_path: Path) -> None:
    with BetterAuth(tmp_path, options="rateLimit: { enabled: true, window: 2, max: 3 }, ") as auth:
        statuses = []
        for pause in (0, 0.8, 0.8, 0.8):
            time.sleep(pause)
            statuses.append(auth.request("GET", "/api/auth/jwks").status_code)
    assert statuses == [200, 200, 200, 429]
