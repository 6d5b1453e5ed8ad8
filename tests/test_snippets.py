"""Each command in the documentation exists, with its options, and each setting has a value that the service accepts.

Other tests run what these tests only parse.
"""

import re
import shlex

import pytest

from support.documents import ROOT, Block, all_blocks
from taskwell.cli.main import parse
from taskwell.settings import Settings

DOCUMENTS = [
    "README.md",
    "bench/README.md",
    "docs/better-auth.md",
    "docs/operations.md",
    "docs/own-back-end.md",
    "docs/performance.md",
    "docs/settings.md",
    "examples/better-auth/README.md",
]

RUN_ELSEWHERE = (
    # test_operations_docs.py
    *("sqlite3 ", "python3 -c ", "rm -f ", "pg_dump ", "pg_restore ", 'DATABASE_URL="$NEW_URL" taskwell migrate'),
    # support/better_auth.py, and test_start_docs.py
    *("node migrate.mjs", "npm ci\nexport BETTER_AUTH_URL="),
)
"""How the blocks begin that other tests run."""

REQUIRED = {
    "DATABASE_URL": "sqlite:///taskwell.db",
    "BETTER_AUTH_URL": "https://app.example",
    "TASKWELL_RATE_LIMIT": "200/second",
}
"""Settings without which some of the documented ones have no effect."""

BLOCKS = [
    pytest.param(block, id=f"{block.document} {block.code[:20].strip()}")
    for document in DOCUMENTS
    for block in all_blocks(document)
    if block.language == "sh" and not block.code.startswith(RUN_ELSEWHERE)
]
TARGETS = set(re.findall(r"^(\w+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def _words(block: Block) -> list[list[str]]:
    lines = block.code.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _assignments(block: Block) -> dict[str, str]:
    words = [word for line in _words(block) for word in line if re.match("[A-Z_]+=", word)]
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_settings_is_accepted(block: Block) -> None:
    Settings.read(REQUIRED | {name: value.replace("…", "x") for name, value in _assignments(block).items()})


@pytest.mark.parametrize("block", BLOCKS)
def test_every_line_of_a_block_is_a_setting_or_a_command_that_exists(block: Block) -> None:
    for words in _words(block):
        match words:
            case ["taskwell", *arguments]:
                parse(arguments)
            case ["make", target, *_]:
                assert target in TARGETS
            case ["pip", "install", "taskwell[redis]"]:
                pass
            case _:
                assert all(re.match("[A-Z_]+=", word) for word in words if word != "export"), words
