"""The service with a real Better Auth: its users reach their own tasks, and its other tokens are refused."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx2
import pytest

from support.better_auth import COOKIE_CACHE, BetterAuth, User
from support.problem import assert_problem
from support.service import Service, running


@dataclass
class Site:
    """A Better Auth and a service that accepts its tokens."""

    auth: BetterAuth
    service: Service

    def send(self, user: User, token: str, method: str = "GET", path: str = "", **options: object) -> httpx2.Response:
        """Requests `path` below the user's tasks, with `token`."""
        return self.service.http.request(
            method,
            f"/api/{user.id}/tasks{path}",
            headers={"Authorization": f"Bearer {token}"},
            **options,  # type: ignore[arg-type]
        )


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def site(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database_url: Callable[[str], str],
) -> Iterator[Site]:
    """Better Auth configured as in the example, and a service that knows only its URL."""
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        url = new_database_url(request.param)
        with running(request.param, DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="") as service:
            yield Site(auth, service)


@pytest.fixture
def sqlite_site(tmp_path: Path, new_database_url: Callable[[str], str]) -> Iterator[Callable[..., Site]]:
    """Starts another site, configured differently. The site stops when the test ends."""
    with ExitStack() as stack:

        def make(name: str = "one", *, jwt: str = "jwt()", options: str = "") -> Site:
            folder = tmp_path / name
            folder.mkdir()
            auth = stack.enter_context(BetterAuth(folder, jwt=jwt, options=options))
            url = new_database_url("sqlite")
            service = running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="")
            return Site(auth, stack.enter_context(service))

        yield make


def _use_every_endpoint(site: Site, user: User, token: str) -> None:
    created = site.send(user, token, "POST", json={"title": "Buy milk"})
    assert created.status_code == 201, created.text
    one = f"/{created.json()['id']}"
    assert created.json()["user_id"] == user.id
    assert site.send(user, token, "GET", one).json() == created.json()
    assert site.send(user, token, "PUT", one, json=created.json() | {"title": "Buy bread"}).status_code == 200
    assert site.send(user, token, "PATCH", one, json={"complete": True}).json()["complete"] is True
    assert site.send(user, token).json()["count"] == 1
    assert site.send(user, token, "DELETE", one).status_code == 204


def test_two_users_use_every_endpoint_for_their_own_tasks_and_get_403_for_the_other(site: Site) -> None:
    alice, bob = site.auth.sign_up("Alice"), site.auth.sign_up("Bob")
    tokens = {user.id: site.auth.token(user) for user in (alice, bob)}
    for user, other in ((alice, bob), (bob, alice)):
        _use_every_endpoint(site, user, tokens[user.id])
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/1"),
            ("PUT", "/1"),
            ("PATCH", "/1"),
            ("DELETE", "/1"),
        ):
            assert_problem(site.send(other, tokens[user.id], method, path, json={}), 403, "AUTH_FORBIDDEN")


@pytest.mark.parametrize(
    "jwt",
    [
        "jwt({ jwt: { definePayload: ({ user }) => ({ user_id: user.id }) } })",
        "jwt({ jwt: { definePayload: ({ user }) => ({ email: user.email }) } })",
        *[
            f'jwt({{ jwks: {{ keyPairConfig: {{ alg: "{alg}" }} }} }})'
            for alg in ("EdDSA", "Ed25519", "ES256", "ES384", "ES512", "RS256", "PS256")
        ],
    ],
)
def test_tokens_of_every_payload_and_algorithm_are_accepted(sqlite_site: Callable[..., Site], jwt: str) -> None:
    site = sqlite_site(jwt=jwt)
    user = site.auth.sign_up()
    _use_every_endpoint(site, user, site.auth.token(user))


def test_session_tokens_and_session_cookies_are_not_access_tokens(sqlite_site: Callable[..., Site]) -> None:
    site = sqlite_site(options=COOKIE_CACHE)
    user = site.auth.sign_up()
    assert user.cached_session.count(".") == 2
    assert_problem(site.send(user, user.session_token), 401, "AUTH_INVALID")
    assert_problem(site.send(user, user.cached_session), 401, "AUTH_INVALID")


