"""The documentation matches the code."""

import json
import re
from pathlib import Path

from taskwell.auth.tokens import Cause
from taskwell.cli.main import COMMANDS
from taskwell.errors import Problem
from taskwell.http.problem_types import PROBLEM_TYPES

ROOT = Path(__file__).parents[1]


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _kinds(problem: type[Problem] = Problem) -> set[type[Problem]]:
    return {problem}.union(*(_kinds(kind) for kind in problem.__subclasses__()))


def test_every_error_is_documented_and_every_documented_error_exists() -> None:
    documented = re.findall(r"^\| (\d{3}) \| `([A-Z_]+)` \| (.+) \|$", _read("docs/api.md"), re.MULTILINE)
    existing = {(kind.status, kind.code) for kind in _kinds() if hasattr(kind, "status")}
    assert {(int(status), code) for status, code, _ in documented} == existing
    # The pages that the service has about errors give the same advice.
    for status, code, remedy in documented:
        assert PROBLEM_TYPES[code].remedies[int(status)] == remedy


def test_the_drawn_tree_of_errors_matches_the_classes() -> None:
    tree = _read("src/taskwell/errors.py").split('"""')[1]
    assert set(re.findall(r"[├└]── (\w+)", tree)) == {kind.__name__ for kind in _kinds() - {Problem}}


def test_every_cause_of_a_refused_token_is_documented() -> None:
    explained = re.findall(r"^\| `([a-z_]+)` \| [^|]+ \| [^|]+ \|$", _read("docs/better-auth.md"), re.MULTILINE)
    assert set(explained) == set(Cause)


def test_the_readme_lists_every_command() -> None:
    listed = re.findall(r"^\| `taskwell (\w+)", _read("README.md"), re.MULTILINE)
    assert set(listed) == set(COMMANDS)


def test_the_readme_lists_every_endpoint() -> None:
    listed = re.findall(r"^\| `([A-Z]+) (/[^`]*)`", _read("README.md"), re.MULTILINE)
    paths = json.loads(_read("docs/openapi.json"))["paths"]
    assert {path.split("?")[0] for _, path in listed if path.startswith("/api")} == {
        path for path in paths if path.startswith("/api")
    }


def _anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_documents_have_existing_targets_and_anchors() -> None:
    documents = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/*/*.md"),
        *ROOT.glob("clients/*/*.md"),
        *ROOT.glob("bench/*.md"),
    ]
    for document in documents:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                path = document.parent / target if target else document
                assert path.exists(), f"{document.name}: {target}"
                assert not anchor or anchor in _anchors(path), f"{document.name}: {target}#{anchor}"


def test_the_list_of_decisions_is_complete() -> None:
    titles = {path.name: path.read_text(encoding="utf-8").splitlines()[0] for path in ROOT.glob("docs/adr/[0-9]*.md")}
    listed = re.findall(r"^- \[(.+)\]\((.+)\)$", _read("docs/adr/README.md"), re.MULTILINE)
    assert [(name, f"# {title}") for title, name in listed] == sorted(titles.items())


def test_decisions_that_the_code_refers_to_exist() -> None:
    sources = [*ROOT.glob("src/**/*.py"), *ROOT.glob("tests/**/*.py"), ROOT / "pyproject.toml"]
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    named = set(re.findall(r"docs/adr/[\w-]+\.md", text))
    numbered = {int(number) for number in re.findall(r"\bADR (\d+)", text)}
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert numbered <= {int(path.name[:4]) for path in ROOT.glob("docs/adr/[0-9]*.md")}


def test_every_make_command_in_the_readme_exists() -> None:
    targets = set(re.findall(r"^(\w+):.*## ", _read("Makefile"), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", _read("README.md"), re.MULTILINE)) <= targets
