"""Rate limits that processes share through a Redis, and what happens when it is away."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import httpx2
import pytest
import redis

from support.certificates import Authority
from support.process import Server, production, serving
from support.redis import PASSWORD, Redis
from support.service import SECRET, Client, Service, running, sign

# Windows end with the UTC day, so no test sees one end.
LIMITS: dict[str, Any] = {"TASKWELL_RATE_LIMIT": "5/day", "TASKWELL_AUTH_FAILURE_LIMIT": "4/day"}
AWAY = "is away, so requests are not limited"
BACK = "is back, so requests are limited again"
WAIT_SECONDS = 10


@pytest.fixture
def storage() -> Iterator[Redis]:
    storage = Redis()
    yield storage
    storage.stop()


@pytest.fixture
def workers(storage: Redis, tmp_path: Path, new_migrated_url: Callable[[str], str]) -> Iterator[Server]:
    """Two processes that count in the same Redis."""
    settings = {**production(new_migrated_url("sqlite")), **LIMITS, "TASKWELL_RATE_LIMIT_STORAGE": storage.url}
    with serving(tmp_path, "serve", "--workers", "2", **settings) as server:
        yield server


@pytest.fixture
def service(storage: Redis, new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """A process that counts in the Redis."""
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url, **LIMITS, TASKWELL_RATE_LIMIT_STORAGE=storage.url) as service:
        yield service


def on_a_connection_each(url: str, number: int, headers: dict[str, str]) -> list[int]:
    """Sends requests on connections of their own, which the kernel spreads over the processes. Returns the statuses."""
    path = "/api/alice/tasks"

    def ask(_: int) -> int:
        return httpx2.get(url + path, headers=headers, verify=False, timeout=15).status_code

    with ThreadPoolExecutor(8) as threads:
        return sorted(threads.map(ask, range(number)))


def keys_in(storage: Redis) -> dict[str, int]:
    """Returns the keys in Redis and the seconds until they expire."""
    with redis.Redis.from_url(storage.url) as client:
        names: Any = client.keys()
        return {name.decode(): int(client.ttl(name)) for name in names}


def test_two_processes_share_one_count(workers: Server, storage: Redis) -> None:
    token = {"Authorization": f"Bearer {sign('alice')}"}
    assert on_a_connection_each(workers.url, 40, token) == [200] * 5 + [429] * 35
    assert on_a_connection_each(workers.url, 40, {}) == [401] * 4 + [429] * 36
    assert on_a_connection_each(workers.url, 1, {"Authorization": f"Bearer {sign('bob')}"}) == [403]
    keys = keys_in(storage)
    assert {re.sub(r"/\d+$", "", key) for key in keys} == {
        "taskwell:user/alice/86400", "taskwell:auth-failure/127.0.0.1/86400",
    }  # fmt: skip
    assert all(0 < seconds <= 86_400 for seconds in keys.values())
    assert workers.end() == 0
    assert "Traceback" not in workers.log.read_text()


def messages_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Returns the messages about Redis."""
    return [record.getMessage() for record in caplog.records if record.name == "taskwell.http.rate_counters"]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def says(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    """Returns whether the last message about Redis contains `text`."""
    messages = messages_of(caplog)
    return bool(messages) and text in messages[-1]


def use_up(client: Client) -> None:
    """Sends requests until the user is above the limit."""
    wait_until(lambda: client.request("GET").status_code == 429)


class Load:
    """Requests of many users, one after the other, in several threads, until the end of the context."""

    def __init__(self, service: Service) -> None:
        self.statuses: list[int] = []
        self.seconds: list[float] = []
        self._service = service
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            self.statuses.append(self._service.client().request("GET").status_code)
            self.seconds.append(time.monotonic() - started)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, number: int = 50) -> None:
        target = len(self.statuses) + number
        wait_until(lambda: len(self.statuses) >= target)


