"""The auth server's key set is at hand, however slow, broken or hostile the server is, and is fetched no oftener than need be."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler

import httpx2
import pytest

from support.auth_server import AuthServer, Behaviour, body, key_set
from support.tokens import jwk, private_key
from taskwell.app import open_keys
from taskwell.auth.jwks_client import (
    BUCKET_SECONDS,
    BUCKET_SIZE,
    KEEP_SECONDS,
    MAX_BYTES,
    REFRESH_SECONDS,
    FetchFailed,
    KeySet,
    fetch_from,
)
from taskwell.auth.keys import KeysUnavailable, UnknownKey
from taskwell.settings import Settings

OLD, NEW = (jwk(private_key("EdDSA"), kid=kid) for kid in ("old", "new"))


class Source:
    """A key set that can be counted and broken, and the clock it is read by."""

    def __init__(self, *keys: object) -> None:
        self.now = 1000.0
        self.fetches = 0
        self.wait: Awaitable[object] | None = None
        self.publish(*keys)

    def publish(self, *keys: object) -> None:
        self.answer: bytes | Exception = json.dumps({"keys": keys}).encode()

    def fail(self) -> None:
        self.answer = FetchFailed("the auth server is down")

    async def __call__(self) -> bytes:
        self.fetches += 1
        if self.wait:
            await self.wait
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def key_set(self) -> KeySet:
        return KeySet(self, lambda: self.now)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def test_a_known_key_costs_no_fetch() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        for _ in range(100):
            assert keys.cached("old")
        assert source.fetches == 1

    _run(test)


def test_the_first_token_after_a_rotation_is_accepted() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        source.publish(OLD, NEW)
        assert keys.cached("new") is None
        assert (await keys.get("new")).material

    _run(test)


def test_a_flood_of_unknown_keys_empties_the_bucket_and_no_more() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        for seconds in (0, BUCKET_SECONDS, 10 * BUCKET_SECONDS):
            source.now += seconds
            before = source.fetches
            for number in range(1000):
                with pytest.raises(UnknownKey):
                    await keys.get(f"unknown {number}")
            assert source.fetches - before == min(BUCKET_SIZE, seconds // BUCKET_SECONDS or BUCKET_SIZE)

    _run(test)


def test_many_who_wait_share_one_fetch() -> None:
    async def test() -> None:
        source = Source(OLD)
        source.wait = asyncio.sleep(0.05)
        keys = source.key_set()
        found = await asyncio.gather(*[keys.get("old") for _ in range(500)])
        assert len({id(key) for key in found}) == 1
        assert source.fetches == 1

    _run(test)


def test_one_who_gives_up_waiting_does_not_stop_the_others() -> None:
    async def test() -> None:
        source = Source(OLD)
        source.wait = asyncio.sleep(0.05)
        keys = source.key_set()
        waiting = [asyncio.create_task(keys.get("old")) for _ in range(2)]
        await asyncio.sleep(0.01)
        waiting[0].cancel()
        assert await waiting[1]
        assert source.fetches == 1

    _run(test)


def test_before_any_key_set_came_there_is_no_telling() -> None:
    async def test() -> None:
        source = Source()
        source.fail()
        keys = source.key_set()
        with pytest.raises(KeysUnavailable):
            await keys.get("old")
        assert not keys.ready

    _run(test)


@pytest.mark.parametrize("failure", [FetchFailed("down"), b"<html>", b'{"keys": []}'])
def test_a_failure_keeps_the_keys_for_a_day(failure: bytes | Exception) -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        source.answer = failure
        source.now += KEEP_SECONDS - 1
        await keys.refresh()
        assert keys.cached("old")
        with pytest.raises(UnknownKey):
            await keys.get("new")
        source.now += 2
        assert keys.cached("old") is None
        with pytest.raises(KeysUnavailable):
            await keys.get("old")

    _run(test)


def test_a_key_that_was_withdrawn_is_gone_with_the_next_fetch() -> None:
    async def test() -> None:
        source = Source(OLD, NEW)
        keys = source.key_set()
        await keys.refresh()
        source.publish(NEW)
        await keys.refresh()
        assert keys.cached("old") is None
        assert keys.cached("new")

    _run(test)


def test_a_key_that_has_not_changed_is_the_same_object_and_a_changed_one_is_not() -> None:
    async def test() -> None:
        source = Source(OLD, NEW)
        keys = source.key_set()
        await keys.refresh()
        old, new = keys.cached("old"), keys.cached("new")
        source.publish(OLD, jwk(private_key("EdDSA"), kid="new"))
        await keys.refresh()
        assert keys.cached("old") is old
        assert keys.cached("new") is not new

    _run(test)


def test_a_token_without_a_kid_causes_no_fetch() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        with pytest.raises(UnknownKey):
            await keys.get(None)
        assert source.fetches == 1

    _run(test)


def test_who_asks_for_a_key_that_is_at_hand_causes_no_fetch() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        assert await keys.get("old") is keys.cached("old")
        assert source.fetches == 1

    _run(test)


def test_a_fetch_that_others_wait_for_costs_nothing_of_the_bucket() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        for _ in range(BUCKET_SIZE):
            source.wait = asyncio.sleep(0.01)
            await asyncio.gather(*[keys.get("new") for _ in range(10)], return_exceptions=True)
        source.wait = None
        assert source.fetches == 1 + BUCKET_SIZE

    _run(test)


def test_nothing_is_left_running_when_the_service_stops() -> None:
    async def test() -> None:
        source = Source(OLD)
        asked = asyncio.Event()

        async def hang() -> None:
            asked.set()
            await asyncio.Event().wait()

        source.wait = hang()
        async with source.key_set().kept_fresh():
            await asked.wait()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    _run(test)


def test_why_the_key_set_cannot_be_had_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        source = Source()
        source.fail()
        await source.key_set().refresh()

    _run(test)
    (record,) = [record for record in caplog.records if record.name == "taskwell.auth"]
    assert record.levelname == "WARNING"
    assert "the auth server is down" in record.getMessage()


def test_it_is_refreshed_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    sleep = asyncio.sleep

    async def quick(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    async def test() -> None:
        source = Source(OLD)
        monkeypatch.setattr(asyncio, "sleep", quick)
        async with source.key_set().kept_fresh() as keys:
            while source.fetches < 3:
                source.now += 1
                await sleep(0)
            assert keys.ready
            source.fail()
            before, fetches = len(slept), source.fetches
            while source.fetches < fetches + 2:
                await sleep(0)
        assert all(0.8 * REFRESH_SECONDS <= seconds <= 1.2 * REFRESH_SECONDS for seconds in slept[: before - 1])
        assert slept[-1] < 10

    _run(test)


def test_a_bug_in_one_refresh_does_not_end_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sleep = asyncio.sleep

    async def quick(seconds: float) -> None:
        del seconds
        await sleep(0)

    async def test() -> None:
        source = Source(OLD)
        source.answer = RuntimeError("a bug")
        monkeypatch.setattr(asyncio, "sleep", quick)
        async with source.key_set().kept_fresh() as keys:
            while source.fetches < 2:
                await sleep(0)
            source.publish(OLD)
            while not keys.ready:
                await sleep(0)

    _run(test)
    assert "a bug" in str(caplog.records[0].exc_info)


# --- a real server, over HTTP


@asynccontextmanager
async def _key_set_of(server: AuthServer) -> AsyncGenerator[KeySet]:
    async with httpx2.AsyncClient() as client:
        yield KeySet(fetch_from(f"{server.origin}/api/auth/jwks", client))


def _dripping(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(1000):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def _hanging(request: BaseHTTPRequestHandler) -> None:
    del request
    time.sleep(8)


def _hanging_up(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


def _with_blanks(size: int) -> bytes:
    """A key set, blown up to `size` bytes."""
    return json.dumps({"keys": [OLD, NEW]}).encode().ljust(size)


def _compressing(request: BaseHTTPRequestHandler) -> None:
    """As servers do that stand before others."""
    accepted = request.headers.get("Accept-Encoding", "")
    content = json.dumps({"keys": [NEW]}).encode()
    answer = body(gzip.compress(content), Content_Encoding="gzip") if "gzip" in accepted else body(content)
    answer(request)


def _in_pieces(request: BaseHTTPRequestHandler) -> None:
    content = _with_blanks(1000)
    request.send_response(200)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    for half in (content[:100], content[100:]):
        request.wfile.write(half)
        request.wfile.flush()
        time.sleep(0.05)


GZIP_BOMB = bytes.fromhex("1f8b0800000000000003") + b"\x00" * 100
BROKEN: dict[str, Behaviour] = {
    "dripping": _dripping,
    "hanging": _hanging,
    "hanging up": _hanging_up,
    "10 MB": body(b" " * 10_000_000),
    "just too much": body(_with_blanks(MAX_BYTES + 1)),
    "a redirect": body(b"", 302, Location="/elsewhere"),
    "a permanent redirect": body(b"", 308, Location="/elsewhere"),
    "too many requests": body(_with_blanks(1000), 429, Retry_After="10"),
    "an error": body(_with_blanks(1000), 500),
    "no content": body(b"", 204),
    "junk": body(b"\x00\xff" * 100),
    "HTML": body(b"<!doctype html><title>Sign in</title>", Content_Type="text/html"),
    "compressed": body(GZIP_BOMB, Content_Encoding="gzip"),
    "a length that lies": body(b"{}", Content_Length="1000"),
    "an empty set": key_set(),
}


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_auth_server_changes_nothing_for_known_users(behaviour: Behaviour) -> None:
    async def test() -> None:
        with AuthServer(key_set(OLD)) as server:
            async with _key_set_of(server) as keys:
                await keys.refresh()
                server.behaviour = behaviour
                started = time.monotonic()
                with pytest.raises(UnknownKey):
                    await keys.get("new")
                assert time.monotonic() - started < 6
                assert keys.cached("old")
                assert len(server.requests) == 2
                server.behaviour = key_set(OLD, NEW)
                assert await keys.get("new")

    _run(test)


WORKING: dict[str, Behaviour] = {
    "64 KiB": body(_with_blanks(MAX_BYTES)),
    "in pieces": _in_pieces,
    "compressing where it may": _compressing,
}


@pytest.mark.parametrize("behaviour", WORKING.values(), ids=WORKING.keys())
def test_an_auth_server_may_answer_at_length_in_pieces_or_compress(behaviour: Behaviour) -> None:
    async def test() -> None:
        with AuthServer(behaviour) as server:
            async with _key_set_of(server) as keys:
                assert await keys.get("new")

    _run(test)


def test_an_address_that_no_client_can_ask_is_a_failure_like_any_other() -> None:
    async def test() -> None:
        async with httpx2.AsyncClient() as client:
            with pytest.raises(FetchFailed, match=r"http://\[::1\]x/jwks: InvalidURL"):
                await fetch_from("http://[::1]x/jwks", client)()

    _run(test)


def test_keys_of_this_machine_do_not_come_by_way_of_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        with AuthServer(key_set(OLD)) as server, AuthServer(key_set(NEW)) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.origin)
            settings = Settings.read({"DATABASE_URL": "sqlite:///never-opened.db", "BETTER_AUTH_URL": server.origin})
            async with open_keys(settings) as keys:
                assert await keys.get("old")
        assert proxy.requests == []

    _run(test)


def test_a_server_that_is_down_at_the_start_is_waited_for_by_nobody() -> None:
    async def test() -> None:
        with AuthServer(key_set(OLD)) as server:
            origin = server.origin
        async with httpx2.AsyncClient() as client:
            source = KeySet(fetch_from(f"{origin}/api/auth/jwks", client))
            started = time.monotonic()
            async with source.kept_fresh() as keys:
                assert time.monotonic() - started < 0.5
                with pytest.raises(KeysUnavailable):
                    await keys.get("old")

    _run(test)
