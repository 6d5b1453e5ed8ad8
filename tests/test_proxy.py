"""Behind a reverse proxy: paths under its prefix, and the address of the client in the log."""

import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2
import pytest

from support import caddy, nginx
from support.browser import run_scenario
from support.caddy import Caddy
from support.nginx import Nginx
from support.problem import assert_problem, assert_problem_details
from support.process import Server, production, run, serving
from support.service import SECRET, Client, Service, running, sign, use_every_endpoint
from taskwell.errors import SettingsError
from taskwell.settings import Settings

# As docs/operations.md says.
PASSES_ON = nginx.SITE.replace("location / {", "location /prefix/ {")
REMOVES = PASSES_ON.replace("proxy_pass http://taskwell;", "proxy_pass http://taskwell/;")
OF_CADDY = caddy.SITE.replace("reverse_proxy ", "reverse_proxy /prefix/* ")

# The client and the proxy are on one machine, so the client needs another loopback address to be told from the proxy.
CLIENT = "127.0.0.9"

MakeDatabase = Callable[[str], str]


# --- the prefix


@pytest.fixture(scope="module")
def server(new_migrated_url: MakeDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service under a prefix, as an operator starts it. The options win over the environment."""
    options = ["--root-path", "/prefix/", "--forwarded-allow-ips", "127.0.0.1", "--workers", "2"]
    environment = {"TASKWELL_ROOT_PATH": "/other", "TASKWELL_FORWARDED_ALLOW_IPS": "192.0.2.1"}
    settings = production(new_migrated_url("sqlite")) | environment
    with serving(tmp_path_factory.mktemp("server"), "serve", *options, **settings) as server:
        yield server


@pytest.fixture(scope="module", params=[PASSES_ON, REMOVES], ids=["passes the prefix on", "removes the prefix"])
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[Nginx]:
    """An nginx in front of it, configured as the documentation says."""
    proxy = Nginx(server.url, site=request.param)
    yield proxy
    proxy.stop()


@pytest.fixture
def http(proxy: Nginx) -> Iterator[httpx2.Client]:
    """A client of the proxy."""
    transport = httpx2.HTTPTransport(local_address=CLIENT)
    with httpx2.Client(base_url=f"{proxy.url}/prefix", transport=transport, timeout=15) as http:
        yield http


class PrefixedClient(Client):
    """A user behind the prefix."""

    @property
    def home(self) -> str:
        return f"/prefix/api/{quote(self.user, safe='')}/tasks"


def test_the_location_of_a_new_task_leads_to_it(proxy: Nginx) -> None:
    with httpx2.Client(base_url=proxy.url, timeout=15) as http:
        user = PrefixedClient(http)
        created = user.request("POST", json={"title": "Buy milk"})
        assert created.status_code == 201
        assert created.headers["location"] == f"{user.home}/{created.json()['id']}"
        assert user.request("GET", created.headers["location"]).json() == created.json()
        assert user.request("DELETE", created.headers["location"]).status_code == 204
        use_every_endpoint(user)


@pytest.mark.parametrize(("proxies", "site"), [(Nginx, PASSES_ON), (Caddy, OF_CADDY)])
def test_a_user_id_with_a_slash_survives_a_proxy_that_passes_the_prefix_on(
    proxies: type[Nginx | Caddy], site: str, server: Server
) -> None:
    proxy = proxies(server.url, site=site)
    with httpx2.Client(base_url=proxy.url, timeout=15) as http:
        user = PrefixedClient(http, "a/b")
        created = user.request("POST", json={"title": "Buy milk"})
        assert created.headers["location"] == f"/prefix/api/a%2Fb/tasks/{created.json()['id']}"
        assert user.request("GET", created.headers["location"]).json() == created.json()
    proxy.stop()


def test_the_documentation_is_right_under_the_prefix(http: httpx2.Client) -> None:
    index = http.get("/").json()
    pages = {name: f"/prefix/{name}" for name in ("docs", "redoc", "problems", "health")}
    assert {name: index[name] for name in pages} == pages
    assert index["openapi"] == "/prefix/openapi.json"
    document = http.get("/openapi.json").json()
    assert document["servers"] == [{"url": "/prefix"}]
    assert "](/prefix/problems)" in document["info"]["description"]
    for page in ("/docs", "/redoc"):
        text = http.get(page).text
        addresses = re.findall(r"""(?:src|href|url|spec-url)(?:=|: ?)["'](/[^"']+)""", text)
        assert len(addresses) >= 3
        assert {urlsplit(address).path.startswith("/prefix/") for address in addresses} == {True}


@pytest.mark.slow
def test_a_developer_tries_the_api_out_behind_the_prefix(proxy: Nginx) -> None:
    seen = run_scenario("prefix.mjs", url=f"{proxy.url}/prefix")
    assert seen["complaints"] == []
    assert seen["status"] == "200"
    assert f"{proxy.url}/prefix/health" in seen["requested"]
    assert seen["download"] == f"{proxy.url}/prefix/openapi.json"
    own = [url for url in seen["requested"] if not url.startswith(("data:", "blob:"))]
    assert [url for url in own if not url.startswith(f"{proxy.url}/prefix/")] == []


def test_the_type_of_an_error_leads_to_its_page(proxy: Nginx) -> None:
    with httpx2.Client(base_url=proxy.url, timeout=15) as http:
        response = http.get("/prefix/docs/assets/nonsense", headers={"Accept": "application/problem+json"})
        problem = assert_problem_details(response, 404, "NOT_FOUND", root_path="/prefix")
        page = http.get(problem["type"])
        assert page.status_code == 200
        links = set(re.findall(r'href="(/[^"]*)"', page.text))
        assert links == {"/prefix/problems", "/prefix/docs"}
        listed = re.findall(r'href="(/[^"]*)"', http.get("/prefix/problems").text)
        assert problem["type"] in listed
        assert {http.get(link).status_code for link in links.union(listed)} == {200}


def test_errors_are_right_under_the_prefix(http: httpx2.Client) -> None:
    assert_problem(http.get("/nonsense"), 404, "NOT_FOUND")
    assert_problem(http.get("/api/alice/tasks"), 401, "AUTH_MISSING")
    for method, path, allowed in (
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("POST", "/docs/assets/swagger-ui.css", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ):
        response = http.request(method, path)
        assert_problem(response, 405, "METHOD_NOT_ALLOWED")
        assert response.headers["allow"] == allowed
    token = {"Authorization": f"Bearer {sign('alice')}"}
    response = http.patch("/api/alice/tasks", headers=token)
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST")


@pytest.mark.parametrize("root_path", ["/api", "/api/v1", "/health", "/docs/a", "/~me/a-b_c.d"])
def test_a_prefix_may_begin_like_a_path_of_the_service(root_path: str, new_database_url: MakeDatabase) -> None:
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_ROOT_PATH=root_path) as service:
        user = service.client("alice")
        location = f"{root_path}{user.home}/{user.create()['id']}"
        created = user.request("POST", json={"title": "Buy bread"})
        assert created.headers["location"].startswith(f"{root_path}{user.home}/")
        # Both without the prefix and with it.
        assert user.request("GET", location).json() == user.request("GET", location.removeprefix(root_path)).json()
        for path in ("/docs/assets/favicon.png", "/openapi.json", "/redoc", "/health/ready", "/problems/gone", "/docs"):
            if path != root_path:
                assert service.http.get(path).status_code == 200
            assert service.http.get(root_path + path).status_code == 200
            assert service.http.get(f"{root_path}{path}/").status_code == 200
        assert {service.http.get(root_path + end).json()["docs"] for end in ("", "/")} == {f"{root_path}/docs"}
        for path in (f"{root_path}x/docs", f"{root_path}//docs", f"{root_path}{root_path}{root_path}/docs"):
            assert_problem(service.http.get(path), 404, "NOT_FOUND")


GOOD = {"DATABASE_URL": "sqlite:///unused.db", "BETTER_AUTH_SECRET": SECRET}


@pytest.mark.parametrize(
    ("given", "used"), [("/prefix", "/prefix"), ("/prefix/", "/prefix"), ("/a/b-c_d.e~1/", "/a/b-c_d.e~1"), ("/", "")]
)
def test_a_slash_at_the_end_of_the_prefix_makes_no_difference(given: str, used: str) -> None:
    assert used == Settings.read(GOOD | {"TASKWELL_ROOT_PATH": given}).TASKWELL_ROOT_PATH


@pytest.mark.parametrize(
    ("root_path", "reason"),
    [
        *(
            (path, "must begin with a slash, like /prefix")
            for path in ("prefix", "prefix/", "https://a.example/b", ".")
        ),
        *(
            (path, "must be a path like /prefix or /a/b, of letters, digits, and any of - . _ ~")
            for path in (
                "//",
                "//evil.example",
                "/a//b",
                "/a/../b",
                "/.",
                "/a b",
                "/a?b",
                "/a#b",
                "/a%2Fb",
                "/ä",
                "/'a",
            )
        ),
    ],
)
def test_a_prefix_that_is_not_a_path_is_rejected_by_name(root_path: str, reason: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | {"TASKWELL_ROOT_PATH": root_path})
    assert str(rejection.value) == f"TASKWELL_ROOT_PATH: {reason}"


def test_unusable_options_stop_the_start_with_the_reason(tmp_path: Path) -> None:
    options = ["--root-path", "prefix", "--forwarded-allow-ips", "localhost"]
    done = run(tmp_path, "serve", *options, **GOOD)
    assert done.returncode == 2
    assert "TASKWELL_ROOT_PATH: must begin with a slash" in done.stderr
    assert "TASKWELL_FORWARDED_ALLOW_IPS: entry 1 is not an IP address or network" in done.stderr


# --- the client's address


def test_the_log_has_the_address_that_the_proxy_reports(http: httpx2.Client, server: Server) -> None:
    spoofed = {"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "Forwarded": "for=6.6.6.6"}
    for headers in ({}, spoofed):
        response = http.get("/api/alice/tasks", headers=headers)
        request_id = response.headers["x-request-id"]
        for logger in ("taskwell.access", "taskwell.problems"):
            line = server.line_about(request_id, logger)
            assert f"client={CLIENT} GET " in line
            assert "/api/alice/tasks 401" in line
    # Nobody trusts the service's own client.
    direct = server.http.get("/health", headers={"X-Request-ID": "direct", "Forwarded": "for=127.0.0.1, for=unknown"})
    assert direct.status_code == 200
    assert "client=127.0.0.1 GET /health 200" in server.line_about("direct", "taskwell.access")


TRUSTED = "127.0.0.1, 10.0.0.0/8,2001:db8:1::/48 ,192.0.2.7"
LONG = ",".join(f"10.0.{number // 250}.{number % 250}" for number in range(2000))

# For each case: the headers of the request, and the address in the log.
REPORTED: dict[str, tuple[list[str], str]] = {
    "nothing": ([], "127.0.0.1"),
    "one": (["X-Forwarded-For: 203.0.113.7"], "203.0.113.7"),
    "spoofed": (["X-Forwarded-For: 6.6.6.6, 203.0.113.7"], "203.0.113.7"),
    "spoofed proxy": (["X-Forwarded-For: 6.6.6.6, 10.0.0.1, 203.0.113.7"], "203.0.113.7"),
    "several proxies": (["X-Forwarded-For: 6.6.6.6,203.0.113.7 ,\t192.0.2.7,10.9.9.9"], "203.0.113.7"),
    "several lines": (["X-Forwarded-For: 6.6.6.6", "x-forwarded-for: 203.0.113.7, 10.0.0.1"], "203.0.113.7"),
    "proxies only": (["X-Forwarded-For: 10.0.0.1, 10.0.0.2"], "10.0.0.1"),
    "garbage of the client": (["X-Forwarded-For: \x1b[2J<script>, 203.0.113.7"], "203.0.113.7"),
    "a port": (["X-Forwarded-For: 203.0.113.7:4711"], "203.0.113.7"),
    "IPv6": (["X-Forwarded-For: 2001:DB8:0::7, 2001:db8:1::9"], "2001:db8::7"),
    "IPv6 and a port": (["X-Forwarded-For: [2001:db8::7]:4711, [2001:db8:1::9]"], "2001:db8::7"),
    "IPv4 in IPv6": (["X-Forwarded-For: ::ffff:203.0.113.7, ::ffff:10.0.0.1"], "203.0.113.7"),
    "empty elements": (["X-Forwarded-For: ,203.0.113.7,, ,"], "203.0.113.7"),
    "forwarded": (["Forwarded: for=203.0.113.7"], "203.0.113.7"),
    "forwarded in full": (
        ['Forwarded: for=6.6.6.6, FOR="[2001:db8::7]:4711";proto=https;host="a,b;for=6.6.6.6", for=10.0.0.1;by=_x'],
        "2001:db8::7",
    ),
    "forwarded in lines": (['Forwarded: for="', "Forwarded: for=203.0.113.7", "Forwarded: for=10.0.0.1"], "203.0.113.7"),
    "a quoted element": (['Forwarded: for=203.0.113.7;host="x, for=6.6.6.6"'], "203.0.113.7"),
    "an escaped quote": (['Forwarded: for=203.0.113.7;host="\\", for=6.6.6.6"'], "203.0.113.7"),
    "both the same": (["X-Forwarded-For: 6.6.6.6, 203.0.113.7", "Forwarded: for=203.0.113.7"], "203.0.113.7"),
    # All of these fall back to the address of the proxy.
    "both but different": (["X-Forwarded-For: 203.0.113.7", "Forwarded: for=6.6.6.6"], "127.0.0.1"),
    "empty": (["X-Forwarded-For: "], "127.0.0.1"),
    "a word": (["X-Forwarded-For: unknown"], "127.0.0.1"),
    "a word before a proxy": (["X-Forwarded-For: 203.0.113.7, unknown, 10.0.0.1"], "127.0.0.1"),
    "a zone": (["X-Forwarded-For: fe80::1%eth0"], "127.0.0.1"),
    "a zone with text": (["X-Forwarded-For: fe80::1%x client=6.6.6.6"], "127.0.0.1"),
    "too large": (["X-Forwarded-For: 256.0.0.1"], "127.0.0.1"),
    "an octal number": (["X-Forwarded-For: 010.0.0.1"], "127.0.0.1"),
    "a network": (["X-Forwarded-For: 203.0.113.0/24"], "127.0.0.1"),
    "no end": (["X-Forwarded-For: [2001:db8::7"], "127.0.0.1"),
    "not ASCII": (["X-Forwarded-For: \xb2\xb3.0.0.1"], "127.0.0.1"),
    "an escape sequence": (["X-Forwarded-For: \x1b[2J\x85203.0.113.7"], "127.0.0.1"),
    "many": ([f"X-Forwarded-For: 203.0.113.7,{LONG}"], "127.0.0.1"),
    "long": ([f"X-Forwarded-For: {'1' * 60_000}"], "127.0.0.1"),
    "white space": ([f"X-Forwarded-For: a{' ' * 60_000}b"], "127.0.0.1"),
    "forwarded, a name": (["Forwarded: for=_hidden"], "127.0.0.1"),
    "forwarded, unknown": (["Forwarded: for=unknown"], "127.0.0.1"),
    "forwarded, nothing": (["Forwarded: proto=https"], "127.0.0.1"),
    "forwarded, twice": (["Forwarded: for=6.6.6.6;for=203.0.113.7"], "127.0.0.1"),
    "forwarded, an open quote": (['Forwarded: for=203.0.113.7;host="a, for=6.6.6.6'], "127.0.0.1"),
    "forwarded, text after a quote": (['Forwarded: for="203.0.113.7"6.6.6.6'], "127.0.0.1"),
    "forwarded, no value": (["Forwarded: for"], "127.0.0.1"),
    "forwarded, long": ([f"Forwarded: for=203.0.113.7;{'a=b;' * 15_000}"], "127.0.0.1"),
    "forwarded, white space": ([f"Forwarded: for=203.0.113.7{' ' * 60_000}x"], "127.0.0.1"),
}  # fmt: skip


@pytest.fixture(scope="module")
def trusting(new_database_url: MakeDatabase) -> Iterator[Service]:
    """A service that trusts some proxies, among them every client on this machine."""
    with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_FORWARDED_ALLOW_IPS=TRUSTED) as service:
        yield service


def _status(service: Service, *lines: str) -> int:
    """Sends a request and returns the status of the response."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        with suppress(ConnectionError):
            connection.sendall("".join(f"{line}\r\n" for line in (*lines, "Connection: close", "")).encode("latin-1"))
        received = b"".join(iter(lambda: connection.recv(65536), b""))
        return int(received.split()[1])


def _messages_about(status: int, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the lines about refusals. The access log is late, so it may still write about other tests."""
    problems = [record.getMessage() for record in caplog.records if record.name == "taskwell.problems"]
    return [message for message in problems if f" {status} " in message]


@pytest.mark.parametrize("case", REPORTED)
def test_the_clients_address_is_the_last_one_that_is_not_a_trusted_proxy(
    case: str, trusting: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers, address = REPORTED[case]
    if any(ord(character) < 32 and character != "\t" for character in "".join(headers)):
        # The parser does not let control characters through, so the headers are never read.
        assert _status(trusting, "GET /nonsense HTTP/1.1", "Host: x", *headers) == 400
        assert "client=127.0.0.1 GET /nonsense 400" in caplog.text
        return
    assert _status(trusting, "GET /nonsense HTTP/1.1", "Host: x", *headers) == 404
    (message,) = _messages_about(404, caplog)
    assert re.fullmatch(rf"request_id=\S+ client={re.escape(address)} GET /nonsense 404 NOT_FOUND: .+", message)


@pytest.mark.parametrize(
    "headers", [["X-Forwarded-For: 203.0.113.7"], ["Forwarded: for=203.0.113.7"], ["X-Forwarded-For: 127.0.0.1, x"]]
)
def test_by_default_nobody_is_trusted(
    headers: list[str], new_database_url: MakeDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        assert _status(service, "GET /nonsense HTTP/1.1", "Host: x", *headers) == 404
    assert {re.findall(r"client=(\S+)", message)[0] for message in _messages_about(404, caplog)} == {"127.0.0.1"}


def test_a_star_trusts_everybody(new_database_url: MakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url, TASKWELL_FORWARDED_ALLOW_IPS="*") as service:
        header = "X-Forwarded-For: 2001:db8::7, 203.0.113.7"
        assert _status(service, "GET /nonsense HTTP/1.1", "Host: x", header) == 404
    assert {re.findall(r"client=(\S+)", message)[0] for message in _messages_about(404, caplog)} == {"2001:db8::7"}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ("localhost", "entry 1 is not an IP address or network; write an address such as 10.0.0.5"),
        ("10.0.0.5, 10.0.0.256", "entry 2 is not an IP address or network"),
        ("10.0.0.0/33", "entry 1 is not an IP address or network"),
        ("10.0.0.5/8", "entry 1 has bits beyond the network's length; write 10.0.0.0/8, or the address alone"),
        ("2001:db8::1/32", "entry 1 has bits beyond the network's length; write 2001:db8::/32"),
        ("fe80::1%eth0", "entry 1 has a zone; write an address"),
        ("**", "entry 1 is not an IP address or network"),
        ("10.0.0.5:80", "entry 1 is not an IP address or network"),
    ],
)
def test_a_proxy_that_is_not_an_address_is_rejected_by_name(entries: str, reason: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | {"TASKWELL_FORWARDED_ALLOW_IPS": entries})
    assert str(rejection.value).startswith(f"TASKWELL_FORWARDED_ALLOW_IPS: {reason}")


def test_a_socket_for_ipv6_and_ipv4_knows_a_proxy_with_ipv4(new_migrated_url: MakeDatabase, tmp_path: Path) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 on this machine")
    options = ["--host", "::", "--forwarded-allow-ips", "127.0.0.0/8"]
    with serving(tmp_path, "serve", *options, **production(new_migrated_url("sqlite"))) as server:
        url = f"http://127.0.0.1:{urlsplit(server.url).port}/health"
        for request_id, headers in {"plain": {}, "reported": {"X-Forwarded-For": "203.0.113.7"}}.items():
            assert httpx2.get(url, headers={"X-Request-ID": request_id, **headers}).status_code == 200
        assert "client=127.0.0.1 GET" in server.line_about("plain", "taskwell.access")
        assert "client=203.0.113.7 GET" in server.line_about("reported", "taskwell.access")


# --- the lines of the log


@pytest.mark.parametrize(
    ("lines", "status", "name"),
    [
        (["GET /nonsense?q=1 HTTP/1.1", "Host: x"], 404, "GET /nonsense"),
        (["HEAD /nonsense HTTP/1.1", "Host: x"], 404, "HEAD /nonsense"),
        (["DELETE /api/a/tasks/1/ HTTP/1.1", "Host: x"], 401, "DELETE /api/a/tasks/1/"),
        (["PUT /a?b=c HTTP/1.1", "Host: x", "Host: y"], 400, "PUT /a"),
        (["PUT /a?b=c HTTP/1.1"], 400, "PUT /a"),
        (["PUT /a HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "", "ZZZ"], 400, "PUT /a"),
        (["PUT /a HTTP/1.1", "Host: x", "Upgrade: a", "Connection: Upgrade", "Content-Length: z"], 400, "PUT /a"),
        ([f"PUT /{'a' * 1000} HTTP/1.1", "Host: x", "Host: y"], 400, f"PUT /{'a' * 255}"),
        ([f"PUT /{'a' * 1000} HTTP/1.1", "Host: x"], 404, f"PUT /{'a' * 255}"),
        (["JUNK"], 400, "- -"),
        (["\x00"], 400, "- -"),
    ],
)  # fmt: skip
def test_the_line_about_a_refusal_has_the_method_and_the_path(
    lines: list[str], status: int, name: str, trusting: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert _status(trusting, *lines) == status
    # A line about a request of the test before may still arrive.
    (message,) = [message for message in _messages_about(status, caplog) if f" {name} " in message]
    assert re.fullmatch(rf"request_id=\S+ client=127.0.0.1 {re.escape(name)} {status} [A-Z_]+: .+", message)


def test_the_line_about_a_broken_request_does_not_name_the_one_before(
    trusting: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    before = ["GET /health HTTP/1.1", "Host: x", "X-Forwarded-For: 203.0.113.7", ""]
    for junk in ("JUNK", "\x00", "GET\x00", " "):
        caplog.clear()
        assert _status(trusting, *before, junk) == 200
        (message,) = _messages_about(400, caplog)
        assert " client=127.0.0.1 - - 400 " in message


def test_the_client_of_a_refused_request_is_the_one_that_the_proxy_reports(
    trusting: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert _status(trusting, "PUT /a HTTP/1.1", "Host: x", "Host: y", "X-Forwarded-For: 203.0.113.7") == 400
    # Half a head may lack the line of the proxy.
    assert _status(trusting, "PUT /b HTTP/1.1", "Host: x", "X-Forwarded-For: 6.6.6.6", "broken") == 400
    assert "client=203.0.113.7 PUT /a 400" in caplog.text
    assert "client=127.0.0.1 PUT /b 400" in caplog.text


@pytest.mark.parametrize(
    ("path", "logged"),
    [
        ("/%0A%1B[2J", "/%0A%1B[2J"),
        ("/a%20b?q=%0a", "/a%20b"),
        ("/" + "%0a" * 1000, ("/" + "%0a" * 100)[:256]),
        ("/api/%E2%80%A8/tasks", "/api/%E2%80%A8/tasks"),
    ],
)
def test_a_path_cannot_forge_a_line_of_the_log(
    path: str, logged: str, trusting: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert _status(trusting, f"GET {path} HTTP/1.1", "Host: x") in (401, 404)
    assert f" GET {logged} 40" in caplog.text
    assert caplog.text.isascii()


def test_bytes_in_a_path_that_are_not_ascii_are_escaped(trusting: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for path in ("/\x85\x9b\xff", "/\xe2\x80\xa8"):
        assert _status(trusting, f"GET {path} HTTP/1.1", "Host: x") in (400, 404)
    time.sleep(0.2)
    assert caplog.text
    assert caplog.text.isascii()


def test_a_parameter_cannot_forge_a_line_of_the_log(trusting: Service, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    name = "a%0A2026-11-21T10:30:00.123Z%20INFO%E2%80%A8" + "b" * 10_000
    token = f"Authorization: Bearer {sign('alice')}"
    assert _status(trusting, f"GET /api/alice/tasks?{name}=1 HTTP/1.1", "Host: x", token) == 422
    (message,) = _messages_about(422, caplog)
    assert message.isprintable()
    assert len(message) < 1000


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_times_in_the_log_are_in_utc(workers: str, new_migrated_url: MakeDatabase, tmp_path: Path) -> None:
    settings = production(new_migrated_url("sqlite")) | {"TZ": "Asia/Tokyo"}
    with serving(tmp_path, "serve", "--workers", workers, **settings) as server:
        server.http.get("/nonsense")
        server.end()
        lines = server.log.read_text().splitlines()
    assert {json.dumps(line.split()[2]) for line in lines} >= {'"taskwell.access"', '"taskwell.problems"'}
    for line in lines:
        logged = datetime.strptime(line.split()[0], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert abs(datetime.now(UTC) - logged) < timedelta(minutes=5)
