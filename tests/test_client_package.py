"""The npm package @taskwell/client: what is published, and that it fits this version of the service."""

import gzip
import json
import shutil
import tomllib
from pathlib import Path

import pytest

from support.client_package import PACKAGE, TOOLS, installed, run
from support.document import SNAPSHOT
from support.documents import ROOT
from support.npm import require_packages

MAX_BYTES = 6_000
MAX_ADAPTER_BYTES = 4_000
RELEASES = sorted(PACKAGE.glob("released/*.ts"))


def manifest(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    return content


def test_its_version_is_that_of_the_service() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lock = json.loads((PACKAGE / "package-lock.json").read_text(encoding="utf-8"))
    assert manifest(PACKAGE)["version"] == lock["version"] == project["version"]


def test_it_holds_what_applications_need_and_nothing_else() -> None:
    package = installed() / "node_modules" / "@taskwell" / "client"
    names = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    sources = PACKAGE / "src"
    modules = {path.relative_to(sources).with_suffix("").as_posix() for path in sources.rglob("*.ts")}
    built = {f"dist/{module}{ending}" for module in modules for ending in (".js", ".d.ts")}
    assert names == built | {"package.json", "README.md", "LICENSE"}
    assert "dependencies" not in manifest(package)
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_every_tool_can_import_it() -> None:
    (archive,) = installed().glob("*.tgz")
    run(TOOLS / "publint", "--strict", archive, folder=PACKAGE)
    run(TOOLS / "attw", archive, "--profile", "esm-only", folder=PACKAGE)


def size_of(code: str, folder: Path) -> int:
    """Returns the number of bytes of a page with this code, bundled, minified and compressed."""
    (folder / "page.mjs").write_text(code)
    packages = folder / "node_modules"
    if not packages.exists():
        packages.symlink_to(installed() / "node_modules")
    bundle = run(TOOLS / "esbuild", "page.mjs", "--bundle", "--minify", "--format=esm", folder=folder)
    return len(gzip.compress(bundle.encode()))


def test_it_adds_less_than_6_kb_to_a_page(tmp_path: Path) -> None:
    assert size_of('export * from "@taskwell/client"', tmp_path) < MAX_BYTES


def test_the_adapter_for_tanstack_db_adds_less_than_4_kb_more(tmp_path: Path) -> None:
    both = 'export * from "@taskwell/client"; export * from "@taskwell/client/tanstack-db"'
    assert size_of(both, tmp_path) - size_of('export * from "@taskwell/client"', tmp_path) < MAX_ADAPTER_BYTES


def test_its_types_are_those_of_the_api_document(tmp_path: Path) -> None:
    require_packages(PACKAGE)
    run(TOOLS / "openapi-typescript", SNAPSHOT, "--output", tmp_path / "api.ts", folder=PACKAGE)
    assert (tmp_path / "api.ts").read_text() == (PACKAGE / "src" / "api.ts").read_text()


@pytest.mark.parametrize("release", RELEASES, ids=[path.stem for path in RELEASES])
def test_it_uses_only_what_every_released_service_has(release: Path, tmp_path: Path) -> None:
    require_packages(PACKAGE)
    shutil.copytree(PACKAGE / "src", tmp_path / "src")
    for name in ("package.json", "tsconfig.json"):
        shutil.copy(PACKAGE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(PACKAGE / "node_modules")
    shutil.copy(release, tmp_path / "src" / "api.ts")
    run(TOOLS / "tsc", "--noEmit", folder=tmp_path)


def test_this_version_is_among_the_releases_that_it_is_checked_against() -> None:
    assert f"{manifest(PACKAGE)['version']}" in [path.stem for path in RELEASES]
