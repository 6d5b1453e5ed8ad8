"""Fetching and caching the auth server's key set.

The key set is fetched in the background, and when a token names an unknown key. The first token after a rotation always
does. Anybody can make such a token, so the cost is bounded: one fetch at a time, a small token bucket that limits their
number, and no wait longer than four seconds. The fetch also copes with a reply that is large, slow or not a key set.
"""

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import httpx2

import taskwell
from taskwell.auth.addresses import is_private
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

# Plain http is allowed only on this machine and on private networks, so it bypasses any proxy in the environment.
DIRECTLY = {"http://": None}

Fetch = Callable[[], Awaitable[bytes]]
Clock = Callable[[], float]


class FetchFailed(Exception):
    """The key set could not be fetched. The message says why."""


class KeySet:
    """A cached key set. A successful fetch replaces it. A failed fetch keeps it, for at most 24 hours."""

    def __init__(self, fetch: Fetch, clock: Clock = time.monotonic) -> None:
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._bucket = Bucket(BUCKET_SIZE, BUCKET_SECONDS, clock)
        self.fetches = Counter[str]()
        """The number of fetches: `success` and `failure`."""

    @property
    def age_seconds(self) -> float:
        """Seconds since the key set was last fetched. Infinite if it never was."""
        return math.inf if self._fetched_at is None else self._clock() - self._fetched_at

    @property
    def ready(self) -> bool:
        """Whether a key set younger than 24 hours is cached."""
        return self._fetched_at is not None and self._clock() - self._fetched_at < KEEP_SECONDS

    def cached(self, kid: str | None) -> Key | None:
        """Returns the key with this `kid` if it is cached."""
        return self._keys.get(kid) if kid is not None and self.ready else None

    async def get(self, kid: str | None) -> Key:
        """Returns the key with this `kid`. Fetches the key set for an unknown `kid` if the token bucket allows it.

        Raises:
            UnknownKey: The key set has no key with this `kid`.
            KeysUnavailable: No key set is cached, and none could be fetched.
        """
        if key := self.cached(kid):
            return key
        if kid is not None and (self._fetching or self._bucket.take()):
            await self.refresh()
        if key := self.cached(kid):
            return key
        if not self.ready:
            raise KeysUnavailable
        raise UnknownKey

    async def refresh(self) -> None:
        """Fetches the key set, or waits for the fetch in progress. A cancelled caller does not stop the fetch."""
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
            self.fetches["failure"] += 1
            logger.warning("the key set was not updated: %s", error)
            return
        self.fetches["success"] += 1
        self._keys = {kid: self._same_or(kid, key) for kid, key in fetched.items()}
        self._fetched_at = self._clock()

    def _same_or(self, kid: str, key: Key) -> Key:
        """Returns the known object of an unchanged key, so that the cache of verified tokens stays valid."""
        known = self._keys.get(kid)
        return known if known and known == key else key

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncGenerator["KeySet"]:
        """Refreshes the key set in the background. Entering does not wait for the auth server."""
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
                # A bug must not stop later refreshes.
                logger.exception("refreshing the key set failed")
            # Random, so that the processes of a deployment do not all fetch at the same time.
            seconds = REFRESH_SECONDS if self._fetched_at != before else RETRY_SECONDS
            await asyncio.sleep(seconds * random.uniform(0.8, 1.2))  # noqa: S311 - not a secret


class Bucket:
    """A token bucket. It holds at most `size` tokens, starts full, and gains one every `seconds`."""

    def __init__(self, size: int, seconds: float, clock: Clock) -> None:
        self._size = size
        self._seconds = seconds
        self._clock = clock
        self._level = float(size)
        self._filled_at = clock()

    def take(self) -> bool:
        """Takes a token. Returns False if the bucket is empty."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._filled_at) / self._seconds)
        self._filled_at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


def fetch_from(url: str, client: httpx2.AsyncClient) -> Fetch:
    """Returns a function that fetches `url`. It follows no redirects, and takes at most 4 seconds and 64 KiB."""

    async def fetch() -> bytes:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await _get(client, url)
        except TimeoutError:
            raise FetchFailed(f"{url} did not respond within {FETCH_SECONDS} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise FetchFailed(f"{url}: {type(error).__name__} {error}") from None

    return fetch


async def _get(client: httpx2.AsyncClient, url: str) -> bytes:
    # Without compression, because a kilobyte of gzip can hold a megabyte.
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        # Firewalls refuse the default of Python's clients.
        "User-Agent": f"taskwell/{taskwell.__version__}",
    }
    async with client.stream("GET", url, headers=headers, follow_redirects=False) as response:
        if response.url.scheme == "http" and not is_private(peer := _peer(response)):
            raise FetchFailed(f"{url} is plain http from {peer}, which is not a private address; use https")
        if response.status_code != HTTPStatus.OK:
            raise FetchFailed(f"{url} responded with status {response.status_code}")
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > MAX_BYTES:
                raise FetchFailed(f"{url} responded with more than {MAX_BYTES} bytes")
        return body


def _peer(response: httpx2.Response) -> str:
    """Returns the address of the open connection. A new lookup of the name could return another one."""
    return str(response.extensions["network_stream"].get_extra_info("server_addr")[0])
