"""Pages of the allowed origins can use the whole API from a browser, and pages of no other origin can."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.browser import run_scenario, serving_pages
from support.service import Client, Service, running, sign
from taskwell.http.origins import check_origin, origin_matcher

ALLOWED = (
    "https://app.example",
    "http://localhost:3000",
    "http://[::1]:3000",
    "capacitor://localhost",
    "tauri://localhost",
    "app://-",
    "chrome-extension://aapbdbdomjkkjkaonfhkkikfgjllcleb",
    "https://*.example.vercel.app",
    "https://*.preview.example:8443",
)
REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "X-Request-ID", "If-Match", "If-None-Match", "Idempotency-Key", "Last-Event-ID"),
    *("traceparent", "tracestate", "baggage", "sentry-trace"),
)
RESPONSE_HEADERS = (
    *("Allow", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID", "ETag", "Link", "Taskwell-Revision"),
    *("Idempotency-Replayed", "RateLimit", "RateLimit-Policy", "Content-Disposition"),
)


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_CORS_ORIGINS=",".join(ALLOWED)) as service:
        yield service


@pytest.fixture
def client(service: Service) -> Client:
    return service.client()


def preflight(client: Client, origin: str, **headers: str) -> dict[str, str]:
    """Returns the CORS headers of a preflight's response. Underscores in the names of `headers` stand for hyphens."""
    sent = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    response = client.http.options(client.home, headers=sent)
    return {name: value for name, value in response.headers.items() if name.startswith("access-control")}


@pytest.mark.parametrize(
    "origin",
    [
        *[entry for entry in ALLOWED if "*" not in entry],
        "https://main.example.vercel.app",
        "https://pull-17-x.example.vercel.app",
        "https://7.example.vercel.app",
        "https://main.preview.example:8443",
    ],
)
def test_a_page_of_an_allowed_origin_may_read_responses_and_send_credentials(client: Client, origin: str) -> None:
    granted = preflight(client, origin)
    response = client.request("GET", headers={"Origin": origin})
    refusal = client.http.get(client.home, headers={"Origin": origin})
    assert (response.status_code, refusal.status_code) == (200, 401)
    for headers in (granted, response.headers, refusal.headers):
        assert headers["access-control-allow-origin"] == origin
        assert headers["access-control-allow-credentials"] == "true"
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(
    "origin",
    [
        "*",
        "null",
        "",
        "http://app.example",
        "https://app.example:8443",
        "https://app.example.evil.com",
        "https://evil.com/app.example",
        "https://appXexample",
        "http://localhost:3001",
        "capacitor://localhost.evil.com",
        "capacitor://localhost/",
        "https://localhost",
        "https://*.example.vercel.app",
        "https://example.vercel.app",
        "https://.example.vercel.app",
        "https://a.b.example.vercel.app",
        "https://evil.com/.example.vercel.app",
        "https://evil.com?.example.vercel.app",
        "https://evil.com#.example.vercel.app",
        "https://evil.com\\.example.vercel.app",
        "https://user@main.example.vercel.app",
        "https://evil.com:443.example.vercel.app",
        "https://main.example.vercel.app.evil.com",
        "https://main.example.vercel.app:443",
        "https://main.example.vercel.app:8443",
        "https://mainXexample.vercel.app",
        "https://main-example.vercel.app",
        "https://-.example.vercel.app",
        "https://MAIN.example.vercel.app",
        "https://main .example.vercel.app",
        f"https://{'a' * 64}.example.vercel.app",
        "http://main.example.vercel.app",
        "httpss://main.example.vercel.app",
        "https://main.preview.example",
        "https://main.example.vercel.app https://evil.com",
        "https://main.example.vercel.app,https://evil.com",
    ],
)
def test_a_page_of_another_origin_may_neither_read_responses_nor_send_credentials(client: Client, origin: str) -> None:
    response = client.request("GET", headers={"Origin": origin})
    for headers in (preflight(client, origin), response.headers):
        assert "access-control-allow-origin" not in headers
        assert "access-control-allow-credentials" not in headers
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\0", "\n.example.vercel.app"])
def test_an_origin_matches_as_a_whole(ending: str) -> None:
    assert not origin_matcher(ALLOWED)(f"https://main.example.vercel.app{ending}")