@pytest.mark.parametrize(
    ("jwt", "same_issuer"),
    [
        ('jwt({ jwt: { audience: "https://elsewhere.example" } })', True),
        ("jwt()", False),
    ],
)
def test_tokens_for_another_audience_or_from_another_issuer_are_refused_although_the_key_is_the_same(
    site: Site,
    tmp_path: Path,
    jwt: str,
    same_issuer: bool,  # noqa: FBT001 - a column of the table
) -> None:
    user = site.auth.sign_up()
    assert site.send(user, site.auth.token(user)).status_code == 200
    issuer: dict[str, Any] = {"BETTER_AUTH_URL": site.auth.url} if same_issuer else {}
    with BetterAuth(tmp_path, database=site.auth.database, jwt=jwt, **issuer) as other:
        assert_problem(site.send(user, other.token(user)), 401, "AUTH_INVALID")


def test_a_session_cookie_signed_with_the_key_of_access_tokens_is_refused(site: Site, tmp_path: Path) -> None:
    with BetterAuth(
        tmp_path,
        database=site.auth.database,
        options=COOKIE_CACHE,
        jwt="jwt({ sessionCookieCache: true })",
        BETTER_AUTH_URL=site.auth.url,
    ) as other:
        user = other.sign_up()
    assert_problem(site.send(user, user.cached_session), 401, "AUTH_INVALID")
    assert site.send(user, site.auth.token(user)).status_code == 200


def test_no_valid_token_is_refused_while_keys_rotate(site: Site) -> None:
    users = [site.auth.sign_up(name) for name in ("Alice", "Bob", "Carol")]
    end = time.monotonic() + 3

    def use(user: User) -> list[int]:
        statuses = []
        while time.monotonic() < end:
            reply = site.auth.request("GET", "/api/auth/token", headers=user.headers)
            # Better Auth sometimes finds no session while the test writes to its database. A browser would retry.
            if reply.status_code == HTTPStatus.OK:
                statuses.append(site.send(user, reply.json()["token"]).status_code)
        return statuses

    with ThreadPoolExecutor(len(users)) as threads:
        requesting = [threads.submit(use, user) for user in users]
        for _ in range(2):
            time.sleep(0.7)
            site.auth.expire_keys()
        statuses = [status for requests in requesting for status in requests.result()]
    # On average each user asked before, between and after the two rotations, even on a busy machine.
    assert len(statuses) >= 3 * len(users)
    assert set(statuses) == {200}


def test_users_keep_working_while_better_auth_is_down(site: Site) -> None:
    user, late = site.auth.sign_up("Alice"), site.auth.sign_up("Bob")
    token, unseen = site.auth.token(user), site.auth.token(late)
    assert site.send(user, token).status_code == 200
    site.auth.stop()
    try:
        assert site.send(user, token).status_code == 200
        assert site.send(late, unseen).status_code == 200
        assert site.service.http.get("/health/ready").status_code == 200
    finally:
        site.auth.start()
    assert site.send(user, site.auth.token(user)).status_code == 200


def test_tokens_of_a_deleted_key_are_refused_after_the_next_fetch_of_the_key_set(
    sqlite_site: Callable[..., Site],
) -> None:
    site = sqlite_site()
    user = site.auth.sign_up()
    leaked = site.auth.token(user)
    assert site.send(user, leaked).status_code == 200
    site.auth.delete_keys()
    assert site.send(user, site.auth.token(user)).status_code == 200
    assert_problem(site.send(user, leaked), 401, "AUTH_INVALID")


def test_requests_get_503_until_better_auth_is_first_reached(
    tmp_path: Path, new_database_url: Callable[[str], str]
) -> None:
    with BetterAuth(tmp_path) as auth:
        user, token = (alice := auth.sign_up()), auth.token(alice)
        auth.stop()
        url = new_database_url("sqlite")
        with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="") as service:
            site = Site(auth, service)
            response = site.send(user, token)
            assert_problem(response, 503, "AUTH_UNAVAILABLE")
            assert int(response.headers["retry-after"]) > 0
            assert_problem(service.http.get("/health/ready"), 503, "AUTH_UNAVAILABLE")
            assert service.http.get("/health").status_code == 200
            auth.start()
            deadline = time.monotonic() + 15
            while site.send(user, token).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert service.http.get("/health/ready").status_code == 200
