"""A database role without all its rights is noticed by the doctor and by `/health/ready`, and named in the log."""

import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from support.problem import assert_problem
from support.process import production, run
from support.relay import Relay
from support.rows import execute
from support.service import running
from taskwell.database.schema import FUNCTIONS_SCHEMA, SCHEMA
from taskwell.migrations.check import FUNCTIONS, TABLE_RIGHTS, schema_revision

VERSION_TABLE = f"{SCHEMA}.{schema_revision.get_final_froms()[0]}"
RIGHTS = [f"{right} ON {table}" for table, rights in TABLE_RIGHTS.items() for right in rights]
RIGHTS += [f"USAGE ON SCHEMA {FUNCTIONS_SCHEMA}"]
RIGHTS += [f"EXECUTE ON FUNCTION {function}" for function in FUNCTIONS]


class Role:
    """A database role of its own, with all rights that the service needs."""

    def __init__(self, owner_url: str) -> None:
        self.name = f"role_{uuid4().hex}"
        self._owner_url = owner_url
        host = urlsplit(owner_url).netloc.rpartition("@")[2]
        self.url = urlsplit(owner_url)._replace(netloc=f"{self.name}@{host}").geturl()
        self._run(f"CREATE ROLE {self.name} LOGIN")
        for function in FUNCTIONS:
            self._run(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
        for right in [*RIGHTS, f"SELECT ON {VERSION_TABLE}"]:
            self._run(f"GRANT {right} TO {self.name}")
        self._run(f"GRANT USAGE ON SCHEMA {SCHEMA} TO {self.name}")

    def revoke(self, right: str) -> None:
        self._run(f"REVOKE {right} FROM {self.name}")

    def _run(self, sql: str) -> None:
        execute(self._owner_url, sql)


@pytest.fixture(scope="module")
def migrated(new_migrated_url: Callable[[str], str]) -> str:
    return new_migrated_url("postgres")


@pytest.fixture
def role(migrated: str) -> Role:
    return Role(migrated)


def test_with_the_documented_rights_everything_works(role: Role, tmp_path: Path) -> None:
    done = run(tmp_path, "doctor", **production(role.url))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    with running("postgres", migrate=False, DATABASE_URL=role.url) as service:
        assert service.http.get("/health/ready").status_code == 200
        alice = service.client()
        task = alice.create()
        assert alice.request("DELETE", task["id"]).status_code == 204
        created = alice.request("POST", "batch", json={"operations": [{"op": "create", "task": {"title": "x"}}]})
        assert created.status_code == 200
        assert alice.request("DELETE", f"/api/{alice.user}?confirm={alice.user}").status_code == 204


@pytest.mark.parametrize("right", RIGHTS)
def test_a_missing_right_makes_the_service_unready_and_is_logged(
    right: str, role: Role, caplog: pytest.LogCaptureFixture
) -> None:
    role.revoke(right)
    caplog.set_level(logging.INFO)
    with running("postgres", migrate=False, DATABASE_URL=role.url) as service:
        problem = assert_problem(service.http.get("/health/ready"), 503, "DATABASE_ERROR")
    assert "role lacks rights" in problem["detail"]
    assert right not in problem["detail"]
    assert f"the role lacks {right}" in caplog.text


def test_missing_functions_are_not_taken_for_a_missing_right(
    new_migrated_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    url = new_migrated_url("postgres")
    execute(url, f"DROP SCHEMA {FUNCTIONS_SCHEMA} CASCADE")
    caplog.set_level(logging.INFO)
    with running("postgres", migrate=False, DATABASE_URL=url) as service:
        assert_problem(service.http.get("/health/ready"), 503, "DATABASE_ERROR")
    assert f"the role lacks the schema {FUNCTIONS_SCHEMA}, which does not exist" in caplog.text


def test_the_doctor_names_every_missing_right(role: Role, tmp_path: Path) -> None:
    missing = [RIGHTS[1], *RIGHTS[-2:]]
    for right in missing:
        role.revoke(right)
    done = run(tmp_path, "doctor", **production(role.url))
    assert done.returncode == 1
    assert f"fail  schema      the role lacks {', '.join(missing)}\n      remedy      grant" in done.stdout


def test_the_check_is_one_round_trip(role: Role) -> None:
    settings = {"TASKWELL_POOL_MAX": "1"}
    with Relay(role.url) as relay, running("postgres", migrate=False, DATABASE_URL=relay.url, **settings) as service:
        # A connection prepares a statement when it first meets it.
        service.http.get("/health/ready").raise_for_status()
        before = relay.round_trips
        service.http.get("/health/ready").raise_for_status()
        assert relay.round_trips == before + 1


def test_a_role_that_may_not_read_the_version_is_not_told_to_migrate(role: Role, tmp_path: Path) -> None:
    role.revoke(f"SELECT ON {VERSION_TABLE}")
    done = run(tmp_path, "doctor", **production(role.url))
    assert "permission denied" in done.stdout
    assert "      remedy      grant" in done.stdout
    assert "migrate" not in done.stdout


def test_a_request_without_the_right_is_not_told_that_the_database_cannot_be_reached(role: Role) -> None:
    role.revoke(RIGHTS[0])
    with running("postgres", migrate=False, DATABASE_URL=role.url) as service:
        problem = assert_problem(service.client().request("GET"), 500, "DATABASE_ERROR")
    assert problem["detail"].startswith("The database refused the operation.")