def test_no_origin_matches_without_entries() -> None:
    assert not origin_matcher(())("")


@pytest.mark.parametrize("name", REQUEST_HEADERS)
def test_a_page_may_send_every_request_header_of_the_api_and_of_tracing(client: Client, name: str) -> None:
    granted = preflight(client, "https://app.example", Access_Control_Request_Headers=name.lower())
    assert name.lower() in granted["access-control-allow-headers"].lower().split(", ")


def test_a_page_may_read_every_response_header_of_the_api(client: Client) -> None:
    response = client.request("GET", headers={"Origin": "https://app.example"})
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert set(RESPONSE_HEADERS) <= set(exposed)


def test_a_public_page_may_call_a_service_on_a_private_network(client: Client) -> None:
    granted = preflight(client, "https://app.example", Access_Control_Request_Private_Network="true")
    assert granted["access-control-allow-private-network"] == "true"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("*", "is not an origin"),
        ("null", "is not an origin"),
        ("app.example", "is not an origin"),
        ("https://app.example/", "is not an origin"),
        ("https://App.example", "is not an origin"),
        ("https://müller.example", "is not an origin"),
        ("https://user@app.example", "is not an origin"),
        ("https://app.example:443", "correct its port, or leave it out"),
        ("http://app.example:80", "correct its port, or leave it out"),
        ("https://app.example:65536", "correct its port, or leave it out"),
        ("https://*.app.example:443", "correct its port, or leave it out"),
        ("file://localhost", 'browsers send "null"'),
        ("https://*", "is not an origin"),
        ("https://*.com", "is not an origin"),
        ("https://*.0.0.1", "is not an origin"),
        ("https://*.*.app.example", "is not an origin"),
        ("https://a.*.app.example", "is not an origin"),
        ("https://app-*.app.example", "is not an origin"),
        ("http://*.app.example", "is not an origin"),
        ("*://a.app.example", "is not an origin"),
        ("https://*.vercel.app", "would admit every page under vercel.app"),
        ("https://*.pages.dev", "would admit every page under pages.dev"),
    ],
)
def test_an_entry_that_is_not_an_origin_or_admits_anybody_is_refused(entry: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_origin(entry)


def test_a_real_page_uses_the_api_with_credentials_and_a_page_of_another_origin_cannot(
    new_database_url: Callable[[str], str], tmp_path: Path
) -> None:
    with serving_pages(tmp_path) as port:
        allowed, other = f"http://app.taskwell.test:{port}", f"http://evil.taskwell.test:{port}"
        with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_CORS_ORIGINS=allowed) as service:
            client = service.client()
            seen = run_scenario(
                "cors.mjs", allowed=allowed, other=other, url=service.url + client.home, token=sign(client.user)
            )
            assert client.titles() == ["b"]
    assert seen["allowed"]["statuses"] == [201, 200, 200, 200, 204]
    assert seen["allowed"]["error"] == "NOT_FOUND"
    assert {"location", "x-request-id"} <= set(seen["allowed"]["readable"])
    assert seen["other"] == {"failure": "Failed to fetch"}
    # The page before it has created, replaced, changed and deleted one task.
    assert seen["headers"] == {
        "created": {"status": 201, "etag": '"5"'},
        "replayed": {"status": 201, "etag": '"5"', "replayed": "true", "same": True},
        "page2": ["a"],
        "unchanged": [{"status": 304, "text": ""}] * 2,
        "changed": {"status": 200, "etag": '"7"'},
        "stale": {"status": 412, "etag": '"7"', "current": "c"},
        "revisions": ["5", "5", "7", "8"],
        "deleted": 204,
    }
