"""Fetching and caching the key set: a slow, broken or hostile auth server does no harm and is not fetched from too often."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_network

import httpx2
import pytest

import taskwell
from support.auth_server import AuthServer, Behaviour, body, key_set
from support.service import running
from support.tokens import jwk, private_key
from taskwell.app import keys_from
from taskwell.auth import addresses
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
    """A fake network: counts fetches, fails on request, and has a clock that a test controls."""

    def __init__(self, *keys: object) -> None:
        self.now = 1000.0
        self.fetches = 0
        self.wait: Awaitable[object] | None = None
        self.publish(*keys)

    def publish(self, *keys: object) -> None:
        self.reply: bytes | Exception = json.dumps({"keys": keys}).encode()

    def fail(self) -> None:
        self.reply = FetchFailed("the auth server is down")

    async def __call__(self) -> bytes:
        self.fetches += 1
        if self.wait:
            await self.wait
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply

    def key_set(self) -> KeySet:
        return KeySet(self, lambda: self.now)


def _run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(bounded())


def test_a_known_key_causes_no_fetch() -> None:
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


def test_a_flood_of_unknown_keys_causes_only_the_fetches_in_the_bucket() -> None:
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


def test_concurrent_callers_share_one_fetch() -> None:
    async def test() -> None:
        source = Source(OLD)
        source.wait = asyncio.sleep(0.05)
        keys = source.key_set()
        found = await asyncio.gather(*[keys.get("old") for _ in range(500)])
        assert len({id(key) for key in found}) == 1
        assert source.fetches == 1

    _run(test)


def test_a_cancelled_caller_does_not_stop_the_fetch_for_others() -> None:
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


def test_keys_are_unavailable_until_the_first_key_set_arrives() -> None:
    async def test() -> None:
        source = Source()
        source.fail()
        keys = source.key_set()
        with pytest.raises(KeysUnavailable):
            await keys.get("old")
        assert not keys.ready

    _run(test)


@pytest.mark.parametrize("failure", [FetchFailed("down"), b"<html>", b'{"keys": []}'])
def test_keys_are_kept_for_a_day_while_fetches_fail(failure: bytes | Exception) -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        source.reply = failure
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


def test_a_withdrawn_key_is_gone_after_the_next_fetch() -> None:
    async def test() -> None:
        source = Source(OLD, NEW)
        keys = source.key_set()
        await keys.refresh()
        source.publish(NEW)
        await keys.refresh()
        assert keys.cached("old") is None
        assert keys.cached("new")

    _run(test)


def test_only_a_changed_key_is_a_new_object() -> None:
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


def test_getting_a_cached_key_causes_no_fetch() -> None:
    async def test() -> None:
        source = Source(OLD)
        keys = source.key_set()
        await keys.refresh()
        assert await keys.get("old") is keys.cached("old")
        assert source.fetches == 1

    _run(test)


def test_waiting_for_a_fetch_in_progress_takes_nothing_from_the_bucket() -> None:
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


def test_no_task_is_left_running_when_the_service_stops() -> None:
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


def test_the_log_says_why_a_fetch_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        source = Source()
        source.fail()
        await source.key_set().refresh()

    _run(test)
    (record,) = [record for record in caplog.records if record.name == "taskwell.auth"]
    assert record.levelname == "WARNING"
    assert "the auth server is down" in record.getMessage()


def test_the_key_set_is_refreshed_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_bug_in_one_refresh_does_not_stop_later_ones(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sleep = asyncio.sleep

    async def quick(seconds: float) -> None:
        del seconds
        await sleep(0)

    async def test() -> None:
        source = Source(OLD)
        source.reply = RuntimeError("a bug")
        monkeypatch.setattr(asyncio, "sleep", quick)
        async with source.key_set().kept_fresh() as keys:
            while source.fetches < 2:
                await sleep(0)
            source.publish(OLD)
            while not keys.ready:
                await sleep(0)

    _run(test)
    assert "a bug" in str(caplog.records[0].exc_info)


# --- over HTTP, with a real server


@asynccontextmanager
async def _key_set_of(server: AuthServer) -> AsyncGenerator[KeySet]:
    async with httpx2.AsyncClient() as client:
        yield KeySet(fetch_from(f"{server.origin}/api/auth/jwks", client))


def _sending_byte_by_byte(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "1000")
    request.end_headers()
    for _ in range(1000):
        request.wfile.write(b" ")
        request.wfile.flush()
        time.sleep(0.05)


def _never_replying(request: BaseHTTPRequestHandler) -> None:
    del request
    time.sleep(8)


def _closing_the_connection(request: BaseHTTPRequestHandler) -> None:
    request.connection.close()


def _padded_key_set(size: int) -> bytes:
    """A key set padded with spaces to `size` bytes."""
    return json.dumps({"keys": [OLD, NEW]}).encode().ljust(size)


def _compressing_if_accepted(request: BaseHTTPRequestHandler) -> None:
    """Compresses if the client accepts it, as many reverse proxies do."""
    accepted = request.headers.get("Accept-Encoding", "")
    content = json.dumps({"keys": [NEW]}).encode()
    reply = body(gzip.compress(content), Content_Encoding="gzip") if "gzip" in accepted else body(content)
    reply(request)


def _in_pieces(request: BaseHTTPRequestHandler) -> None:
    content = _padded_key_set(1000)
    request.send_response(200)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    for half in (content[:100], content[100:]):
        request.wfile.write(half)
        request.wfile.flush()
        time.sleep(0.05)


GZIP_BOMB = bytes.fromhex("1f8b0800000000000003") + b"\x00" * 100
BROKEN: dict[str, Behaviour] = {
    "one byte at a time": _sending_byte_by_byte,
    "no reply": _never_replying,
    "a closed connection": _closing_the_connection,
    "10 MB": body(b" " * 10_000_000),
    "one byte too many": body(_padded_key_set(MAX_BYTES + 1)),
    "a redirect": body(b"", 302, Location="/elsewhere"),
    "a permanent redirect": body(b"", 308, Location="/elsewhere"),
    "too many requests": body(_padded_key_set(1000), 429, Retry_After="10"),
    "an error": body(_padded_key_set(1000), 500),
    "no content": body(b"", 204),
    "random bytes": body(b"\x00\xff" * 100),
    "HTML": body(b"<!doctype html><title>Sign in</title>", Content_Type="text/html"),
    "compressed": body(GZIP_BOMB, Content_Encoding="gzip"),
    "a wrong content length": body(b"{}", Content_Length="1000"),
    "an empty key set": key_set(),
}


@pytest.mark.parametrize("behaviour", BROKEN.values(), ids=BROKEN.keys())
def test_known_keys_keep_working_while_the_auth_server_is_broken(behaviour: Behaviour) -> None:
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
    "64 KiB": body(_padded_key_set(MAX_BYTES)),
    "in pieces": _in_pieces,
    "compression if accepted": _compressing_if_accepted,
}


@pytest.mark.parametrize("behaviour", WORKING.values(), ids=WORKING.keys())
def test_a_reply_may_be_64_kib_or_come_in_pieces_or_offer_compression(behaviour: Behaviour) -> None:
    async def test() -> None:
        with AuthServer(behaviour) as server:
            async with _key_set_of(server) as keys:
                assert await keys.get("new")

    _run(test)


def test_an_unusable_url_is_a_failed_fetch() -> None:
    async def test() -> None:
        async with httpx2.AsyncClient() as client:
            with pytest.raises(FetchFailed, match=r"http://\[::1\]x/jwks: InvalidURL"):
                await fetch_from("http://[::1]x/jwks", client)()

    _run(test)


def test_keys_from_this_machine_are_not_fetched_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        with AuthServer(key_set(OLD)) as server, AuthServer(key_set(NEW)) as proxy:
            for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
                monkeypatch.setenv(name, proxy.origin)
            settings = Settings.read({"DATABASE_URL": "sqlite:///never-opened.db", "BETTER_AUTH_URL": server.origin})
            keys, resources = keys_from(settings)
            async with AsyncExitStack() as stack:
                for resource in resources:
                    await stack.enter_async_context(resource)
                assert await keys.get("old")
        assert proxy.requests == []

    _run(test)


def test_the_key_set_is_fetched_under_the_name_and_version_of_the_service() -> None:
    async def test() -> None:
        with AuthServer(key_set(OLD)) as server:
            async with _key_set_of(server) as keys:
                await keys.refresh()
        assert server.user_agents == [f"taskwell/{taskwell.__version__}"]

    _run(test)


def test_plain_http_from_an_address_that_is_not_private_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        with AuthServer(key_set(OLD)) as server:
            async with httpx2.AsyncClient() as client:
                fetch = fetch_from(server.origin, client)
                assert await fetch()
                # No address on this machine is public, so the test makes one that is.
                monkeypatch.setattr(addresses, "_PRIVATE_NETWORKS", (ip_network("10.0.0.0/8"),))
                with pytest.raises(
                    FetchFailed, match=r"is plain http from 127\.0\.0\.1, which is not a private address"
                ):
                    await fetch()

    _run(test)


def test_a_host_that_the_operator_names_may_have_its_key_set_on_plain_http(
    new_database_url: Callable[[str], str],
) -> None:
    # This address is loopback, but not one of the names of this machine that need no setting.
    with AuthServer(key_set(NEW), "127.0.0.2") as server:
        settings = {
            "BETTER_AUTH_URL": "https://app.example",
            "JWT_JWKS_URL": f"{server.origin}/api/auth/jwks",
            "TASKWELL_ALLOW_HTTP_KEY_SET": "127.0.0.2",
            "BETTER_AUTH_SECRET": "",
        }
        with running("sqlite", DATABASE_URL=new_database_url("sqlite"), **settings) as service:  # type: ignore[arg-type]
            for _ in range(50):
                if service.http.get("/health/ready").status_code == 200:
                    break
                time.sleep(0.1)
            assert service.http.get("/health/ready").status_code == 200
        assert server.requests == ["/api/auth/jwks"]


PRIVATE = [
    "127.0.0.1", "127.8.9.10", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.1.5", "100.64.0.1",
    "::1", "fc00::1", "fd12:3456::1", "::ffff:10.0.0.1",
]  # fmt: skip
NOT_PRIVATE = [
    "8.8.8.8", "172.15.0.1", "172.32.0.1", "192.169.0.1", "100.63.255.255", "100.128.0.1", "169.254.169.254", "0.0.0.1",
    "255.255.255.255", "224.0.0.1", "2001:db8::1", "2606:4700::1111", "fe80::1", "::", "::ffff:8.8.8.8", "64:ff9b::a00:1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("address", "private"), [*((one, True) for one in PRIVATE), *((one, False) for one in NOT_PRIVATE)]
)
def test_only_private_and_loopback_addresses_count_as_private(address: str, *, private: bool) -> None:
    assert addresses.is_private(address) is private


def test_startup_does_not_wait_for_an_auth_server_that_is_down() -> None:
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
