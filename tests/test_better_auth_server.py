"""The facts about Better Auth that docs/better-auth.md states and token verification relies on."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest

from support.better_auth import COOKIE_CACHE, SECRET, BetterAuth, User

REGISTERED = {"sub", "iat", "exp", "iss", "aud"}
ROW = {"id", "name", "email", "emailVerified", "image", "createdAt", "updatedAt"}
USER_ID = re.compile("[A-Za-z0-9]{32}")

Start = Callable[..., BetterAuth]


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BetterAuth]:
    """The unchanged example, for tests that do not change its keys."""
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        yield auth


@pytest.fixture(scope="module")
def user(auth: BetterAuth) -> User:
    return auth.sign_up()


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Starts servers that stop when the test ends."""
    started: list[BetterAuth] = []

    def start(**options: Any) -> BetterAuth:
        started.append(BetterAuth(tmp_path_factory.mktemp("better-auth"), **options))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.stop()


def header_of(token: str) -> dict[str, Any]:
    return jwt.get_unverified_header(token)


def claims_of(token: str) -> dict[str, Any]:
    return dict(jwt.decode(token, options={"verify_signature": False}))


def verified(token: str, auth: BetterAuth) -> dict[str, Any]:
    """Verifies the token with the key that its `kid` names, and returns its claims."""
    key = jwt.PyJWK(auth.keys()[header_of(token)["kid"]])
    return dict(jwt.decode(token, key, algorithms=[key.algorithm_name], options={"verify_aud": False}))


def test_a_token_names_its_user_its_issuer_and_its_audience_and_lives_15_minutes(auth: BetterAuth, user: User) -> None:
    token = auth.token(user)
    assert set(header_of(token)) == {"alg", "kid"}
    claims = verified(token, auth)
    assert set(claims) == REGISTERED | ROW
    assert claims["sub"] == claims["id"] == user.id
    assert USER_ID.fullmatch(user.id)
    assert claims["iss"] == claims["aud"] == auth.url
    assert claims["exp"] - claims["iat"] == 900
    assert abs(claims["iat"] - time.time()) < 5


def test_the_session_response_carries_a_token_too(auth: BetterAuth, user: User) -> None:
    response = auth.request("GET", "/api/auth/get-session", headers=user.headers)
    assert verified(response.headers["set-auth-jwt"], auth)["sub"] == user.id


def test_signing_out_stops_new_tokens_but_does_not_end_existing_ones(auth: BetterAuth) -> None:
    user = auth.sign_up()
    token = auth.token(user)
    auth.request("POST", "/api/auth/sign-out", headers=user.headers | {"Origin": auth.url}, json={})
    assert auth.request("GET", "/api/auth/token", headers=user.headers).status_code == 401
    assert auth.request("GET", "/api/auth/token").status_code == 401
    assert verified(token, auth)["sub"] == user.id


def test_the_key_set_has_no_cache_headers_and_no_private_members(auth: BetterAuth, user: User) -> None:
    auth.token(user)
    response = auth.request("GET", "/api/auth/jwks")
    assert response.headers["content-type"] == "application/json"
    assert not {"cache-control", "etag", "expires", "last-modified", "age"} & set(response.headers)
    assert set(response.json()) == {"keys"}
    assert [set(key) for key in response.json()["keys"]] == [{"kid", "alg", "kty", "crv", "x"}]
    assert auth.request("HEAD", "/api/auth/jwks").status_code == 404


