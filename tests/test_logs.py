"""The access log: one complete line for each request, although lines are written in batches."""

import asyncio
import logging
import re
from pathlib import Path

import pytest

from support.process import production, serving
from taskwell.database.urls import parse_database_url
from taskwell.migrations.runner import upgrade
from taskwell.telemetry.access_log import FLUSH_SECONDS, MAX_WRITE_BYTES, AccessLog

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO taskwell.access "
    r"request_id=\S+ client=\S+ [A-Z]+ \S+ \d{3} \d+\.\dms"
)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_request_is_in_the_log_when_the_service_has_stopped(workers: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/taskwell.db"
    upgrade(parse_database_url(url))
    with serving(tmp_path, "serve", "--workers", str(workers), **production(url)) as server:
        ids = [server.http.get("/health").headers["x-request-id"] for _ in range(20)]
        assert server.end() == 0
        lines = [line for line in server.log.read_text().splitlines() if "taskwell.access" in line]
    assert [
        request_id
        for request_id in ids
        if f"request_id={request_id} client=127.0.0.1 GET /health 200" not in "\n".join(lines)
    ] == []
    assert [line for line in lines if not LINE.fullmatch(line)] == []


def test_above_the_level_info_there_is_no_access_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    access_log = AccessLog()
    access_log.note("an-id", "192.0.2.1", "GET", b"/", 200, 0.001)
    caplog.set_level(logging.INFO)
    access_log.flush()
    assert caplog.messages == []


def test_each_write_has_whole_lines_and_fits_into_a_pipe(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def log() -> None:
        access_log = AccessLog()
        for number in range(1000):
            access_log.note(f"id-{number}", "192.0.2.1", "GET", b"/" + b"x" * 50, 200, 0.0015)
        assert caplog.messages == []
        await asyncio.sleep(2 * FLUSH_SECONDS)
        assert len(caplog.messages) < 50
        access_log.note("the-next", "192.0.2.1", "GET", b"/", 200, 1)
        await asyncio.sleep(2 * FLUSH_SECONDS)

    asyncio.run(log())
    assert all(len(written) < MAX_WRITE_BYTES for written in caplog.messages)
    *lines, last = "\n".join(caplog.messages).splitlines()
    assert [line.partition("request_id=")[2] for line in lines] == [
        f"id-{number} client=192.0.2.1 GET /{'x' * 50} 200 1.5ms" for number in range(1000)
    ]
    assert "the-next" in last
