"""The types that TypeScript users generate from the OpenAPI document compile, and reject wrong requests."""

import shutil
import subprocess
from pathlib import Path

from support.document import SNAPSHOT
from support.npm import require_packages

CLIENT = Path(__file__).parent / "typescript"


def run(tool: str, *arguments: str | Path, directory: Path) -> None:
    command = [CLIENT / "node_modules" / ".bin" / tool, *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_strict_typescript_client_compiles(tmp_path: Path) -> None:
    require_packages(CLIENT)
    for file in ("consumer.ts", "tsconfig.json"):
        shutil.copy(CLIENT / file, tmp_path)
    run("openapi-typescript", SNAPSHOT, "--output", "taskwell.d.ts", directory=tmp_path)
    run("tsc", directory=tmp_path)


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (CLIENT / "package-lock.json").read_text(encoding="utf-8")
