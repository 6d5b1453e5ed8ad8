"""A stop of the service loses no request that it accepted."""

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.proc import IS_THERE, has_ended, workers_of
from support.process import production, serving
from support.service import sign

TOKEN = sign("alice")
KEPT, NEW = 20, 10
PAUSE_SECONDS = 0.03

# For a machine that other tests keep busy.
SLACK = 2


def _request(*headers: str) -> bytes:
    body = '{"title":"a"}'
    lines = [
        "POST /api/alice/tasks HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    return "\r\n".join([*lines, "", body]).encode()


class Clients:
    """Clients that send requests until the service refuses connections, and count the outcomes."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname, address.port
        self.outcomes = Counter[str]()

    async def run(self, stop: Callable[[], None]) -> None:
        """Calls `stop` after half a second of requests."""
        async with asyncio.TaskGroup() as clients:
            for number in range(KEPT):
                clients.create_task(self._repeat(keep_alive=True, pauses=number % 2 == 0))
            for _ in range(NEW):
                clients.create_task(self._repeat(keep_alive=False, pauses=False))
            await asyncio.sleep(0.5)
            stop()

    async def _repeat(self, *, keep_alive: bool, pauses: bool) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
            except (ConnectionRefusedError, ConnectionResetError):
                # Refused; or reset, because the service stopped listening before it accepted. Nothing was sent.
                return
            try:
                await self._use(reader, writer, keep_alive=keep_alive, pauses=pauses)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                self.outcomes[f"lost: {type(error).__name__}"] += 1
                return
            finally:
                writer.close()

    async def _use(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keep_alive: bool, pauses: bool
    ) -> None:
        closes = False
        while not closes:
            if pauses:
                await asyncio.sleep(random.random() * PAUSE_SECONDS)  # noqa: S311 - nothing is guarded by it
            writer.write(_request() if keep_alive else _request("Connection: close"))
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0]))
            self.outcomes[head[9:12].decode()] += 1
            closes = b"connection: close" in head


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_loses_no_request_that_was_accepted(
    new_migrated_url: Callable[[str], str], tmp_path: Path, workers: str
) -> None:
    settings = production(new_migrated_url("sqlite")) | {"TASKWELL_MAX_IN_FLIGHT": "100"}
    for _ in range(3):
        with serving(tmp_path, "serve", "--workers", workers, **settings) as server:
            clients = Clients(server.url)
            asyncio.run(clients.run(stop=lambda: server.process.send_signal(signal.SIGTERM)))
            assert server.process.wait(10) == 0
            assert clients.outcomes.keys() == {"201"}
            assert "Traceback" not in server.log.read_text()


@pytest.mark.skipif(not IS_THERE, reason="needs Linux's /proc to find the worker processes")
def test_worker_processes_end_within_two_seconds_of_a_kill_of_their_parent(
    new_migrated_url: Callable[[str], str], tmp_path: Path
) -> None:
    with serving(tmp_path, "serve", "--workers", "2", **production(new_migrated_url("sqlite"))) as server:
        # This leaves an idle connection, which is not a reason to stay.
        assert server.client("alice").create()
        workers = workers_of(server.process.pid)
        assert len(workers) == 2
        server.process.kill()
        killed = time.monotonic()
        while not all(map(has_ended, workers)):
            assert time.monotonic() - killed < 2 + SLACK
            time.sleep(0.02)


@pytest.mark.skipif(not IS_THERE, reason="needs Linux's /proc to find the worker processes")
def test_a_worker_process_that_dies_is_replaced(new_migrated_url: Callable[[str], str], tmp_path: Path) -> None:
    with serving(tmp_path, "serve", "--workers", "2", **production(new_migrated_url("sqlite"))) as server:
        for worker in workers_of(server.process.pid):
            os.kill(int(worker.name), signal.SIGKILL)
        deadline = time.monotonic() + 20
        while server.log.read_text().count("starting another") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server.client("alice").create()
        assert server.end() == 0
