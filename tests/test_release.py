"""A release publishes a wheel that works alone, and a source distribution that builds the same wheel."""

import re
import shutil
import subprocess
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from support.process import production, run, serving

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


def uv(*arguments: str | Path, folder: Path = ROOT) -> None:
    """Runs uv: that on PATH, or the one that `make` has installed."""
    subprocess.run([shutil.which("uv") or ROOT / ".uv/bin/uv", *arguments, "--quiet"], cwd=folder, check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--out-dir", folder)
    return folder


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_source_distribution_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    uv("build", "--wheel", "--out-dir", tmp_path, only(built, "*.tar.gz"))
    assert contents(only(tmp_path, "*.whl")) == contents(only(built, "*.whl"))


def test_the_source_distribution_has_the_tests_and_no_secret(built: Path) -> None:
    with tarfile.open(only(built, "*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert names - {"PKG-INFO", ".gitignore"} <= set(tracked)
    assert {"tests/conftest.py", "tests/support/service.py", "docs/api.md", "uv.lock", "Makefile"} <= names


def test_the_wheel_holds_the_package_alone(built: Path) -> None:
    tops = {name.split("/")[0] for name in contents(only(built, "*.whl"))}
    assert tops == {"taskwell", only(built, "*.whl").name.replace("-py3-none-any.whl", ".dist-info")}


def test_the_wheel_works_alone(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "environment" / "bin" / "python"
    uv("export", "--locked", "--no-dev", "--no-emit-project", "--output-file", tmp_path / "requirements.txt")
    uv("venv", python.parent.parent)
    uv("pip", "install", "--python", python, "--require-hashes", "-r", tmp_path / "requirements.txt")
    uv("pip", "install", "--python", python, "--no-deps", only(built, "*.whl"))
    monkeypatch.setattr("support.process.COMMAND", python.with_name("taskwell"))
    settings = production(f"sqlite:///{tmp_path}/taskwell.db")
    assert run(tmp_path, "migrate", **settings).returncode == 0
    with serving(tmp_path, **settings) as server:
        assert server.http.get("/docs").status_code == 200
        assert server.http.get("/health").json()["version"] == version()
        assert server.client("alice").create()["title"] == "Buy milk"


def version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"])


def test_the_version_is_written_in_one_place() -> None:
    code = [path for path in (ROOT / "src").rglob("*.py") if version() in path.read_text(encoding="utf-8")]
    assert code == []


def test_the_changelog_has_this_version() -> None:
    headings = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[0] in ("Unreleased", version())
    assert version() in headings
