"""A real Better Auth in front of the service: its users reach their tasks, and nothing else of its making gets in."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import httpx2
import pytest

from support.better_auth import COOKIE_CACHE, BetterAuth, User
from support.problem import assert_problem
from support.service import Service, running


@dataclass
class Site:
    """A Better Auth, and the service that believes it."""

    auth: BetterAuth
    service: Service

    def ask(self, user: User, token: str, method: str = "GET", path: str = "", **options: object) -> httpx2.Response:
        """A request to the user's tasks with `token`."""
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
    """Better Auth as the example has it, and the service told nothing but where it is."""
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        url = new_database_url(request.param)
        with running(request.param, DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="") as service:
            yield Site(auth, service)


@pytest.fixture
def sqlite_site(tmp_path: Path, new_database_url: Callable[[str], str]) -> Iterator[Callable[..., Site]]:
    """Makes one more, configured differently; its parts end with the test."""
    with ExitStack() as stack:

        def make(name: str = "one", *, jwt: str = "jwt()", options: str = "") -> Site:
            folder = tmp_path / name
            folder.mkdir()
            auth = stack.enter_context(BetterAuth(folder, jwt=jwt, options=options))
            url = new_database_url("sqlite")
            service = running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="")
            return Site(auth, stack.enter_context(service))

        yield make


def _use_all_six(site: Site, user: User, token: str) -> None:
    created = site.ask(user, token, "POST", json={"title": "Buy milk"})
    assert created.status_code == 201, created.text
    one = f"/{created.json()['id']}"
    assert created.json()["user_id"] == user.id
    assert site.ask(user, token, "GET", one).json() == created.json()
    assert site.ask(user, token, "PUT", one, json=created.json() | {"title": "Buy bread"}).status_code == 200
    assert site.ask(user, token, "PATCH", one, json={"complete": True}).json()["complete"] is True
    assert site.ask(user, token).json()["count"] == 1
    assert site.ask(user, token, "DELETE", one).status_code == 204


def test_two_users_use_all_six_endpoints_and_are_refused_the_others(site: Site) -> None:
    alice, bob = site.auth.sign_up("Alice"), site.auth.sign_up("Bob")
    tokens = {user.id: site.auth.token(user) for user in (alice, bob)}
    for user, other in ((alice, bob), (bob, alice)):
        _use_all_six(site, user, tokens[user.id])
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("GET", "/1"),
            ("PUT", "/1"),
            ("PATCH", "/1"),
            ("DELETE", "/1"),
        ):
            assert_problem(site.ask(other, tokens[user.id], method, path, json={}), 403, "AUTH_FORBIDDEN")


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
def test_every_payload_and_algorithm_that_it_can_sign_is_understood(sqlite_site: Callable[..., Site], jwt: str) -> None:
    site = sqlite_site(jwt=jwt)
    user = site.auth.sign_up()
    _use_all_six(site, user, site.auth.token(user))


def test_its_other_tokens_are_no_access_tokens(sqlite_site: Callable[..., Site]) -> None:
    site = sqlite_site(options=COOKIE_CACHE)
    user = site.auth.sign_up()
    assert user.cached_session.count(".") == 2
    assert_problem(site.ask(user, user.session_token), 401, "AUTH_INVALID")
    assert_problem(site.ask(user, user.cached_session), 401, "AUTH_INVALID")


@pytest.mark.parametrize(
    ("jwt", "same_issuer"),
    [
        ('jwt({ jwt: { audience: "https://elsewhere.example" } })', True),
        ("jwt()", False),
    ],
)
def test_tokens_of_the_same_keys_for_others_are_refused(
    site: Site,
    tmp_path: Path,
    jwt: str,
    same_issuer: bool,  # noqa: FBT001 - a column of the table
) -> None:
    user = site.auth.sign_up()
    assert site.ask(user, site.auth.token(user)).status_code == 200
    issuer = {"BETTER_AUTH_URL": site.auth.url} if same_issuer else {}
    with BetterAuth(tmp_path, database=site.auth.database, jwt=jwt, **issuer) as other:
        assert_problem(site.ask(user, other.token(user)), 401, "AUTH_INVALID")


