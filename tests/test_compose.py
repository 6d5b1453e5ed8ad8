"""compose.yaml: its programs, with its settings and in its order, serve a user who signs up."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.better_auth import EXAMPLE
from support.compose import TEXT, System, system
from support.documents import ROOT, blocks
from support.rows import execute
from taskwell.cli.main import parse
from taskwell.database.urls import PostgresURL, parse_database_url

SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
PROGRAMS = Path(sys.executable).parent


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(tmp_path_factory.mktemp("compose")) as running:
        yield running


def test_the_file_follows_the_schema_of_compose() -> None:
    check = [str(PROGRAMS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(ROOT / "compose.yaml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "dockerfile",
    [(EXAMPLE / "Dockerfile").read_text(encoding="utf-8"), SERVICES["pooler"]["build"]["dockerfile_inline"]],
    ids=["better-auth", "pooler"],
)
def test_hadolint_accepts_the_other_images(dockerfile: str) -> None:
    # The newest version of a Debian package is the one with its security updates.
    done = subprocess.run(
        [PROGRAMS / "hadolint", "--ignore=DL3008", "-"], input=dockerfile, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_a_service_waits_until_those_that_it_needs_are_healthy() -> None:
    for service in SERVICES.values():
        for name, needed in service.get("depends_on", {}).items():
            ends = name == "migrate"
            assert needed == {"condition": "service_completed_successfully" if ends else "service_healthy"}
            # The image of Taskwell has its own check.
            assert ends or "healthcheck" in SERVICES[name]


def test_only_this_machine_reaches_the_system() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:3000:3000", "127.0.0.1:8000:8000"]


def test_connections_inside_the_network_are_not_encrypted() -> None:
    """Without `sslmode`, Taskwell would require TLS of a host that is not loopback."""
    for name in ("migrate", "taskwell"):
        url = parse_database_url(SERVICES[name]["environment"]["DATABASE_URL"])
        assert isinstance(url, PostgresURL)
        assert (url.host, url.sslmode) == ("postgres" if name == "migrate" else "pooler", "disable")


def test_the_containers_run_commands_that_exist() -> None:
    assert parse(SERVICES["migrate"]["command"])


@pytest.mark.slow
def test_a_user_signs_up_and_creates_a_task_as_documented(running: System, tmp_path: Path) -> None:
    (code,) = [block for block in blocks("docs/deploy.md", "sh") if "sign-up" in block]
    done = subprocess.run(
        ["sh", "-eu", "-c", running.inside(code)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["title"] == "Buy milk"


@pytest.mark.slow
def test_the_service_has_no_right_to_write_tables(running: System) -> None:
    assert execute(running.database_url, "SELECT count(*) FROM taskwell.task") is not None
    for statement in ("DELETE FROM taskwell.task", "CREATE TABLE taskwell.other (id int)", "CREATE SCHEMA other"):
        with pytest.raises(Exception, match="permission denied"):
            execute(running.database_url, statement)
