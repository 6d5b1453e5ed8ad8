"""How Sphinx builds the site of the documentation. The pages are plain Markdown, so that GitHub shows them as well."""

import os
import re
import tomllib
from importlib.resources import files
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

PAGES = [
    "front-end",
    "api",
    "errors",
    "settings",
    "better-auth",
    "own-back-end",
    "deploy",
    "platforms",
    "operations",
    "telemetry",
    "performance",
    "adr/README",
]
"""The navigation, after the first page."""

project = "Taskwell"
copyright = "the authors of Taskwell"
version = release = PROJECT["version"]

extensions = ["myst_parser"]
root_doc = "index"
nitpicky = True
smartquotes = False

# Headings get the anchors that they have on GitHub.
myst_heading_anchors = 4

html_theme = "pydata_sphinx_theme"
html_title = "Taskwell"
html_favicon = "_static/icon.svg"
# Mermaid draws the diagrams.
html_static_path = ["_static", str(files("mermaidx") / "assets" / "mermaid.js")]
html_css_files = ["site.css"]
html_js_files = [("diagrams.mjs", {"type": "module"})]
templates_path = ["_templates"]
html_sidebars = {"**": ["sidebar-collapse", "navigation"]}
html_copy_source = False
html_show_sphinx = False
html_use_index = False
# Without this, the theme complains in the console.
html_context = {"default_mode": "auto"}
html_theme_options = {
    "icon_links": [{"name": "Source", "url": PROJECT["urls"]["Source"], "icon": "fa-brands fa-github"}],
    "navbar_center": [],
    "footer_start": ["copyright"],
    "footer_end": [],
}


def setup(app: Sphinx) -> None:
    """Adds to the pages what does not belong on GitHub."""
    app.add_lexer("mermaid", TextLexer)
    app.connect("source-read", _add_navigation)
    app.connect("source-read", _link_to_repository)


def _add_navigation(_: Sphinx, page: str, source: list[str]) -> None:
    pages = {
        "index": ["Start in a minute <self>", *PAGES],
        "adr/README": sorted(path.stem for path in DOCS.glob("adr/[0-9]*.md")),
    }.get(page)
    if pages:
        source[0] += "\n".join(["\n```{toctree}", ":hidden:", *pages, "```\n"])


def _link_to_repository(_: Sphinx, page: str, source: list[str]) -> None:
    """Files outside of docs/ are not part of the site."""
    folder = (DOCS / page).parent

    def link(match: re.Match[str]) -> str:
        target = os.path.relpath(folder / match[1], ROOT)
        inside = (ROOT / target).is_relative_to(DOCS)
        return match[0] if inside else f"]({PROJECT['urls']['Source']}/blob/main/{target})"

    source[0] = re.sub(r"\]\((\.\./[^)]+)\)", link, source[0])
