"""The access log: a line for each request, whole and not lost, though lines are written in batches."""

import asyncio
import logging
import sys
from pathlib import Path

import pytest

from process import production, serving
from taskwell.database.urls import parse_database_url
from taskwell.logs import FLUSH_SECONDS, MAX_WRITE_BYTES, BatchHandler
from taskwell.migrations.runner import upgrade


class Sink:
    """What stands in for standard error, and remembers each write."""

    def __init__(self) -> None:
        self.writes: list[str] = []

    def write(self, text: str) -> None:
        self.writes.append(text)

    def flush(self) -> None: ...


def emit(handler: BatchHandler, text: str) -> None:
    handler.emit(logging.makeLogRecord({"msg": text}))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_was_answered_is_in_the_log_when_the_service_ends(workers: int, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/taskwell.db"
    upgrade(parse_database_url(url))
    with serving(tmp_path, "serve", "--workers", str(workers), **production(url)) as server:
        ids = [server.http.get("/health").headers["x-request-id"] for _ in range(20)]
        assert server.end() == 0
        log = server.log.read_text()
    assert [request_id for request_id in ids if f"request_id={request_id} GET /health 200" not in log] == []


def test_writes_are_of_whole_lines_and_small_enough_not_to_be_torn(monkeypatch: pytest.MonkeyPatch) -> None:
    sink, handler = Sink(), BatchHandler()
    monkeypatch.setattr(sys, "stderr", sink)

    async def log() -> None:
        for number in range(1000):
            emit(handler, f"{number} {'x' * 50}")
        assert sink.writes == []
        await asyncio.sleep(2 * FLUSH_SECONDS)

    for _ in range(2):  # another loop is another beginning
        sink.writes.clear()
        asyncio.run(log())
        assert "".join(sink.writes).splitlines() == [f"{number} {'x' * 50}" for number in range(1000)]
        assert all(text.endswith("\n") and len(text) <= MAX_WRITE_BYTES for text in sink.writes)
        assert len(sink.writes) < 20


def test_without_a_loop_lines_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = Sink()
    monkeypatch.setattr(sys, "stderr", sink)
    emit(BatchHandler(), "a line")
    assert sink.writes == ["a line\n"]


def test_a_closed_standard_error_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    emit(BatchHandler(), "a line")
