"""Builds the site of the documentation, and reads its pages."""

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

ROOT = Path(__file__).parents[2]
BASE = "http://site.test/"


class Page(HTMLParser):
    """A page of the site: its anchors, and the URLs that it links to or loads, all below `BASE` if they are internal."""

    def __init__(self, site: Path, path: Path) -> None:
        super().__init__()
        self._url = urljoin(BASE, path.relative_to(site).as_posix())
        self.anchors: set[str] = set()
        self.linked: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.anchors.add(str(value))
            elif name == "href" and tag == "a":
                self.linked.add(urljoin(self._url, value))
            elif name in ("src", "href"):
                self.loaded.add(urljoin(self._url, value))


class Site:
    """The built site in `folder`, with its pages by path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        files = [path for path in folder.rglob("*.html") if "_static" not in path.parts]
        self.pages = {path.relative_to(folder).as_posix(): Page(folder, path) for path in files}

    def has(self, url: str) -> bool:
        """Says whether `url`, which is below `BASE`, leads to a file of the site, and to an anchor if it names one."""
        path = unquote(urlsplit(url).path)[1:] or "index.html"
        anchor = unquote(urlsplit(url).fragment)
        if path in self.pages:
            return not anchor or anchor in self.pages[path].anchors
        return not anchor and (self.folder / path).is_file()


def build(folder: Path) -> Site:
    """Builds the site as `make docs` does. A warning of Sphinx is an error."""
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", str(folder / "cache")]
    command: list[str | Path] = [
        Path(sys.executable).with_name("sphinx-build"),
        *options,
        ROOT / "docs",
        folder / "site",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Site(folder / "site")
