"""The pages /docs and /redoc, in a real browser."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

import pytest

import taskwell
from support.document import OPERATIONS
from support.service import Service, running

# The link that each page has to an operation.
PAGES = {"/docs": "#/{tag}/{operation}", "/redoc": "#tag/{tag}/operation/{operation}"}

# Chromium sends requests of its own. They find no host, and the log shows that the page did not initiate them.
OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=20000"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """One service is enough: the pages do not depend on the database."""
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service


class Links(HTMLParser):
    """The addresses that a page loads, and those that it links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.loaded: set[str] = set(re.findall(r"url\(['\"]?([^'\")]+)", page))
        self.linked: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "href" and tag == "a":
                self.linked.add(str(value))
            elif name in ("src", "srcset", "href", "xlink:href", "data", "poster", "action"):
                self.loaded.add(str(value))


class Visit(NamedTuple):
    """The links of a page after its scripts have run, the URLs that it requested, and the browser's complaints."""

    links: Links
    requested: set[str]
    complaints: list[str]


def browser() -> str:
    """The path of Chromium. Without it the test is skipped, or fails in continuous integration."""
    names = ["chromium", "chromium-browser", "google-chrome"]
    found = next(filter(None, map(shutil.which, names)), None)
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no browser: install one of {', '.join(names)}")
    return found


def visit(url: str, directory: Path) -> Visit:
    log = directory / "network.json"
    files = [f"--user-data-dir={directory / 'profile'}", f"--log-net-log={log}"]
    command = [browser(), *OPTIONS, *files, "--enable-logging=stderr", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if ":CONSOLE:" in line]
    return Visit(Links(done.stdout), set(requests_of_the_page(url, json.loads(log.read_text()))), complaints)


def requests_of_the_page(url: str, log: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    origin = url.removesuffix(urlsplit(url).path)
    parameters = [event.get("params", {}) for event in log["events"]]
    return [each["url"] for each in parameters if each.get("initiator") == origin or each.get("url") == url]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_every_operation_and_sends_no_request_to_another_host(
    service: Service, page: str, tmp_path: Path
) -> None:
    links, requested, complaints = visit(service.url + page, tmp_path)
    for operation in OPERATIONS:
        (tag,) = operation.spec["tags"]
        assert PAGES[page].format(tag=tag, operation=operation.spec["operationId"]) in links.linked
    assert "/problems" in links.linked
    assert {service.url + page, f"{service.url}/openapi.json"} <= requested
    loaded = {urljoin(service.url, address) for address in links.loaded if not address.startswith(("data:", "#"))}
    foreign = [address for address in loaded | requested if not address.startswith(f"{service.url}/")]
    assert foreign == []
    # The browser complains about a request that the Content-Security-Policy forbids.
    assert complaints == []


def test_the_root_says_where_the_documentation_is(service: Service) -> None:
    response = service.http.get("/")
    assert (response.status_code, response.headers["cache-control"]) == (200, "no-cache")
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-request-id"]
    body = response.json()
    assert (body.pop("name"), body.pop("version")) == ("Taskwell", taskwell.__version__)
    assert body.keys() == {"docs", "redoc", "openapi", "problems", "health"}
    assert {name: service.http.get(path).status_code for name, path in body.items()} == dict.fromkeys(body, 200)
    assert service.http.head("/").headers["content-length"] == response.headers["content-length"]


@pytest.mark.parametrize("page", PAGES)
def test_the_page_forbids_browsers_to_load_from_other_hosts(service: Service, page: str) -> None:
    policy = service.http.get(page).headers["content-security-policy"]
    sources = {source for rule in policy.split(";") for source in rule.split()[1:]}
    assert policy.startswith("default-src 'none'")
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}


@pytest.mark.parametrize("page", PAGES)
def test_browsers_cache_the_assets_for_a_day_and_then_revalidate_them(service: Service, page: str) -> None:
    assets = [address for address in Links(service.http.get(page).text).loaded if address.startswith("/docs/assets/")]
    assert assets
    for asset in assets:
        response = service.http.get(asset)
        assert (response.status_code, response.headers["cache-control"]) == (200, "public, max-age=86400")
        unchanged = service.http.get(asset, headers={"If-None-Match": response.headers["etag"]})
        assert (unchanged.status_code, unchanged.headers["cache-control"]) == (304, "public, max-age=86400")
