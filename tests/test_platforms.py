"""The files for Fly.io, Render and Railway, and the page about platforms: what they name exists, and the service runs
with what they set.
"""

import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from support.auth_server import AuthServer, key_set
from support.dockerfile import instructions
from support.documents import ROOT, all_blocks
from support.platforms import Deployment, fly, on_fly, on_railway, on_render, render
from support.ports import free_port
from support.process import COMMAND, WAIT_SECONDS, environment
from support.tokens import jwk, private_key
from taskwell.cli.main import parse
from taskwell.server.run import STOP_SECONDS
from taskwell.settings import Settings
from taskwell.tasks.events import HEARTBEAT_SECONDS

PAGE = "docs/platforms.md"
DEPLOYMENTS = {"fly": on_fly, "render": on_render, "railway": on_railway}
IMAGE = {line.name: line.words() for line in instructions((ROOT / "Dockerfile").read_text()) if line.name == "CMD"}


@pytest.fixture(params=DEPLOYMENTS)
def deployment(request: pytest.FixtureRequest) -> Deployment:
    return DEPLOYMENTS[request.param]()


def test_every_variable_is_a_setting_with_a_value_that_the_service_accepts(deployment: Deployment) -> None:
    given = {"BETTER_AUTH_URL": "https://app.example", "DATABASE_URL": "postgresql://a:b@db.example/c"}
    asked = {name: given.get(name, given["DATABASE_URL"]) for name in deployment.secrets}
    assert deployment.variables.keys() | deployment.secrets <= Settings.model_fields.keys() | {"PORT"}
    Settings.read(deployment.variables | asked)


def test_no_file_has_a_value_that_is_secret(deployment: Deployment) -> None:
    assert deployment.variables.keys() <= {"PORT", "BETTER_AUTH_URL", "TASKWELL_METRICS_PORT"}
    assert {"DATABASE_URL", "MIGRATION_DATABASE_URL"} <= deployment.secrets


def test_a_stop_leaves_the_requests_in_flight_their_time(deployment: Deployment) -> None:
    assert deployment.stop_seconds > STOP_SECONDS
    assert fly()["kill_signal"] == "SIGTERM"


@contextmanager
def _serving(folder: Path, settings: dict[str, str]) -> Iterator[None]:
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([COMMAND, *IMAGE["CMD"]], cwd=folder, env=environment(**settings), stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    """Asks until the response is a 200, as platforms do."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not _is_well(url):
        assert time.monotonic() < deadline, url
        time.sleep(0.1)


def _is_well(url: str) -> bool:
    try:
        return httpx2.get(url).status_code == 200
    except httpx2.TransportError:
        return False


def test_the_release_command_migrates_and_then_the_image_serves_at_the_port_and_is_healthy(
    deployment: Deployment, new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    url, port, metrics = new_database_url("postgres"), free_port(), free_port()
    with AuthServer(key_set(jwk(private_key("EdDSA"), kid="a"))) as auth:
        ours = {"BETTER_AUTH_URL": auth.origin, "PORT": str(port), "TASKWELL_METRICS_PORT": str(metrics)}
        settings = deployment.variables | dict.fromkeys(deployment.secrets, url) | ours
        program, *arguments = shlex.split(deployment.release_command)
        assert program == "taskwell"
        migrated = subprocess.run([COMMAND, *arguments], cwd=tmp_path, env=environment(**settings), check=False)
        assert migrated.returncode == 0
        with _serving(tmp_path, settings):
            _wait_for(f"http://127.0.0.1:{port}{deployment.health_path}")
            _wait_for(f"http://127.0.0.1:{port}/health/ready")
            _wait_for(f"http://127.0.0.1:{metrics}/metrics")


# --- what only one of them has


def test_fly_reaches_the_service_and_its_metrics_at_the_ports_that_they_listen_on() -> None:
    file = fly()
    assert file["http_service"]["internal_port"] == int(file["env"]["PORT"])
    assert file["metrics"] == {"port": int(file["env"]["TASKWELL_METRICS_PORT"]), "path": "/metrics"}
    # Only the port of the service is public.
    assert "services" not in file


def test_fly_keeps_idle_connections_shorter_than_the_service_and_longer_than_a_heartbeat() -> None:
    idle = fly()["http_service"]["http_options"]["idle_timeout"]
    assert HEARTBEAT_SECONDS < idle < Settings.model_fields["TASKWELL_KEEP_ALIVE_SECONDS"].default


def test_render_builds_the_image_of_the_repository() -> None:
    (service,) = render()["services"]
    assert (service["type"], service["runtime"]) == ("web", "docker")
    assert (ROOT / service["dockerContext"] / service["dockerfilePath"]).samefile(ROOT / "Dockerfile")


# --- the page


def _commands() -> list[list[str]]:
    code = "\n".join(block.code for block in all_blocks(PAGE) if block.language == "sh")
    return [words for line in code.replace("\\\n", " ").splitlines() if (words := shlex.split(line, comments=True))]


PROGRAMS = {
    *("apt-get", "certbot", "install", "ln", "python3", "systemctl", "useradd"),
    *("fly", "railway", "/opt/uv/bin/pip"),
}


def test_the_commands_of_the_page_name_files_settings_and_commands_that_exist() -> None:
    words = _commands()
    assert {line[0] for line in words if not re.match("[A-Z_]+=", line[0])} <= PROGRAMS
    named = {word for line in words for word in line if word.startswith("deploy/")}
    assert len(named) >= 7
    assert [path for path in named if not list(ROOT.glob(path))] == []
    # The last values are those of the files in /etc/taskwell.
    settings = dict(
        word.replace("…", "x").split("=", 1) for line in words for word in line if re.match("(?!UV_)[A-Z_]+=", word)
    )
    assert settings.keys() == {"DATABASE_URL", "MIGRATION_DATABASE_URL", "BETTER_AUTH_URL", "TASKWELL_METRICS_PORT"}
    Settings.read(settings)
    for unit in re.findall(r"taskwell@(\w+)", (ROOT / PAGE).read_text(encoding="utf-8")):
        parse([unit])


def test_the_page_and_the_files_name_each_other() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    for folder in ("fly", "render", "railway", "vm"):
        for file in (ROOT / "deploy" / folder).iterdir():
            if file.is_file():
                assert f"](../deploy/{folder}/{file.name})" in page