def test_a_session_cookie_signed_by_the_access_tokens_key_is_refused(site: Site, tmp_path: Path) -> None:
    with BetterAuth(
        tmp_path,
        database=site.auth.database,
        options=COOKIE_CACHE,
        jwt="jwt({ sessionCookieCache: true })",
        BETTER_AUTH_URL=site.auth.url,
    ) as other:
        user = other.sign_up()
    assert_problem(site.ask(user, user.cached_session), 401, "AUTH_INVALID")
    assert site.ask(user, site.auth.token(user)).status_code == 200


def test_nobody_is_wrongly_refused_while_keys_rotate(site: Site) -> None:
    users = [site.auth.sign_up(name) for name in ("Alice", "Bob", "Carol")]
    end = time.monotonic() + 3

    def use(user: User) -> list[int]:
        statuses = []
        while time.monotonic() < end:
            got = site.auth.request("GET", "/api/auth/token", headers=user.headers)
            # While the test writes to its database, Better Auth now and then finds no session. A browser asks again.
            if got.status_code == HTTPStatus.OK:
                statuses.append(site.ask(user, got.json()["token"]).status_code)
        return statuses

    with ThreadPoolExecutor(len(users)) as threads:
        asking = [threads.submit(use, user) for user in users]
        for _ in range(2):
            time.sleep(0.7)
            site.auth.expire_keys()
        statuses = [status for asked in asking for status in asked.result()]
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_known_users_go_on_while_it_is_down(site: Site) -> None:
    user, late = site.auth.sign_up("Alice"), site.auth.sign_up("Bob")
    token, unseen = site.auth.token(user), site.auth.token(late)
    assert site.ask(user, token).status_code == 200
    site.auth.stop()
    try:
        assert site.ask(user, token).status_code == 200
        assert site.ask(late, unseen).status_code == 200
        assert site.service.http.get("/health/ready").status_code == 200
    finally:
        site.auth.start()
    assert site.ask(user, site.auth.token(user)).status_code == 200


def test_tokens_of_a_withdrawn_key_end_with_the_next_fetch(sqlite_site: Callable[..., Site]) -> None:
    site = sqlite_site()
    user = site.auth.sign_up()
    leaked = site.auth.token(user)
    assert site.ask(user, leaked).status_code == 200
    site.auth.delete_keys()
    assert site.ask(user, site.auth.token(user)).status_code == 200
    assert_problem(site.ask(user, leaked), 401, "AUTH_INVALID")


def test_before_it_was_ever_reached_there_is_503_and_then_all_is_well(
    tmp_path: Path, new_database_url: Callable[[str], str]
) -> None:
    with BetterAuth(tmp_path) as auth:
        user, token = (alice := auth.sign_up()), auth.token(alice)
        auth.stop()
        url = new_database_url("sqlite")
        with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="") as service:
            site = Site(auth, service)
            refused = site.ask(user, token)
            assert_problem(refused, 503, "AUTH_UNAVAILABLE")
            assert int(refused.headers["retry-after"]) > 0
            assert_problem(service.http.get("/health/ready"), 503, "AUTH_UNAVAILABLE")
            assert service.http.get("/health").status_code == 200
            auth.start()
            deadline = time.monotonic() + 15
            while site.ask(user, token).status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.2)
            assert service.http.get("/health/ready").status_code == 200


def test_the_client_of_the_example_works_against_the_service(site: Site) -> None:
    seen = site.auth.browse(site.auth.sign_up(), site.service.url)
    assert seen["statuses"] == [201, 200, 200, 200]
    assert (seen["tokensInTime"], seen["tokens"]) == (1, 2)
