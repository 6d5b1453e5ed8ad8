"""The pages under /problems: one about each kind of error, to which `type` in the body of an error leads, and a list.

A page is a single HTML file without scripts. It loads nothing, so it is readable wherever the service can be reached.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from taskwell.errors import NotFound
from taskwell.http.problem_body import (
    EXAMPLE_REQUEST_ID,
    EXAMPLE_TIMESTAMP,
    PROBLEM_JSON,
    reason_phrase,
    rfc9457_members,
)
from taskwell.http.problem_types import PROBLEM_TYPES, PROBLEMS_PATH, slug_of, type_path
from taskwell.http.segments import public_path

_CODE_OF_SLUG = {slug_of(code): code for code in PROBLEM_TYPES}

_STYLE = """
:root { color-scheme: light dark; --text: #1d2129; --back: #fff; --soft: #f3f5f8; --line: #d5dae1; --link: #0b57d0 }
@media (prefers-color-scheme: dark) {
  :root { --text: #e3e6eb; --back: #15181d; --soft: #20252d; --line: #3a424d; --link: #8ab4f8 }
}
body { margin: 0 auto; max-width: 44rem; padding: 1rem 1rem 3rem; background: var(--back); color: var(--text);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: break-word }
nav { display: flex; flex-wrap: wrap; gap: 0 1.5rem; border-bottom: 1px solid var(--line); padding-bottom: .5rem }
nav a { padding: .5rem 0 }
a { color: var(--link) }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 1.5rem 0 .5rem }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem }
code, pre { font: .9em/1.5 ui-monospace, monospace; background: var(--soft); border-radius: 4px }
code { padding: .1em .3em; white-space: nowrap }
a code { white-space: normal }
pre { padding: .75rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere }
pre code { padding: 0; font-size: 1em; white-space: inherit }
ul { padding-left: 1.25rem }
li { margin: .4rem 0 }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .5rem .75rem .5rem 0; text-align: left; vertical-align: top }
thead th { font-size: .9rem }
tbody th { font-weight: normal }
@media (max-width: 25rem) { p code, li code, td code { white-space: normal } }
"""

# The page may use this style sheet and an empty icon, and nothing else.
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# They change only with a release.
_HEADERS = {"Content-Security-Policy": _POLICY, "Cache-Control": "public, max-age=3600"}

_INTRODUCTION = f"""\
<p>Every error of this service has one of these codes in <code>error_code</code>. <code>detail</code> says what went wrong,
and <code>request_id</code> identifies the request in the service's log.</p>
<p>Send <code>Accept: {PROBLEM_JSON}</code> to get the members of RFC 9457, too. <code>type</code> is then the path of the
page about the error.</p>"""


def add(app: FastAPI) -> None:
    """Adds the page about each kind of error, and the list of these pages. They need no token."""

    async def index(request: Request) -> Response:
        return _page(request, "Errors", _INTRODUCTION + _list(public_path(request.scope, "")))

    async def page(request: Request) -> Response:
        root_path = public_path(request.scope, "")
        code = _code_of(request.path_params["slug"], root_path)
        return _page(request, PROBLEM_TYPES[code].title, _description(code, root_path))

    app.add_route(PROBLEMS_PATH, index, include_in_schema=False)
    app.add_route(f"{PROBLEMS_PATH}/{{slug:segment}}", page, include_in_schema=False)


def _code_of(slug: str, root_path: str) -> str:
    try:
        return _CODE_OF_SLUG[slug]
    except KeyError:
        raise NotFound(f"There is no such kind of error. {root_path}{PROBLEMS_PATH} lists all of them.") from None


# --- the contents


def _list(root_path: str) -> str:
    rows = [
        (_link(code, root_path), ", ".join(map(str, problem.statuses)), _text(problem.title))
        for code, problem in PROBLEM_TYPES.items()
    ]
    return _table(("Code", "Status", "Title"), rows)


def _link(code: str, root_path: str) -> str:
    # On a small screen, a long code may break after an underscore.
    return f'<a href="{root_path}{type_path(code)}"><code>{code.replace("_", "_<wbr>")}</code></a>'


def _description(code: str, root_path: str) -> str:
    problem = PROBLEM_TYPES[code]
    remedies = {f"{status} {reason_phrase(status)}": _sentence(text) for status, text in problem.remedies.items()}
    steps = "".join(f"<li>{_text(step)}</li>" for step in problem.steps)
    return (
        f"<p><code>{code}</code></p><p>{_text(problem.meaning)}</p>"
        + _table(("Status", "In short"), _rows(remedies))
        + f"<h2>What to do</h2><ul>{steps}</ul>"
        + _headers(problem.headers)
        + f"<h2>Example</h2><p>With <code>Accept: {PROBLEM_JSON}</code>, the body of the response is like this one.</p>"
        f"<pre><code>{html.escape(_example(code, root_path), quote=False)}</code></pre>"
    )


def _headers(headers: Mapping[str, str]) -> str:
    if not headers:
        return ""
    rows = {f"`{name}`": text for name, text in headers.items()}
    return "<h2>Headers</h2>" + _table(("Header", "Use"), _rows(rows))


def _example(code: str, root_path: str) -> str:
    problem = PROBLEM_TYPES[code]
    body = {
        "detail": problem.detail,
        "error_code": code,
        "timestamp": EXAMPLE_TIMESTAMP,
        "request_id": EXAMPLE_REQUEST_ID,
        **problem.members,
        **rfc9457_members(code, problem.statuses[0], root_path=root_path, request_id=EXAMPLE_REQUEST_ID),
    }
    return json.dumps(body, indent=2)


# --- HTML


def _page(request: Request, title: str, contents: str) -> Response:
    root_path = public_path(request.scope, "")
    return HTMLResponse(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{_text(title)} - Taskwell</title>\n<link rel="icon" href="data:,">\n<style>{_STYLE}</style>\n</head>\n'
        f'<body>\n<nav aria-label="Documentation"><a href="{root_path}{PROBLEMS_PATH}">All errors</a>'
        f'<a href="{root_path}/docs">API documentation</a></nav>\n'
        f"<main>\n<h1>{_text(title)}</h1>\n{contents}\n</main>\n</body>\n</html>\n",
        headers=_HEADERS,
    )


def _rows(texts: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    return [(_text(name), _text(text)) for name, text in texts.items()]


def _table(heads: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Returns a table of cells that are HTML already. The first cell of a row is its heading."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _text(text: str) -> str:
    """Returns `text` as HTML. Backticks mark code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))
