"""Ways to set up Better Auth that docs/better-auth.md describes: migration, PostgreSQL, Next.js, another origin."""

from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from support.better_auth import EXAMPLE, BetterAuth
from support.service import running

SUPPORT = Path(__file__).parent / "support"
TABLES = {"user", "session", "account", "verification", "jwks"}


def test_the_migration_creates_the_tables_once(tmp_path: Path) -> None:
    auth = BetterAuth(tmp_path)
    assert set(auth.migrate()) == {f"migrated {table}" for table in TABLES}
    assert auth.migrate() == []


def test_the_migration_adds_the_keys_to_an_application_without_the_plugin(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    auth = BetterAuth(before, jwt="")
    assert set(auth.migrate()) == {f"migrated {table}" for table in TABLES - {"jwks"}}
    after = tmp_path / "after"
    after.mkdir()
    assert BetterAuth(after, database=auth.database).migrate() == ["migrated jwks"]


@pytest.mark.parametrize("engine", ["postgres", "postgres-tls"])
def test_better_auth_and_the_service_share_one_postgresql_database(
    tmp_path: Path, new_database_url: Callable[[str], str], engine: str
) -> None:
    url = new_database_url(engine)
    auth = BetterAuth(tmp_path, config=EXAMPLE / "auth.postgres.mjs", DATABASE_URL=url)
    with auth, running(engine, DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="") as service:
        user = auth.sign_up()
        headers = {"Authorization": f"Bearer {auth.token(user)}"}
        tasks = f"/api/{user.id}/tasks"
        assert service.http.post(tasks, headers=headers, json={"title": "a"}).status_code == 201
        assert service.http.get(tasks, headers=headers).json()["count"] == 1
        assert auth.migrate() == []


def test_the_next_js_route_handler_signs_users_in_and_the_server_calls_the_api_for_them(
    tmp_path: Path, new_database_url: Callable[[str], str]
) -> None:
    auth = BetterAuth(tmp_path, server=SUPPORT / "nextjs.mjs")
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url, BETTER_AUTH_URL=auth.url, BETTER_AUTH_SECRET="") as service:
        auth.environment["TASK_API"] = service.url
        with auth:
            alice, bob = auth.sign_up("Alice"), auth.sign_up("Bob")
            for user in (alice, bob):
                rendered = auth.request("GET", "/page", headers=user.headers).json()
                assert rendered["created"] == 201
                assert [task["user_id"] for task in rendered["list"]["tasks"]] == [user.id]
            assert auth.request("GET", "/page").json() == {"created": None, "list": None}


def test_pages_of_trusted_origins_alone_may_call_better_auth(tmp_path: Path) -> None:
    trusted, other = "https://app.example", "https://evil.example"
    body = {"name": "Alice", "email": "alice@example.org", "password": "correct horse battery staple"}

    def sign_up(auth: BetterAuth, origin: str) -> httpx2.Response:
        headers = {"Origin": origin, "Cookie": "any=cookie"}
        return auth.request("POST", "/api/auth/sign-up/email", json=body, headers=headers)

    with BetterAuth(tmp_path, BETTER_AUTH_TRUSTED_ORIGINS=trusted) as auth:
        preflight = auth.request("OPTIONS", "/api/auth/sign-up/email", headers={"Origin": trusted})
        refused, accepted = sign_up(auth, other), sign_up(auth, trusted)
    assert preflight.status_code == 204
    assert (refused.status_code, refused.json()["code"]) == (403, "INVALID_ORIGIN")
    assert accepted.status_code == 200
    for response in (preflight, accepted):
        assert response.headers["access-control-allow-origin"] == trusted
        assert response.headers["access-control-allow-credentials"] == "true"
    assert "access-control-allow-origin" not in refused.headers
