"""The container image: the commands of the Dockerfile make a service that runs in a container as it should.

No container engine is needed: support/dockerfile.py runs the commands in a folder, which becomes the image's root.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx2
import pytest

from support.daemon import can_unshare, enter_user_namespace
from support.dockerfile import Image, build, instructions
from support.ports import free_port
from support.process import production
from support.service import sign
from test_packaging import ROOT, in_build_context

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
WAIT_SECONDS = 60

MakeDatabase = Callable[[str], str]


def test_hadolint_finds_nothing_to_complain_about() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_there_is_one_base_image_and_the_user_is_a_number() -> None:
    stages = [line.text for line in instructions(DOCKERFILE) if line.name == "FROM"]
    assert [stage for stage in stages if stage.partition(" ")[0] != "base"] == ["python:3.13-slim-trixie AS base"]
    (user,) = [line.text for line in instructions(DOCKERFILE) if line.name == "USER"]
    assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", user)


def _copy_context(context: Path) -> None:
    """Copies exactly the files that a builder gets."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "node_modules"]
        for name in names:
            path = Path(folder, name).relative_to(ROOT)
            if in_build_context(PurePosixPath(path)):
                (context / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / path, context / path)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, read-only as a container's root file system can be."""
    if os.geteuid() == 0 and not can_unshare():
        pytest.skip("root may write everywhere, and the kernel does not let it become another user")
    folder = tmp_path_factory.mktemp("image")
    _copy_context(folder / "context")
    image = build(DOCKERFILE, folder / "context", folder)
    shutil.rmtree(folder / "context")
    subprocess.run(["chmod", "-R", "a-w", image.root], check=True)
    return image


def _become_another_user() -> None:
    """Gives this process another user id, without the rights of root."""
    if os.geteuid() == 0:
        enter_user_namespace()


def _run(image: Image, command: list[str], **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command,
        cwd=image.root,
        env=image.environment | settings,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
        preexec_fn=_become_another_user,
    )


@contextmanager
def _container(image: Image, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
    environment = image.environment | settings
    process = subprocess.Popen(image.command(), cwd=image.root, env=environment, preexec_fn=_become_another_user)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wait_until_healthy(image: Image, port: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while _run(image, image.health_check(), PORT=port).returncode != 0:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_the_image_migrates_and_serves_read_only_as_another_user_and_stops_on_sigterm(
    image: Image, new_database_url: MakeDatabase
) -> None:
    settings = production(new_database_url("postgres")) | {"PORT": str(free_port())}
    entrypoint = image.settings["ENTRYPOINT"].words()
    migrated = _run(image, [*entrypoint, "migrate"], **settings)
    assert migrated.returncode == 0, migrated.stderr
    assert _run(image, image.health_check(), PORT=settings["PORT"]).returncode != 0
    with _container(image, **settings) as process:
        _wait_until_healthy(image, settings["PORT"])
        url = f"http://127.0.0.1:{settings['PORT']}"
        assert httpx2.get(f"{url}/health/ready").status_code == 200
        headers = {"Authorization": f"Bearer {sign('alice')}"}
        assert httpx2.post(f"{url}/api/alice/tasks", json={"title": "Buy milk"}, headers=headers).status_code == 201
        assert httpx2.get(f"{url}/docs").status_code == 200
        # The service itself, not a shell, gets the signals.
        assert b"/bin/taskwell\0serve" in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        process.terminate()
        assert process.wait(WAIT_SECONDS) == 0


@pytest.mark.slow
def test_the_image_holds_what_the_service_needs_and_no_more(image: Image) -> None:
    packages = {path.name for path in (image.root / "opt").glob("taskwell/lib/*/site-packages/*") if path.is_dir()}
    assert packages >= {"taskwell", "redis", "opentelemetry"}
    assert packages.isdisjoint({"pytest", "mypy", "uv", "pip", "schemathesis"})
    # Copies of the source would not be installed, but lie around.
    assert not (image.root / "src").exists()
    # A read-only file system can keep no bytecode, so it is compiled.
    modules = list((image.root / "opt").glob("taskwell/lib/*/site-packages/taskwell/**/*.py"))
    assert modules
    assert [path for path in modules if not list((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))] == []
