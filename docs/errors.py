"""Prints docs/errors.md, from the texts of the pages that the service has about errors."""

import textwrap
from collections.abc import Iterator

from taskwell.http.problem_types import PROBLEM_TYPES, ProblemType, type_path

WIDTH = 100

_INTRODUCTION = """\
# Errors

Every error has an `error_code`. With `Accept: application/problem+json` it also has a `type`, the
path of a page that the service itself serves, with an example. [The API](api.md#errors) describes
the body of an error, and [which check comes first](api.md#order-of-the-checks). This page is made
from the same texts as the service's pages."""


def page() -> str:
    """Returns the page: a table of all errors, and a section about each."""
    sections = [_section(code, problem) for code, problem in PROBLEM_TYPES.items()]
    return "\n\n".join([_INTRODUCTION, _table(), *sections]) + "\n"


def _table() -> str:
    rows = [
        f"| [`{code}`](#{code.lower()}) | {', '.join(map(str, problem.statuses))} | {problem.title} |"
        for code, problem in PROBLEM_TYPES.items()
    ]
    return "\n".join(["| `error_code` | status | title |", "|---|---|---|", *rows])


def _section(code: str, problem: ProblemType) -> str:
    return "\n\n".join(
        [
            f"## {code}",
            _filled(f"**{problem.title}.** {problem.meaning}"),
            f"`type`: `{type_path(code)}`",
            "\n".join(["| status | in short |", "|---|---|", *_remedies(problem)]),
            "What to do:",
            "\n".join(_filled(step, "- ", "  ") for step in problem.steps),
        ]
    )


def _remedies(problem: ProblemType) -> Iterator[str]:
    for status, remedy in problem.remedies.items():
        yield f"| {status} | {remedy[0].upper()}{remedy[1:]}. |"


def _filled(text: str, first: str = "", others: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


if __name__ == "__main__":
    print(page(), end="")
