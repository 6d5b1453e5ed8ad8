"""The documentation as a site: `make docs` builds it, and it is readable on any screen without another host."""

import re
import subprocess
import sys
import tomllib
from urllib.parse import urlsplit

import pytest

from support.browser import run_scenario, serving_pages
from support.site import BASE, ROOT, Site, build

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCREENS = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 30)"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return build(tmp_path_factory.mktemp("site"))


def test_every_document_has_its_page(site: Site) -> None:
    documents = {path.relative_to(ROOT / "docs").with_suffix(".html").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert site.pages.keys() == documents | {"search.html"}


def test_every_page_can_be_reached_from_the_first(site: Site) -> None:
    reached: set[str] = set()
    waiting = {"index.html"}
    while waiting:
        reached |= waiting
        linked = {urlsplit(url).path[1:] for page in waiting for url in site.pages[page].linked if url.startswith(BASE)}
        waiting = (linked & site.pages.keys()) - reached
    # The form leads to the search.
    assert reached == site.pages.keys() - {"search.html"}


def test_every_internal_link_has_its_target_and_its_anchor(site: Site) -> None:
    linked = {url for page in site.pages.values() for url in page.linked | page.loaded if url.startswith(BASE)}
    assert len(linked) > 100
    assert [url for url in sorted(linked) if not site.has(url)] == []


def test_links_that_leave_the_documentation_lead_to_files_of_the_repository(site: Site) -> None:
    prefix = f"{PROJECT['urls']['Source']}/blob/main/"
    linked = {url.removeprefix(prefix) for page in site.pages.values() for url in page.linked if url.startswith(prefix)}
    assert "examples/better-auth/client.mjs" in linked
    assert [path for path in linked if not (ROOT / path).exists()] == []


def test_the_site_loads_nothing_from_another_host(site: Site) -> None:
    assert [url for page in site.pages.values() for url in page.loaded if not url.startswith((BASE, "data:"))] == []


@pytest.mark.slow
@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("theme", BACKGROUNDS)
def test_everyone_can_read_every_page_and_search_without_another_host(site: Site, screen: str, theme: str) -> None:
    with serving_pages(site.folder) as port:
        url = f"http://127.0.0.1:{port}"
        seen = run_scenario(
            "site.mjs",
            url=url,
            paths=sorted(page for page in site.pages if not re.match(r"adr/00(?!13)", page)),
            viewport=SCREENS[screen],
            colorScheme=theme,
            query="idempotency key",
        )
    assert seen["complaints"] == []
    assert seen["backgrounds"] == [BACKGROUNDS[theme]]
    assert [requested for requested in seen["requested"] if not requested.startswith((f"{url}/", "data:"))] == []
    assert "api.html" in seen["found"]


def test_the_page_about_errors_is_that_of_this_version() -> None:
    made = subprocess.run([sys.executable, ROOT / "docs" / "errors.py"], capture_output=True, text=True, check=True)
    assert made.stdout == (ROOT / "docs" / "errors.md").read_text(encoding="utf-8"), "run: make docs"
