"""The files that leave this repository: the container image's files, and the package's metadata."""

import re
import shutil
from importlib.metadata import metadata
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]

PRIVATE = [
    ".env",
    ".env.production",
    ".git/config",
    ".taskwell/development-secret",
    ".uv/bin/uv",
    ".venv/bin/python",
    "backup.sql",
    "customers.sqlite3",
    "node_modules/fastify/package.json",
    "src/.env",
    "src/taskwell/__pycache__/app.cpython-311.pyc",
    "src/taskwell.db",
    "taskwell.db",
    "taskwell.db-shm",
    "taskwell.db-wal",
]


def in_build_context(path: PurePosixPath) -> bool:
    """Applies .dockerignore as Docker does (docs.docker.com/build/concepts/context, "dockerignore files").

    A pattern matches a path or one of its parents, and the last pattern that matches decides.
    """
    included = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pattern = re.escape(line.lstrip("!"))
            pattern = pattern.replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
            if any(re.fullmatch(pattern, str(part)) for part in (path, *path.parents)):
                included = line.startswith("!")
    return included


def test_a_container_image_holds_the_service_and_no_secret(tmp_path: Path) -> None:
    ours = ["pyproject.toml", "uv.lock", "README.md", "LICENSE"]
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    ours += [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    for name in ours + PRIVATE:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert {name for name in names if in_build_context(PurePosixPath(name))} == set(ours)


def test_the_package_index_shows_a_readme_whose_links_work() -> None:
    description = metadata("taskwell")["Description"]
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert description.startswith("# Taskwell")
    assert len(links) == len(re.findall(r"\]\(", (ROOT / "README.md").read_text(encoding="utf-8")))
    assert [link for link in links if not link.startswith("https://")] == []


def test_only_the_package_metadata_names_the_repository() -> None:
    (source,) = [line.split(", ")[1] for line in metadata("taskwell").get_all("Project-URL") or [] if "Source" in line]
    documents = [
        *ROOT.glob("*.md"),
        *ROOT.glob("clients/*/*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("src/**/*.py"),
    ]
    assert [path.name for path in documents if source in path.read_text(encoding="utf-8")] == []


def test_lock_files_name_no_private_registry() -> None:
    hosts = set(re.findall(r"https?://([^/\"]+)", (ROOT / "uv.lock").read_text(encoding="utf-8")))
    assert hosts == {"pypi.org", "files.pythonhosted.org"}
    folders = [ROOT / name for name in ("bench", "clients", "examples", "tests")]
    locks = [
        path for folder in folders for path in folder.rglob("package-lock.json") if "node_modules" not in str(path)
    ]
    assert len(locks) >= 7
    # A package of this repository is resolved to its folder.
    assert [path for path in locks if re.search('"resolved": "(?!file:)', path.read_text(encoding="utf-8"))] == []
