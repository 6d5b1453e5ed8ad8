"""SECURITY.md says what is true: its tests exist, dependencies are pinned by hash, and findings of bandit are argued."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from support.service import Json

ROOT = Path(__file__).parents[1]

# Findings that ruff, which has the same rules, does not report; with the reason why each is none.
ARGUED = {
    ("B105", "settings.py"): "names of settings",
    ("B608", "cli/copy/engines.py"): "our own names of tables and columns",
    # pyproject.toml exempts migrations from ruff's rule, too.
    ("B608", "migrations/versions/0003_functions.py"): "the parts of our own functions",
    ("B608", "migrations/versions/0004_bulk.py"): "the parts of our own functions",
}

RISKS = [f"API{number}" for number in range(1, 11)]


def test_each_risk_names_tests_that_exist() -> None:
    rows = re.findall(r"^\| (API\d+) .*\|(.*)\|$", (ROOT / "SECURITY.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [risk for risk, _ in rows] == RISKS
    existing = {
        name
        for path in (ROOT / "tests").glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    for risk, tests in rows:
        named = set(re.findall(r"`(\w+)`", tests))
        assert named, risk
        assert named <= existing, (risk, named - existing)


def test_every_finding_of_bandit_is_argued() -> None:
    source = ROOT / "src" / "taskwell"
    command = [sys.executable, "-m", "bandit", "--recursive", "--quiet", "--format", "json", str(source)]
    report: Json = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 0
    unargued = [found for found in report["results"] if not _is_argued(found, source)]
    assert [(found["test_id"], found["filename"], found["line_number"]) for found in unargued] == []


def _is_argued(found: Json, source: Path) -> bool:
    path = Path(found["filename"])
    lines = path.read_text(encoding="utf-8").splitlines()
    statement = "\n".join(lines[number - 1] for number in found["line_range"])
    rule = found["test_id"].replace("B", "S", 1)
    beside = re.search(rf"# noqa: [A-Z0-9, ]*{rule}[A-Z0-9, ]* - \S", statement)
    return bool(beside) or (found["test_id"], path.relative_to(source).as_posix()) in ARGUED


def test_every_dependency_is_pinned_by_hash() -> None:
    locked = tomllib.loads((ROOT / "uv.lock").read_text(encoding="utf-8"))["package"]
    ours = [package["name"] for package in locked if "registry" not in package["source"]]
    assert ours == ["taskwell"]
    for package in locked:
        if package["name"] not in ours:
            files = [*package.get("wheels", []), *([package["sdist"]] if "sdist" in package else [])]
            assert files, package["name"]
            assert all(file["hash"].startswith("sha256:") for file in files), package["name"]


def test_the_bill_of_materials_names_every_dependency(tmp_path: Path) -> None:
    (recipe,) = re.findall(
        r"\$\(UV\) (export .*) --output-file sbom.json", (ROOT / "Makefile").read_text(encoding="utf-8")
    )
    bill = tmp_path / "sbom.json"
    # As `make` does: the uv on PATH, or its own.
    uv = shutil.which("uv") or ROOT / ".uv/bin/uv"
    subprocess.run([uv, *recipe.split(), "--output-file", bill], cwd=ROOT, check=True)
    content: Json = json.loads(bill.read_text(encoding="utf-8"))
    assert (content["bomFormat"], content["metadata"]["component"]["name"]) == ("CycloneDX", "taskwell")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {re.split(r"[\[><=;]", one)[0] for one in project["dependencies"]}
    assert direct <= {component["name"] for component in content["components"]}
