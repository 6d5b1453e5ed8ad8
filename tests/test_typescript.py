"""The types that TypeScript users generate from the OpenAPI document compile, reject wrong requests, and fit the service."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.document import SNAPSHOT
from support.npm import require_packages
from support.service import running, sign

CLIENT = Path(__file__).parent / "typescript"


def run(*command: str | Path, directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the compiled clients."""
    require_packages(CLIENT)
    directory = tmp_path_factory.mktemp("typescript")
    for file in ("consumer.ts", "calls.ts", "tsconfig.json", "package.json"):
        shutil.copy(CLIENT / file, directory)
    (directory / "node_modules").symlink_to(CLIENT / "node_modules")
    programs = CLIENT / "node_modules" / ".bin"
    run(programs / "openapi-typescript", SNAPSHOT, "--output", "taskwell.d.ts", directory=directory)
    run(programs / "tsc", directory=directory)
    return directory / "compiled"


def test_a_strict_client_compiles(compiled: Path) -> None:
    assert (compiled / "consumer.js").exists()


def test_a_typed_client_can_call_every_operation(compiled: Path, new_database_url: Callable[[str], str]) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        alice = service.client().user
        run("node", "calls.js", service.url, alice, sign(alice), directory=compiled)
