"""The configurations of nginx and Caddy in deploy/vm, as they are, in front of a service: with TLS, streams and limits."""

import json
import re
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx2
import pytest

from support import caddy, nginx
from support.caddy import Caddy
from support.certificates import Authority
from support.events import Stream, connect, request
from support.nginx import Nginx
from support.ports import free_port
from support.problem import assert_problem
from support.process import Server, production, serving
from support.service import Client, sign, use_every_endpoint
from taskwell.settings import Settings
from taskwell.tasks.events import HEARTBEAT_SECONDS
from taskwell.tasks.operations import MAX_BATCH_BYTES

# The client and the proxy are on one machine, so the client needs another loopback address to be told from the proxy.
CLIENT = "127.0.0.9"
METRICS = free_port()

AUTHORITY = Authority()
TRUST = ssl.create_default_context(cadata=AUTHORITY.certificate)

Proxy = Nginx | Caddy


@pytest.fixture(scope="module")
def server(new_migrated_url: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with metrics, as deploy/vm/taskwell.service starts it, but with one process."""
    settings = production(new_migrated_url("sqlite")) | {"TASKWELL_METRICS_PORT": str(METRICS)}
    options = ["--forwarded-allow-ips", "127.0.0.1"]
    with serving(tmp_path_factory.mktemp("server"), "serve", *options, **settings) as server:
        yield server


@pytest.fixture(scope="module", params=[Nginx, Caddy])
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[Proxy]:
    proxy: Proxy = request.param(server.url, AUTHORITY)
    yield proxy
    proxy.stop()


@pytest.fixture
def http(proxy: Proxy) -> Iterator[httpx2.Client]:
    """A client of the proxy."""
    transport = httpx2.HTTPTransport(local_address=CLIENT, verify=TRUST)
    with httpx2.Client(base_url=proxy.url, transport=transport, timeout=15) as http:
        yield http


def stream(proxy: Proxy, client: Client) -> Stream:
    """Opens a stream of events through the proxy."""
    connection = TRUST.wrap_socket(connect(proxy.url), server_hostname="127.0.0.1")
    connection.settimeout(None)
    # Caddy serves only its own host.
    connection.sendall(request(client).replace(b"Host: x", b"Host: 127.0.0.1"))
    return Stream(connection)


def test_the_api_works_with_tls(http: httpx2.Client) -> None:
    use_every_endpoint(Client(http))
    assert http.get("/docs").status_code == 200


def test_plain_http_is_redirected(proxy: Proxy) -> None:
    response = httpx2.get(f"{proxy.plain_url}/api/alice/tasks?limit=1")
    assert response.status_code in {301, 308}
    assert re.fullmatch(r"https://127\.0\.0\.1(:\d+)?/api/alice/tasks\?limit=1", response.headers["location"])


def test_the_log_has_the_clients_address_whatever_the_client_claims(http: httpx2.Client, server: Server) -> None:
    for headers in ({}, {"X-Forwarded-For": "6.6.6.6, 127.0.0.1", "Forwarded": "for=6.6.6.6"}):
        request_id = http.get("/health", headers=headers).headers["x-request-id"]
        assert f"client={CLIENT} GET /health 200" in server.line_about(request_id, "taskwell.access")


def test_an_event_arrives_at_once_although_the_proxy_buffers(proxy: Proxy, http: httpx2.Client, server: Server) -> None:
    alice = Client(http)
    with stream(proxy, alice) as events:
        events.begun()
        for title in ("one", "two"):
            server.client(alice.user).create(title)
            assert events.next(HEARTBEAT_SECONDS / 3).data["title"] == title


@pytest.mark.slow
def test_heartbeats_keep_a_quiet_stream_open(server: Server) -> None:
    with ExitStack() as stack:
        streams: list[Stream] = []
        # At the same time, because the heartbeats take their time.
        for proxies in (Nginx, Caddy):
            proxy = proxies(server.url, AUTHORITY)
            stack.callback(proxy.stop)
            streams.append(stack.enter_context(stream(proxy, server.client("quiet"))).begun())
        deadline = time.monotonic() + HEARTBEAT_SECONDS + 10
        while not all(opened.comments for opened in streams):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        server.client("quiet").create("at last")
        assert [opened.next().data["title"] for opened in streams] == ["at last", "at last"]


def test_a_body_may_be_as_long_as_the_service_allows_and_a_longer_one_gets_its_answer(http: httpx2.Client) -> None:
    headers = {"Authorization": f"Bearer {sign('alice')}", "Content-Type": "application/json"}
    batch = json.dumps({"operations": [{"op": "create", "task": {"title": "a"}}]})
    for length, status in ((MAX_BATCH_BYTES, 200), (MAX_BATCH_BYTES + 1, 413)):
        response = http.post("/api/alice/tasks/batch", content=batch.ljust(length), headers=headers)
        assert response.status_code == status
    assert_problem(response, 413, "PAYLOAD_TOO_LARGE")


def test_the_metrics_are_not_public(http: httpx2.Client) -> None:
    assert httpx2.get(f"http://127.0.0.1:{METRICS}/metrics").status_code == 200
    assert_problem(http.get("/metrics"), 404, "NOT_FOUND")


def test_the_proxy_gives_up_an_idle_connection_before_the_service_does() -> None:
    idle = [*re.findall(r"keepalive_timeout (\d+)s;", nginx.SITE), *re.findall(r"keepalive (\d+)s\n", caddy.SITE)]
    assert [int(seconds) < Settings.model_fields["TASKWELL_KEEP_ALIVE_SECONDS"].default for seconds in idle] == [
        True
    ] * 2


def test_a_stop_of_caddy_does_not_wait_for_the_last_stream_to_end(server: Server) -> None:
    hurried = caddy.SITE.replace("grace_period 10s", "grace_period 1s")
    assert hurried != caddy.SITE
    proxy = Caddy(server.url, AUTHORITY, site=hurried)
    with stream(proxy, server.client("alice")) as events:
        events.begun()
        proxy._process.send_signal(signal.SIGTERM)
        assert proxy._process.wait(10) == 0
    proxy.stop()
