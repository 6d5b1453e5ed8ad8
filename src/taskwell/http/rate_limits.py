"""Rate limits: for the requests of each user, and for failures to authenticate from each client address.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10. This module runs only when a limit is set.
"""

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from ipaddress import IPv6Address, IPv6Network
from typing import Protocol

from starlette.requests import Request
from starlette.types import Message, Scope, Send

from taskwell.errors import AuthInvalid, AuthMissing, RateLimited
from taskwell.http.forwarded import parse_address
from taskwell.http.limits import Tally
from taskwell.http.rates import Rate
from taskwell.telemetry.requests import client_of

_IPV6_PREFIX = 64


class Counter(Protocol):
    """Counts by key. See `taskwell.http.rate_counters`."""

    async def incr(self, key: str, expiry: int, amount: int = 1) -> int | None:
        """Adds `amount` to the count of `key`, which expires `expiry` seconds after its first use.

        Returns the count, or None if it cannot count now.
        """
        ...


@dataclass(slots=True)
class Use:
    """A request's use of a limit."""

    limit: "RateLimit"
    key: str
    count: int
    seconds_left: int

    @property
    def is_too_much(self) -> bool:
        """Whether the limit was used up before this request."""
        return self.count > self.limit.rate.amount

    @property
    def headers(self) -> Mapping[str, str]:
        """The response headers that tell what the limit is and what is left of it."""
        name, rate = self.limit.name, self.limit.rate
        return {
            "RateLimit-Policy": f'"{name}";q={rate.amount};w={rate.seconds}',
            "RateLimit": f'"{name}";r={max(rate.amount - self.count, 0)};t={self.seconds_left}',
        }

    async def give_back(self) -> None:
        """Undoes the count of this request."""
        self.count -= 1
        await self.limit.counter.incr(self.key, self.limit.rate.seconds, -1)

    def refusal(self) -> RateLimited:
        """Counts the refusal for the log, and returns the error."""
        self.limit.refused.add()
        return RateLimited(self.limit.detail, headers={"Retry-After": str(self.seconds_left), **self.headers})


class RateLimit:
    """A limit that applies to each key separately. `name` is the name of its policy in the headers."""

    def __init__(self, name: str, rate: Rate, counter: Counter, *, detail: str, log_line: str) -> None:
        self.name = name
        self.rate = rate
        self.counter = counter
        self.detail = detail
        self.refused = Tally(logging.INFO, log_line, rate)

    async def use(self, key: str) -> Use | None:
        """Counts a request for `key`. Returns None if it cannot be counted now; then it is not limited."""
        # A fixed window, such as one second or one hour of the clock. One round trip counts the request and tells what
        # is left; the clock tells for how long. The sliding windows of `limits` need two round trips for that. The
        # price of a fixed window: around its end, up to twice the amount may pass.
        window, elapsed = divmod(time.time(), self.rate.seconds)
        key = f"{self.name}/{key}/{self.rate.seconds}/{window:.0f}"
        count = await self.counter.incr(key, self.rate.seconds)
        return None if count is None else Use(self, key, count, math.ceil(self.rate.seconds - elapsed))


class RateLimits:
    """The limits of the service. `users` counts requests of each user, `failures` counts 401s of each address."""

    def __init__(self, users: RateLimit | None, failures: RateLimit | None) -> None:
        self._users = users
        self._failures = failures
        self.limits = [limit for limit in (users, failures) if limit]

    async def admit(self, authenticate: Callable[[Request], Awaitable[None]], request: Request) -> None:
        """Authenticates and counts the request. Only a 401 counts as a failure.

        A request with a valid token passes, however many requests without one come from the same address. So one
        broken client does not lock out the others behind its NAT.

        Raises:
            RateLimited: the user or the address has used up its limit.
            Problem: as `authenticate` does.
        """
        try:
            await authenticate(request)
        except (AuthMissing, AuthInvalid):
            if self._failures and (use := await self._failures.use(_network_of(request.scope))) and use.is_too_much:
                raise use.refusal() from None
            raise
        if self._users and (use := await self._users.use(request.scope["state"]["owner"])):
            if use.is_too_much:
                raise use.refusal()
            request.scope["state"]["rate_limit_use"] = use

    @staticmethod
    def report(scope: Scope, send: Send) -> Send:
        """Returns a `send` that tells the user what is left. A 304 is not counted."""
        use: Use | None = scope["state"].get("rate_limit_use")
        if use is None:
            return send

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                if message["status"] == HTTPStatus.NOT_MODIFIED:
                    await use.give_back()
                headers = [(name.lower().encode(), value.encode()) for name, value in use.headers.items()]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        return send_with_headers


def user_limit(rate: Rate, counter: Counter) -> RateLimit:
    """Returns the limit for the requests of each user."""
    return RateLimit(
        "user",
        rate,
        counter,
        detail=f"Too many requests: a user may send {rate}. Wait for the number of seconds in Retry-After.",
        log_line="refused %d requests of users above the rate limit of %s",
    )


def failure_limit(rate: Rate, counter: Counter) -> RateLimit:
    """Returns the limit for failures to authenticate from each client address."""
    return RateLimit(
        "auth-failure",
        rate,
        counter,
        detail="Too many requests without a valid token came from this address. Send a valid token, or wait for the "
        "number of seconds in Retry-After.",
        log_line="refused %d requests without a valid token, from addresses above the limit of %s",
    )


def _network_of(scope: Scope) -> str:
    """Returns the client's address, or its /64 if it is IPv6: the smallest network that a customer gets (RFC 6177)."""
    client = client_of(scope)
    try:
        address = parse_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, IPv6Address):
        return str(IPv6Network((address, _IPV6_PREFIX), strict=False))
    return str(address)
