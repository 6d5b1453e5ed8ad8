"""An export under way holds no connection, no request in flight and little memory, and it never ends early unnoticed."""

import logging
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.download import MANY, download, fill, open_streams, wait_until_closed
from support.problem import assert_problem
from support.process import production, serving
from support.relay import Relay
from support.service import Client, Service, running, sign, use_every_endpoint
from taskwell.auth.tokens import UserId
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.server import protocol
from taskwell.tasks.export import PAGE_TASKS
from taskwell.tasks.repository import TaskRepository
from taskwell.tasks.schemas import ExportedTask

ENGINES = ["sqlite", "postgres", "postgres-pooler"]
READ = 50_000


def path_of(client: Client) -> str:
    return f"/api/{client.user}/export"


@pytest.fixture
def big(service: Service, alice: Client) -> Client:
    """A user whose export does not fit into all buffers on the way."""
    fill(service.url_of_database, alice.user)
    return alice


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collects the number of tasks on each page that is read."""
    read: list[int] = []
    export_page = TaskRepository.export_page

    async def counted(
        tasks: TaskRepository, owner: UserId, limit: int, before: int | None = None
    ) -> Sequence[ExportedTask]:
        page = await export_page(tasks, owner, limit, before)
        read.append(len(page))
        return page

    monkeypatch.setattr(TaskRepository, "export_page", counted)
    return read


def lines_in(response: HTTPResponse) -> int:
    """Reads the rest of an export and returns the number of its lines."""
    return response.read().count(b"\n")


# --- a client that reads slowly, or not at all


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_that_reads_slowly_holds_no_connection_and_no_request_in_flight(
    engine: str, new_database_url: Callable[[str], str]
) -> None:
    url = new_database_url(engine)
    with running(engine, DATABASE_URL=url, TASKWELL_POOL_MAX="1", TASKWELL_MAX_IN_FLIGHT="1") as service:
        alice = service.client()
        fill(url, alice.user)
        with download(service.url, alice.user) as response:
            for _ in range(3):
                read = response.read(READ)
                use_every_endpoint(service.client())
                assert alice.request("GET", params={"limit": 10}).status_code == 200
            assert open_streams(service) == 1
            assert (read + response.read()).count(b"\n") > MANY * 0.9
        wait_until_closed(service)


def test_pages_are_read_only_when_the_client_has_room_for_them(service: Service, big: Client, pages: list[int]) -> None:
    with download(service.url, big.user) as response:
        time.sleep(0.5)
        read = len(pages)
        time.sleep(0.5)
        assert len(pages) == read < MANY / PAGE_TASKS
        assert lines_in(response) == MANY
    assert sum(pages) == MANY


def test_a_client_that_reads_nothing_is_disconnected(
    service: Service, big: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "_WATCH_SECONDS", 0.1)
    with download(service.url, big.user) as response:
        wait_until_closed(service)
        with pytest.raises((IncompleteRead, ConnectionError)):
            response.read()


def test_a_client_that_reads_slowly_but_steadily_gets_everything(
    service: Service, big: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 0.5)
    monkeypatch.setattr(protocol, "_WATCH_SECONDS", 0.1)
    lines = 0
    with download(service.url, big.user) as response:
        while part := response.read(1_000_000):
            lines += part.count(b"\n")
            time.sleep(0.2)
    assert lines == MANY


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell what is in the kernel")
def test_a_client_that_reads_very_slowly_is_not_taken_for_one_that_reads_nothing(
    service: Service, big: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "UNREAD_SECONDS", 1)
    monkeypatch.setattr(protocol, "_WATCH_SECONDS", 0.1)
    with download(service.url, big.user) as response:
        for _ in range(30):
            assert response.read(READ)
            time.sleep(0.1)
        assert open_streams(service) == 1


@pytest.mark.parametrize("reset", [False, True])
def test_when_the_client_goes_away_the_export_stops_at_once(
    service: Service, big: Client, pages: list[int], *, reset: bool
) -> None:
    with download(service.url, big.user) as response:
        response.read(READ)
        if reset:
            wire = socket.socket(fileno=socket.dup(response.fileno()))
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            wire.close()
    wait_until_closed(service)
    assert len(pages) < MANY / PAGE_TASKS
    use_every_endpoint(service.client())


def test_a_client_that_closes_only_its_own_side_gets_everything(service: Service, big: Client) -> None:
    with download(service.url, big.user) as response:
        wire = socket.socket(fileno=socket.dup(response.fileno()))
        wire.shutdown(socket.SHUT_WR)
        time.sleep(protocol.HALF_CLOSED_SECONDS + 0.2)
        assert lines_in(response) == MANY
        wire.close()


# --- limits


@pytest.fixture
def limited(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """A service that keeps two streams open, and one of each user."""
    with running(
        "sqlite",
        DATABASE_URL=new_database_url("sqlite"),
        TASKWELL_MAX_STREAMS="2",
        TASKWELL_MAX_STREAMS_PER_USER="1",
    ) as service:
        yield service


def test_streams_beyond_a_limit_are_refused_until_one_has_ended(
    limited: Service, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    alice, bob, carol = (limited.client() for _ in range(3))
    for user in (alice, bob):
        fill(limited.url_of_database, user.user)
    carol.create()
    with download(limited.url, alice.user) as first:
        for method in ("GET", "HEAD"):
            assert alice.request(method, path_of(alice)).status_code == 429
        problem = alice.request("GET", path_of(alice))
        assert "1 streams" in assert_problem(problem, 429, "RATE_LIMITED")["detail"]
        assert int(problem.headers["retry-after"]) > 0
        assert alice.request("GET").status_code == 200
        with download(limited.url, bob.user):
            shed = carol.request("GET", path_of(carol))
            assert_problem(shed, 503, "OVERLOADED")
            assert int(shed.headers["retry-after"]) > 0
            assert carol.titles() == ["Buy milk"]
        while open_streams(limited) > 1:
            time.sleep(0.01)
        assert carol.request("GET", path_of(carol)).text.count("\n") == 1
        assert lines_in(first) == MANY
    wait_until_closed(limited)
    for _ in range(3):
        assert alice.request("HEAD", path_of(alice)).status_code == 200
        assert alice.request("GET", path_of(alice)).text.count("\n") == MANY
    time.sleep(1.1)
    refused = re.findall(r"refused (\d) streams of users who had 1 open, the maximum", caplog.text)
    assert sum(map(int, refused)) == 3
    assert "shed 1 streams: 2 were open, the maximum" in caplog.text


def test_head_reads_one_page_and_opens_no_stream_for_longer(service: Service, big: Client, pages: list[int]) -> None:
    for _ in range(3):
        assert big.request("HEAD", path_of(big)).status_code == 200
    assert pages == [PAGE_TASKS] * 3
    assert open_streams(service) == 0


# --- a stream that breaks off


def test_an_export_whose_database_fails_is_visibly_incomplete(
    new_database_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    with Relay(url) as relay, running("postgres", migrate=False, DATABASE_URL=relay.url) as service:
        alice = service.client()
        fill(url, alice.user)
        with download(service.url, alice.user) as response:
            response.read(READ)
            relay.close()
            with pytest.raises(IncompleteRead):
                response.read()
        wait_until_closed(service)
        (line,) = [record for record in caplog.records if "broke off" in record.getMessage()]
        assert (line.levelno, line.exc_info) == (logging.WARNING, None)
        assert f"GET {path_of(alice)}: the stream broke off: " in line.getMessage()
        # Before the response has begun, it is an ordinary error.
        assert_problem(alice.request("GET", path_of(alice)), 500, "DATABASE_ERROR")
        relay.open()
        assert alice.request("GET", path_of(alice)).text.count("\n") == MANY
        assert open_streams(service) == 0
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_an_old_client_sees_it_too(new_database_url: Callable[[str], str]) -> None:
    """A response to HTTP/1.0 ends when the connection is closed, so a broken one ends with a reset."""
    url = new_database_url("postgres")
    upgrade(parse_database_url(url))
    with Relay(url) as relay, running("postgres", migrate=False, DATABASE_URL=relay.url) as service:
        alice = service.client()
        fill(url, alice.user)
        address = urlsplit(service.url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
            head = f"GET {path_of(alice)} HTTP/1.0\r\nAuthorization: Bearer {sign(alice.user)}\r\n\r\n"
            connection.sendall(head.encode())
            assert connection.recv(READ)
            relay.close()
            with pytest.raises(ConnectionResetError), connection.makefile("rb") as response:
                response.read()


# --- a stop of the service


def test_a_stop_lets_an_export_finish(new_migrated_url: Callable[[str], str], tmp_path: Path) -> None:
    url = new_migrated_url("sqlite")
    fill(url, "alice")
    with serving(tmp_path, **production(url)) as server:
        with download(server.url, "alice") as response:
            lines = response.read(READ).count(b"\n")
            server.process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            assert lines + lines_in(response) == MANY
        assert server.process.wait(10) == 0
        assert "Traceback" not in server.log.read_text()


def test_a_stop_does_not_wait_long_for_a_client_that_does_not_read(
    new_migrated_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_migrated_url("sqlite")
    fill(url, "alice")
    with serving(tmp_path, **production(url)) as server:
        with download(server.url, "alice") as response:
            response.read(READ)
            stopped = time.monotonic()
            assert server.end() == 0
            assert time.monotonic() - stopped < 5
            with pytest.raises((IncompleteRead, ConnectionError)):
                response.read()
        assert "Traceback" not in server.log.read_text()


# --- memory


def _peak_megabytes(process: int) -> float:
    (line,) = [line for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc to see the memory")
@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/csv"])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_an_export_of_any_length_takes_the_same_memory(
    new_migrated_url: Callable[[str], str], tmp_path: Path, engine: str, accept: str
) -> None:
    url = new_migrated_url(engine)
    for user, number in (("small", 20_000), ("large", 100_000)):
        fill(url, user, number, description="A description. " * 20)
    peaks: dict[str, float] = {}
    with serving(tmp_path, **production(url)) as server:
        for user in ("small", "small", "large"):
            with download(server.url, user, accept=accept) as response:
                size = 0
                while part := response.read(1_000_000):
                    size += len(part)
            peaks[user] = _peak_megabytes(server.process.pid)
    # An export that kept its tasks would need several times as much as its own size.
    assert size > 40_000_000
    assert peaks["large"] - peaks["small"] < 5