@pytest.mark.parametrize(
    ("algorithm", "key_type", "curve"),
    [
        ("EdDSA", "OKP", "Ed25519"),
        ("ES256", "EC", "P-256"),
        ("ES384", "EC", "P-384"),
        ("ES512", "EC", "P-521"),
        ("RS256", "RSA", None),
        ("PS256", "RSA", None),
    ],
)
def test_a_key_of_each_algorithm_signs_tokens(start: Start, algorithm: str, key_type: str, curve: str | None) -> None:
    auth = start(jwt=f'jwt({{ jwks: {{ keyPairConfig: {{ alg: "{algorithm}" }} }} }})')
    token = auth.token(user := auth.sign_up())
    assert verified(token, auth)["sub"] == user.id
    assert header_of(token)["alg"] == algorithm
    (key,) = auth.keys().values()
    assert (key["alg"], key["kty"], key.get("crv")) == (algorithm, key_type, curve)
    material = {"OKP": {"crv", "x"}, "EC": {"crv", "x", "y"}, "RSA": {"n", "e"}}[key_type]
    assert set(key) == {"kid", "alg", "kty"} | material
    assert len(key.get("n", "")) in {0, 342}  # 2048 bits


def test_the_name_ed25519_works_although_better_auths_types_do_not_list_it(start: Start) -> None:
    auth = start(jwt='jwt({ jwks: { keyPairConfig: { alg: "Ed25519" } } })')
    assert header_of(auth.token(auth.sign_up()))["alg"] == "Ed25519"
    assert [(key["alg"], key["kty"]) for key in auth.keys().values()] == [("Ed25519", "OKP")]


@pytest.mark.parametrize(("path", "mounted"), [("/", "/api/auth"), ("/login/", "/login")])
def test_the_issuer_is_the_origin_of_the_base_url(
    auth: BetterAuth, user: User, path: str, mounted: str, tmp_path: Path
) -> None:
    mounted_server = BetterAuth(tmp_path, database=auth.database)
    mounted_server.environment["BETTER_AUTH_URL"] = mounted_server.url + path
    with mounted_server:
        response = mounted_server.request("GET", f"{mounted}/token", headers=user.headers)
        assert mounted_server.request("GET", f"{mounted}/jwks").status_code == 200
    claims = claims_of(response.json()["token"])
    assert claims["iss"] == claims["aud"] == mounted_server.url


def test_without_a_base_url_the_issuer_is_the_requests_host(start: Start, auth: BetterAuth, user: User) -> None:
    headers = user.headers | {"Host": "elsewhere.example"}
    response = start(database=auth.database, BETTER_AUTH_URL="").request("GET", "/api/auth/token", headers=headers)
    assert claims_of(response.json()["token"])["iss"] == "http://elsewhere.example"


def test_the_session_token_is_opaque_and_its_cookie_is_signed(auth: BetterAuth, user: User) -> None:
    assert USER_ID.fullmatch(user.session_token)
    assert list(user.cookies) == ["better-auth.session_token"]
    assert user.cookies["better-auth.session_token"].startswith(f"{user.session_token}.")


def test_a_session_cookie_cache_is_signed_with_the_secret_and_has_no_subject_or_audience(start: Start) -> None:
    token = start(options=COOKIE_CACHE).sign_up().cached_session
    assert header_of(token) == {"alg": "HS256"}
    claims = jwt.decode(token, SECRET, ["HS256"])
    assert set(claims) == {"session", "user", "updatedAt", "version", "iat", "exp"}


def test_a_session_cookie_cache_signed_with_the_key_set_has_its_own_type_and_audience(start: Start) -> None:
    auth = start(options=COOKIE_CACHE, jwt="jwt({ sessionCookieCache: true })")
    user = auth.sign_up()
    assert header_of(user.cached_session)["typ"] == "better-auth.session-cache+jwt"
    claims = verified(user.cached_session, auth)
    assert (claims["iss"], claims["sub"]) == (auth.url, user.id)
    assert claims["aud"] == "better-auth:session-cache"


def test_one_key_signs_for_every_audience_and_issuer(start: Start, auth: BetterAuth, user: User) -> None:
    audience = ["https://a.example", "https://b.example"]
    other = start(database=auth.database, jwt=f"jwt({{ jwt: {{ audience: {audience} }} }})")
    claims = verified(other.token(user), auth)
    assert (claims["aud"], claims["iss"]) == (audience, other.url)
