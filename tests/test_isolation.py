"""Nobody can reach another user's tasks or learn whether they exist."""

import base64
import json
import time
from typing import Any

import httpx2
import pytest
from fastapi.routing import iter_route_contexts

from support.problem import assert_problem
from support.rows import execute
from support.service import SECRET, Client, Service, sign
from taskwell.app import create_app
from taskwell.settings import Settings

# Every route is in one of these two sets. A test fails until a new route is added to one of them.
OPEN = {
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/health/ready"),
    ("GET", "/docs"),
    ("GET", "/redoc"),
    ("GET", "/problems"),
    ("GET", "/problems/{slug}"),
    ("GET", "/openapi.json"),
    ("GET", "/docs/assets"),
}
OWNED = {
    ("GET", "/api/{user_id}/tasks"),
    ("POST", "/api/{user_id}/tasks"),
    ("GET", "/api/{user_id}/tasks/{task_id}"),
    ("PUT", "/api/{user_id}/tasks/{task_id}"),
    ("PATCH", "/api/{user_id}/tasks/{task_id}"),
    ("DELETE", "/api/{user_id}/tasks/{task_id}"),
    ("GET", "/api/{user_id}/trash"),
    ("POST", "/api/{user_id}/trash/{task_id}/restore"),
    ("GET", "/api/{user_id}/changes"),
    ("GET", "/api/{user_id}/events"),
    ("POST", "/api/{user_id}/tasks/batch"),
    ("DELETE", "/api/{user_id}"),
    ("GET", "/api/{user_id}/export"),
}
BODY = {"title": "stolen", "description": None, "complete": True}


def test_every_route_is_either_open_or_guarded() -> None:
    app = create_app(Settings.read({"DATABASE_URL": "sqlite:///never-opened.db", "BETTER_AUTH_SECRET": SECRET}))
    routes = {
        (method, str(route.path).replace(":segment", ""))
        for route in iter_route_contexts(app.routes)
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }
    assert routes == OPEN | OWNED


def _unsigned(user: str, algorithm: str) -> str:
    header, claims = {"alg": algorithm, "typ": "JWT"}, {"sub": user, "exp": int(time.time()) + 900}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, ""])


def _refused_credentials(user: str) -> dict[str, tuple[str | None, int, str]]:
    now = int(time.time())
    good = sign(user)
    return {
        "no header": (None, 401, "AUTH_MISSING"),
        "an empty header": ("", 401, "AUTH_MISSING"),
        "a scheme alone": ("Bearer", 401, "AUTH_MISSING"),
        "another scheme": (f"Basic {good}", 401, "AUTH_MISSING"),
        "no scheme": (good, 401, "AUTH_MISSING"),
        "junk": ("Bearer junk", 401, "AUTH_INVALID"),
        "a cut token": (f"Bearer {good[:-2]}", 401, "AUTH_INVALID"),
        "a changed signature": (f"Bearer {good[:-6]}AAAAAA", 401, "AUTH_INVALID"),
        "two tokens": (f"Bearer {good} {good}", 401, "AUTH_INVALID"),
        "no signature": (f"Bearer {_unsigned(user, 'none')}", 401, "AUTH_INVALID"),
        "another's signature": (f"Bearer {sign(user, secret='x' * 40)}", 401, "AUTH_INVALID"),
        "expired": (f"Bearer {sign(user, exp=now - 60)}", 401, "AUTH_INVALID"),
        "no exp": (f"Bearer {sign(user, exp=None)}", 401, "AUTH_INVALID"),
        "not yet valid": (f"Bearer {sign(user, nbf=now + 600)}", 401, "AUTH_INVALID"),
        "no user": (f"Bearer {sign(user, sub=None)}", 401, "AUTH_INVALID"),
        "disagreeing users": (f"Bearer {sign(user, user_id='other')}", 401, "AUTH_INVALID"),
        "for an audience": (f"Bearer {sign(user, aud='elsewhere')}", 401, "AUTH_INVALID"),
        "a stranger's": (f"Bearer {sign('stranger-' + user)}", 403, "AUTH_FORBIDDEN"),
        "of another case": (f"Bearer {sign(user.upper())}", 403, "AUTH_FORBIDDEN"),
        "with a blank": (f"Bearer {sign(user + ' ')}", 403, "AUTH_FORBIDDEN"),
    }


