"""The auth server's key set, kept at hand.

Fetched in the background and when a token names a key that is not there, which the first token after a rotation always
does. A token is made by anybody, so what it can cause is bounded: one fetch at a time, from a small bucket, never waited
for longer than four seconds, and nothing that comes back is trusted to be small, quick or a key set.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import httpx2

from taskwell.auth.jwks import InvalidKeySet, parse_key_set
from taskwell.auth.keys import Key, KeysUnavailable, UnknownKey

logger = logging.getLogger("taskwell.auth")

FETCH_SECONDS = 4
MAX_BYTES = 64 * 1024
REFRESH_SECONDS = 300
RETRY_SECONDS = 5
KEEP_SECONDS = 24 * 3600
BUCKET_SIZE = 3
BUCKET_SECONDS = 5

# Plain HTTP is for this machine only (`check_url`), so it takes no way round by a proxy that the environment names.
DIRECTLY = {"http://": None}

Fetch = Callable[[], Awaitable[bytes]]
Clock = Callable[[], float]


class FetchFailed(Exception):
    """The key set cannot be had; the message says why, the name of the class for short."""


class KeySet:
    """A cached key set. Success replaces it; failure keeps it, for a day at most."""

    def __init__(self, fetch: Fetch, clock: Clock = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._bucket = Bucket(BUCKET_SIZE, BUCKET_SECONDS, clock)

    @property
    def ready(self) -> bool:
        """Whether there is a key set, and not one of yesterday."""
        return self._fetched_at is not None and self._clock() - self._fetched_at < KEEP_SECONDS

    def find(self, kid: str | None) -> Key | None:
        """The key called `kid`, if it is at hand."""
        return self._keys.get(kid) if kid is not None and self.ready else None

    async def seek(self, kid: str | None) -> Key:
        """The key called `kid`, fetched if the bucket allows.

        Raises:
            UnknownKey: the key set does not have it.
            KeysUnavailable: there is no key set.
        """
        if key := self.find(kid):
            return key
        if kid is not None and (self._fetching or self._bucket.take()):
            await self.refresh()
        if key := self.find(kid):
            return key
        if not self.ready:
            raise KeysUnavailable
        raise UnknownKey

    async def refresh(self) -> None:
        """Fetches the key set, or waits for the fetch that is under way. Whoever gives up waiting does not stop it."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._replace())
            self._fetching.add_done_callback(self._done)
        await asyncio.shield(self._fetching)

    def _done(self, task: "asyncio.Task[None]") -> None:
        del task
        self._fetching = None

    async def _replace(self) -> None:
        try:
            fetched = parse_key_set(await self._fetch())
        except (FetchFailed, InvalidKeySet) as error:
            logger.warning("the key set cannot be had: %s", error)
            return
        self._keys = {kid: self._same_or(kid, key) for kid, key in fetched.items()}
        self._fetched_at = self._clock()

    def _same_or(self, kid: str, key: Key) -> Key:
        """The key of old where it has not changed, so that tokens verified with it stay verified."""
        old = self._keys.get(kid)
        return old if old and old == key else key

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncGenerator["KeySet"]:
        """Refreshes in the background while the context is entered. Entering does not wait for the auth server."""
        refreshing = asyncio.create_task(self._refresh_forever())
        try:
            yield self
        finally:
            for task in (refreshing, self._fetching):
                if task:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    async def _refresh_forever(self) -> None:
        while True:
            before = self._fetched_at
            try:
                await self.refresh()
            except Exception:
                # A bug, but no reason to live on yesterday's keys.
                logger.exception("the key set cannot be refreshed")
            # Spread out, so that the processes of a deployment do not ask all at once.
            seconds = REFRESH_SECONDS if self._fetched_at != before else RETRY_SECONDS
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - no secret hangs on it


class Bucket:
    """A token bucket: `size` at once, then one each `seconds`."""

    def __init__(self, size: int, seconds: float, clock: Clock) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._level = float(size)
        self._filled_at = clock()

    def take(self) -> bool:
        """Takes one, if there is one."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled_at) / self._seconds)
        self._filled_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


def fetch_from(url: str, client: httpx2.AsyncClient) -> Fetch:
    """How the key set at `url` is fetched: without redirects, within four seconds, 64 KiB at most."""

    async def fetch() -> bytes:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await _get(client, url)
        except TimeoutError:
            raise FetchFailed(f"{url} did not answer within {FETCH_SECONDS} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise FetchFailed(f"{url}: {type(error).__name__} {error}") from None

    return fetch


async def _get(client: httpx2.AsyncClient, url: str) -> bytes:
    # Uncompressed, so that what is counted is what came: a kilobyte of gzip can hold a megabyte.
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    async with client.stream("GET", url, headers=headers, follow_redirects=False) as answer:
        if answer.status_code != HTTPStatus.OK:
            raise FetchFailed(f"{url} answered with status {answer.status_code}")
        body = b""
        async for chunk in answer.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise FetchFailed(f"{url} answered with more than {MAX_BYTES} bytes")
        return body
