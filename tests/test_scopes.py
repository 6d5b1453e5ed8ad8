"""OAuth access tokens may read with `tasks:read`, and write with `tasks:write`, only for their own user."""

from typing import Any

import pytest

from support.problem import assert_problem
from support.service import SECRET, Client
from support.tokens import Signer

SIGNER = Signer("HS256", SECRET.encode())
READ_ONLY = {"scope": "openid tasks:read"}
WRITE_ONLY = {"scope": "tasks:write"}


def _headers(user: str, typ: str | None = "at+jwt", **claims: object) -> dict[str, str]:
    return {"Authorization": f"Bearer {SIGNER.token(user, {'typ': typ}, **claims)}"}


def _may(client: Client, headers: dict[str, str]) -> tuple[bool, bool]:
    """Whether a token may read, and whether it may write."""
    read = client.request("GET", headers=headers)
    written = client.request("POST", headers=headers, json={"title": "Buy milk"})
    for response, succeeded, scope in ((read, 200, "tasks:read"), (written, 201, "tasks:write")):
        if response.status_code != succeeded:
            assert_problem(response, 403, "AUTH_FORBIDDEN")
            challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
            assert response.headers["www-authenticate"] == challenge
    return read.status_code == 200, written.status_code == 201


@pytest.mark.parametrize(
    ("claims", "reads", "writes"),
    [
        (READ_ONLY, True, False),
        (WRITE_ONLY, False, True),
        ({"scope": "tasks:write tasks:read"}, True, True),
        ({"scope": "tasks:read  tasks:write"}, True, True),
        ({"scope": ["tasks:read"]}, True, False),
        ({"scope": ["tasks:read", "tasks:write", 1, None]}, True, True),
        ({"scp": "tasks:read"}, True, False),
        ({"scp": ["openid", "tasks:write"]}, False, True),
        ({"scp": ["tasks:read", "tasks:write"]}, True, True),
        ({"scope": "tasks:read", "scp": ["tasks:write"]}, True, False),
        ({"scope": "openid"}, False, False),
        ({}, False, False),
    ],
    ids=str,
)
def test_an_access_token_may_do_what_its_scopes_allow(
    alice: Client, claims: dict[str, Any], *, reads: bool, writes: bool
) -> None:
    for _ in range(2):  # the second time from the cache of verified tokens
        assert _may(alice, _headers(alice.user, client_id="app", **claims)) == (reads, writes)


@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
def test_the_type_of_an_access_token_has_several_spellings(alice: Client, typ: str) -> None:
    assert _may(alice, _headers(alice.user, typ, **READ_ONLY)) == (True, False)


@pytest.mark.parametrize("typ", [None, "JWT", "jwt"])
def test_a_session_token_may_do_everything(alice: Client, typ: str | None) -> None:
    for claims in ({}, {"scope": "openid"}, {"azp": "https://app.example"}):
        assert _may(alice, _headers(alice.user, typ, **claims)) == (True, True)


@pytest.mark.parametrize("typ", [None, "JWT"])
def test_an_access_token_of_a_server_that_sets_no_type_needs_the_scopes(alice: Client, typ: str | None) -> None:
    assert _may(alice, _headers(alice.user, typ, azp="app", scope="openid")) == (False, False)
    assert _may(alice, _headers(alice.user, typ, azp="app", **READ_ONLY)) == (True, False)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_every_method_but_get_and_head_needs_the_scope_to_write(alice: Client, method: str) -> None:
    task = alice.create()
    headers = _headers(alice.user, **READ_ONLY)
    for path in ("", task["id"]):
        for options in ({"json": {"title": "changed"}}, {"content": b"not json"}, {}):
            response = alice.request(method, path, headers=headers, **options)
            assert_problem(response, 403, "AUTH_FORBIDDEN")
            assert response.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="tasks:write"'
    assert alice.request("GET", task["id"]).json() == task


@pytest.mark.parametrize(("claims", "allowed"), [(READ_ONLY, False), (WRITE_ONLY, True)], ids=["read", "write"])
def test_a_batch_and_an_erasure_need_the_scope_to_write(
    alice: Client, claims: dict[str, str], *, allowed: bool
) -> None:
    alice.create()
    headers = _headers(alice.user, **claims)
    batch = {"operations": [{"op": "create", "task": {"title": "new"}}]}
    batched = alice.request("POST", "batch", headers=headers, json=batch)
    erased = alice.request("DELETE", f"/api/{alice.user}?confirm={alice.user}", headers=headers)
    assert [batched.status_code, erased.status_code] == ([200, 204] if allowed else [403, 403])
    assert alice.titles() == ([] if allowed else ["Buy milk"])


def test_head_needs_the_scope_to_read(alice: Client) -> None:
    assert alice.request("HEAD", headers=_headers(alice.user, **READ_ONLY)).status_code == 200
    assert alice.request("HEAD", headers=_headers(alice.user, **WRITE_ONLY)).status_code == 403


def test_the_right_scopes_do_not_open_the_tasks_of_another_user(alice: Client, mallory: Client) -> None:
    headers = _headers(mallory.user, scope="tasks:read tasks:write")
    response = alice.http.get(alice.home, headers=headers)
    assert_problem(response, 403, "AUTH_FORBIDDEN")
    assert "www-authenticate" not in response.headers
