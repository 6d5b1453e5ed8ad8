"""Responses that are sent while they are produced. They hold no in-flight slot and, between parts, no connection."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, aclosing
from typing import Annotated, TypedDict

from fastapi import Depends
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskwell.auth.tokens import UserId
from taskwell.errors import LoadShed, Problem, RateLimited
from taskwell.http.error_responses import MAX_LOGGED_CAUSE, printable
from taskwell.http.limits import Tally
from taskwell.state import FromState
from taskwell.telemetry.requests import name_of

RETRY_SECONDS = 5

Produce = Callable[[Receive], AsyncGenerator[bytes]]
"""Produces the parts of a body. It may `receive` the message that the client has gone or the service is stopping."""

logger = logging.getLogger("taskwell.problems")


class BrokenStreamError(Exception):
    """A body ends before it is complete. The server closes the connection, so that the client can tell."""


class StreamLimits:
    """Keeps at most `maximum` streams open in this process, and at most `per_user` of one user."""

    def __init__(self, maximum: int, per_user: int) -> None:
        self._maximum = maximum
        self._per_user = per_user
        self._open: Counter[UserId] = Counter()
        self.shed = Tally(logging.WARNING, "shed %d streams: %d were open, the maximum", maximum)
        self.refused = Tally(logging.INFO, "refused %d streams of users who had %d open, the maximum", per_user)

    def __len__(self) -> int:
        """Returns the number of open streams."""
        return self._open.total()

    def take(self, owner: UserId) -> AbstractContextManager[object]:
        """Counts a stream of the owner until the returned context is left.

        Raises:
            RateLimited: the owner has too many streams open.
            LoadShed: the process has too many streams open.
        """
        if self._open[owner] >= self._per_user:
            self.refused.add()
            raise too_many_streams(self._per_user)
        if len(self) >= self._maximum:
            self.shed.add()
            raise LoadShed
        self._open[owner] += 1
        slot = ExitStack()
        slot.callback(self._give_back, owner)
        return slot

    def _give_back(self, owner: UserId) -> None:
        self._open[owner] -= 1
        if not self._open[owner]:
            del self._open[owner]


def too_many_streams(maximum: int) -> RateLimited:
    """Returns the problem for a stream of a user who has `maximum` streams open."""
    return RateLimited(
        f"A user may have {maximum} streams open. Close one, or wait until one has ended.",
        headers={"Retry-After": str(RETRY_SECONDS)},
    )


class State(TypedDict):
    """The part of the lifespan's state that the functions of streams need."""

    streams: StreamLimits


Streams = Annotated[StreamLimits, Depends(FromState("streams"))]


class Stream(Response):
    """A response whose parts are sent as `produce` yields them; the next one when the client has room for it.

    `slot`, of `StreamLimits.take`, is given back at the end, also if the client goes away. Return the stream without an
    `await` after taking it. A `Problem` while producing ends the body early, and the client sees that it is incomplete.
    """

    def __init__(
        self,
        produce: Produce,
        slot: AbstractContextManager[object],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(None, 200, headers, media_type)
        # The length is not known.
        del self.headers["content-length"]
        self._produce = produce
        self._slot = slot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the response; for HEAD, only its headers."""
        with self._slot:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["state"].get("method") != "HEAD":
                await self._send_parts(scope, receive, send)
            await send({"type": "http.response.body", "body": b""})

    async def _send_parts(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._produce(receive)) as parts:
                async for part in parts:
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        except Problem as problem:
            _log_broken(scope, problem.cause or problem.detail)
            raise BrokenStreamError from None
        except asyncio.CancelledError:
            _log_broken(scope, "the service stops")
            raise


def _log_broken(scope: Scope, cause: str) -> None:
    logger.warning("%s: the stream broke off: %s", name_of(scope), printable(cause, MAX_LOGGED_CAUSE))
