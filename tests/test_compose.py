"""compose.yaml: its programs, with its settings and in its order, serve a user who signs up."""

import json
import re
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
from taskwell.settings import Settings, read_migration_url

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


def test_the_commands_and_settings_are_accepted() -> None:
    """In the containers' network, where nothing is on the loopback interface."""
    assert parse(SERVICES["migrate"]["command"])
    Settings.read(SERVICES["taskwell"]["environment"])
    read_migration_url(SERVICES["migrate"]["environment"])


def test_a_variable_of_the_file_is_no_setting_so_that_both_can_stand_in_one_env_file() -> None:
    variables = set(re.findall(r"\$\{(\w+):-", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    assert variables == {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "SERVICE_PASSWORD", "AUTH_PASSWORD", "AUTH_SECRET"}
    Settings.read(SERVICES["taskwell"]["environment"] | dict.fromkeys(variables, "x"))


def test_each_role_has_a_password_of_its_own() -> None:
    passwords = [value for name, value in SERVICES["postgres"]["environment"].items() if name.endswith("_PASSWORD")]
    assert len(passwords) == len(set(passwords)) == 4


def test_every_program_can_read_its_files() -> None:
    """Some versions of Compose make them readable for root alone (github.com/docker/compose/issues/12794)."""
    references = [config for service in SERVICES.values() for config in service.get("configs", [])]
    assert [reference["mode"] for reference in references] == [0o444] * 3


def test_no_image_is_built_twice() -> None:
    """Two builds of one name at the same time fail (github.com/docker/buildx/issues/3576)."""
    built = [str(service["build"]) for service in SERVICES.values() if "build" in service]
    assert len(built) == len(set(built))


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
