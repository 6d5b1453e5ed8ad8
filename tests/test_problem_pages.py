"""The pages under /problems: each kind of error has one, and a browser needs nothing else to show it."""

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import jsonschema_rs
import pytest

from support.browser import run_scenario
from support.document import DOCUMENT, problems
from support.problem import assert_problem
from support.service import Service, running
from taskwell.http.problem_types import PROBLEM_TYPES, type_path

CODES = sorted({problem.code for problem in problems()})


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """One service is enough: the pages do not depend on the database."""
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service


@pytest.mark.parametrize("code", CODES)
def test_every_error_has_a_page_about_its_code_and_statuses(service: Service, code: str) -> None:
    statuses = {problem.status for problem in problems() if problem.code == code}
    assert set(PROBLEM_TYPES[code].statuses) == statuses
    page = service.http.get(type_path(code))
    assert page.status_code == 200
    assert f"<code>{code}</code>" in page.text
    for status in statuses:
        assert f'<th scope="row">{status} ' in page.text


# The texts of validation errors are about the request.
@pytest.mark.parametrize("code", sorted(set(CODES) - {"VALIDATION_ERROR"}))
def test_an_example_has_the_text_and_the_status_of_a_real_error(code: str) -> None:
    real = {(problem.default_detail, problem.status) for problem in problems() if problem.code == code}
    assert (PROBLEM_TYPES[code].detail, PROBLEM_TYPES[code].statuses[0]) in real


def test_the_list_links_to_every_page(service: Service) -> None:
    listed = set(re.findall(r'<th scope="row"><a href="([^"]+)">', service.http.get("/problems").text))
    assert listed == {type_path(code) for code in CODES}
    assert PROBLEM_TYPES.keys() == set(CODES)
    assert {service.http.get(path).status_code for path in listed} == {200}


@pytest.mark.parametrize("path", ["/problems", *map(type_path, PROBLEM_TYPES)])
def test_a_page_loads_nothing_and_may_be_cached(service: Service, path: str) -> None:
    page = service.http.get(path)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "public, max-age=3600"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    loaded = re.findall(r'(?:src|srcset|data|<link[^>]* href)="([^"]*)"|url\(|@import|<script', page.text)
    assert loaded == ["data:,"]
    head = service.http.head(f"{path}/")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == page.headers["content-length"]


@pytest.mark.parametrize(
    "path", ["/problems/nonsense", "/problems/NOT_FOUND", "/problems/not-found/x", "/problems/%00"]
)
def test_an_unknown_page_gets_the_error_that_every_path_gets(service: Service, path: str) -> None:
    assert_problem(service.http.get(path), 404, "NOT_FOUND")


def test_behind_a_prefix_an_unknown_page_names_the_path_of_the_list(new_database_url: Callable[[str], str]) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_ROOT_PATH="/pre") as service:
        problem = assert_problem(service.http.get("/pre/problems/nonsense"), 404, "NOT_FOUND")
        assert "/pre/problems lists" in problem["detail"]


@pytest.mark.slow
def test_a_developer_reads_every_page_on_any_screen(service: Service) -> None:
    seen = run_scenario("problems.mjs", url=service.url)
    assert seen["address"] == f"{service.url}/problems"
    assert seen["complaints"] == []
    assert len(seen["backgrounds"]) == 2
    # No other host, no favicon, no font: only the pages.
    assert {urlsplit(url).path for url in seen["requested"]} == {"/problems", *map(type_path, PROBLEM_TYPES)}
    assert {url.removesuffix(urlsplit(url).path) for url in seen["requested"]} == {service.url}
    assert seen["texts"].keys() == PROBLEM_TYPES.keys()
    for code, page in seen["texts"].items():
        assert page["url"] == service.url + type_path(code)
        assert PROBLEM_TYPES[code].title in page["text"]
        assert "`" not in page["text"]


@pytest.mark.parametrize("code", CODES)
def test_the_example_on_a_page_is_a_body_that_the_service_could_send(service: Service, code: str) -> None:
    schema = {"$ref": "#/components/schemas/ProblemDetails", "components": DOCUMENT["components"]}
    (text,) = re.findall(r"<pre><code>(.*?)</code></pre>", service.http.get(type_path(code)).text, re.DOTALL)
    example = json.loads(text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
    assert not [error.message for error in validator.iter_errors(example)]
    assert (example["error_code"], example["type"]) == (code, type_path(code))