@pytest.mark.parametrize(("method", "path"), sorted(OWNED))
@pytest.mark.parametrize("credential", _refused_credentials(""))
def test_guarded_routes_refuse_every_token_but_their_users_own(
    alice: Client, method: str, path: str, credential: str
) -> None:
    task = alice.create()
    header, status, code = _refused_credentials(alice.user)[credential]
    url = path.format(user_id=alice.user, task_id=task["id"])
    headers = {} if header is None else {"Authorization": header}
    for options in ({"json": BODY}, {"content": b"not json"}, {}):
        response = alice.http.request(method, url, headers=headers, **options)
        assert_problem(response, status, code)
        challenge = response.headers.get("www-authenticate", "")
        assert challenge.startswith("Bearer") == (status == 401)
        assert ("invalid_token" in challenge) == (code == "AUTH_INVALID")
    assert alice.request("GET").json() == {"tasks": [task], "count": 1}


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_an_unsupported_method_does_not_bypass_the_guard(alice: Client, mallory: Client, method: str) -> None:
    assert_problem(alice.http.request(method, alice.home), 401, "AUTH_MISSING")
    assert_problem(mallory.request(method, alice.home), 403, "AUTH_FORBIDDEN")
    assert_problem(alice.request(method, alice.home), 405, "METHOD_NOT_ALLOWED")


@pytest.mark.parametrize(("method", "path"), sorted(OPEN))
def test_open_routes_need_no_token(service: Service, method: str, path: str) -> None:
    path = path.replace("/docs/assets", "/docs/assets/swagger-ui.css").replace("{slug}", "not-found")
    assert service.http.request(method, path).status_code == 200


@pytest.mark.parametrize(("method", "path"), sorted(OWNED))
def test_a_stranger_cannot_tell_whether_a_task_exists(alice: Client, mallory: Client, method: str, path: str) -> None:
    existing, missing = alice.create()["id"], 2**62
    responses = [
        mallory.request(method, path.format(user_id=alice.user, task_id=task_id), json=BODY)
        for task_id in (existing, missing)
    ]
    for response in responses:
        assert_problem(response, 403, "AUTH_FORBIDDEN")


def erase(service: Service, task_id: int) -> None:
    execute(service.url_of_database, f"UPDATE task SET title = '', erased_at = deleted_at WHERE id = {task_id}")  # noqa: S608


def _without_time(response: httpx2.Response) -> tuple[int, list[tuple[str, str]], dict[str, object]]:
    """Everything in a response except its time, which always differs."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name != "date"]
    return response.status_code, headers, response.json() | {"timestamp": ""}


@pytest.mark.parametrize(("method", "path"), sorted(route for route in OWNED if "{task_id}" in route[1]))
def test_another_users_task_looks_like_one_that_never_existed(
    service: Service, alice: Client, mallory: Client, method: str, path: str
) -> None:
    deleted = mallory.create()["id"]
    mallory.request("DELETE", deleted)
    if path.endswith("/restore"):
        erase(service, deleted)
    same = {"X-Request-ID": "the-same"}
    theirs, never, gone = [
        mallory.request(method, path.format(user_id=mallory.user, task_id=task_id), json=BODY, headers=same)
        for task_id in (alice.create()["id"], 2**62, deleted)
    ]
    assert theirs.status_code == 404
    assert _without_time(theirs) == _without_time(never) == _without_time(gone)


def test_a_list_contains_only_its_users_tasks(alice: Client, mallory: Client) -> None:
    mine, theirs = alice.create("mine"), mallory.create("theirs")
    for query in ({}, {"complete": "false"}, {"offset": 0, "limit": 1000}):
        assert alice.request("GET", params=query).json() == {"tasks": [mine], "count": 1}
        assert mallory.request("GET", params=query).json() == {"tasks": [theirs], "count": 1}


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer", "Bearer  "])
def test_the_scheme_of_the_authorization_header_is_case_insensitive(alice: Client, scheme: str) -> None:
    assert alice.request("GET", headers={"Authorization": f"{scheme} {sign(alice.user)}"}).status_code == 200


@pytest.mark.parametrize("claims", [{"user_id": "{user}"}, {"user_id": "{user}", "sub": None}, {"user_id": None}])
def test_the_user_is_the_user_id_claim_or_else_sub(alice: Client, claims: dict[str, str | None]) -> None:
    named: dict[str, Any] = {name: value and value.format(user=alice.user) for name, value in claims.items()}
    token = sign(alice.user, **named)
    assert alice.request("GET", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_two_authorization_headers_are_refused(alice: Client) -> None:
    token = sign(alice.user)
    headers = [("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
    assert_problem(alice.http.get(alice.home, headers=headers), 401, "AUTH_INVALID")


@pytest.mark.parametrize("prefix", ["user_id=", "token=", "access_token="])
def test_a_token_in_the_query_is_not_accepted(alice: Client, prefix: str) -> None:
    assert_problem(alice.http.get(f"{alice.home}?{prefix}{sign(alice.user)}"), 401, "AUTH_MISSING")
