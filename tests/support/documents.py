"""The code blocks of the documentation."""

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

_BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<code>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A code block: the document that it is in, its language, and its text without the indentation of a list."""

    document: str
    language: str
    code: str


def all_blocks(document: str) -> list[Block]:
    """Returns the code blocks of a document, whose path begins at the root of the repository."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [Block(document, found["language"], textwrap.dedent(found["code"])) for found in _BLOCK.finditer(text)]


def blocks(document: str, *languages: str) -> list[str]:
    """Returns the code of the blocks in these languages."""
    return [block.code for block in all_blocks(document) if block.language in languages]