def test_requests_pass_while_redis_is_away_and_are_limited_when_it_is_back(
    service: Service, storage: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    alice = service.client()
    use_up(alice)
    with Load(service) as load:
        load.wait_for_more()
        storage.kill()
        wait_until(lambda: says(caplog, AWAY))
        assert [alice.request("GET").status_code for _ in range(20)] == [200] * 20
        load.wait_for_more()
        storage.start()
        wait_until(lambda: says(caplog, BACK))
        use_up(alice)
        load.wait_for_more()
    assert set(load.statuses) == {200}
    messages = messages_of(caplog)
    # A busy machine may add a pair.
    assert len(messages) in {2, 4}
    for away, back in zip(messages[::2], messages[1::2], strict=True):
        assert away.startswith(f"Redis at 127.0.0.1:{storage.port} {AWAY}: ")
        assert back == f"Redis at 127.0.0.1:{storage.port} {BACK}"
    assert PASSWORD not in caplog.text


def test_a_redis_that_hangs_holds_few_requests_and_not_for_long(
    service: Service, storage: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    alice = service.client()
    assert "ratelimit" in alice.request("GET").headers
    storage.send(signal.SIGSTOP)
    seconds: list[float] = []
    for _ in range(100):
        started = time.monotonic()
        answer = alice.request("GET")
        seconds.append(time.monotonic() - started)
        assert answer.status_code == 200
        assert "ratelimit" not in answer.headers
    # One waits for Redis in each second.
    assert sum(one > 0.2 for one in seconds) <= 2 + sum(seconds)
    assert [AWAY in message for message in messages_of(caplog)] == [True]
    storage.send(signal.SIGCONT)
    use_up(alice)
    assert [BACK in message for message in messages_of(caplog)] == [False, True]


def test_a_burst_of_requests_passes_a_redis_that_hangs(
    service: Service, storage: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def ask(_: int) -> int:
        return service.client().request("GET").status_code

    with ThreadPoolExecutor(40) as threads:
        assert set(threads.map(ask, range(40))) == {200}
        storage.send(signal.SIGSTOP)
        assert set(threads.map(ask, range(40))) == {200}
        assert says(caplog, AWAY)
        storage.send(signal.SIGCONT)
        use_up(service.client())
        assert set(threads.map(ask, range(40))) == {200}
    assert says(caplog, BACK)


def test_the_service_starts_and_serves_without_its_redis(
    new_database_url: Callable[[str], str], storage: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = storage.url.replace(PASSWORD, "hunter2")
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url, **LIMITS, TASKWELL_RATE_LIMIT_STORAGE=wrong) as service:
        assert [service.client().request("GET").status_code for _ in range(10)] == [200] * 10
    (message,) = messages_of(caplog)
    assert "AuthenticationError" in message
    assert "hunter2" not in caplog.text
    assert SECRET not in caplog.text


def test_redis_may_require_tls(
    new_database_url: Callable[[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority()
    trusted = tmp_path / "authority.crt"
    trusted.write_text(authority.certificate)
    storage = Redis(authority)
    try:
        for parameters, counted in ((f"?ssl_ca_certs={trusted}", True), ("?ssl_cert_reqs=none", True), ("", False)):
            given = {**LIMITS, "TASKWELL_RATE_LIMIT_STORAGE": storage.url + parameters}
            with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **given) as service:
                assert ("ratelimit" in service.client().request("GET").headers) == counted
    finally:
        storage.stop()
    (message,) = messages_of(caplog)
    assert "CERTIFICATE_VERIFY_FAILED" in message


def test_a_burst_of_requests_opens_few_connections_to_redis(service: Service, storage: Redis) -> None:
    def ask(_: int) -> int:
        return service.client().request("GET").status_code

    with ThreadPoolExecutor(60) as threads:
        assert set(threads.map(ask, range(300))) <= {200, 503}
    with redis.Redis.from_url(storage.url) as client:
        # One of them is this one.
        assert len(client.client_list()) <= 21
