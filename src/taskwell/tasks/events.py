"""The endpoint that tells a client at once what has changed: a stream of server-sent events.

The format is that of WHATWG HTML, section 9.2.
"""

import asyncio
import math
import random
from collections.abc import AsyncGenerator, Awaitable
from typing import Annotated, TypedDict

from fastapi import APIRouter, Depends, Header, Request
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Receive

from taskwell.auth.owner import Access, Owner
from taskwell.auth.tokens import UserId, Verifier
from taskwell.database.failures import within
from taskwell.http.endpoint import Endpoint
from taskwell.http.limits import REQUEST_SECONDS
from taskwell.http.streams import Stream, Streams
from taskwell.state import FromState
from taskwell.tasks import openapi
from taskwell.tasks.live import LiveChanges, Subscription, events_of, notice
from taskwell.tasks.repository import StoredChanges, TaskRepository
from taskwell.tasks.routes import Tasks
from taskwell.tasks.sync_tokens import SyncToken, state_of, token_of

HEARTBEAT_SECONDS = 15

REPLAYED_CHANGES = 100
"""Maximum number of missed changes that are read at a time."""

PART_BYTES = 32 * 1024
"""About this much is sent at a time."""

MAX_RECONNECT_MILLISECONDS = 4000
"""When the service stops, clients connect again within this time, not all at once."""


class State(TypedDict):
    """The part of the lifespan's state that this module needs."""

    live: LiveChanges
    verifier: Verifier


class EventStream:
    """The events of one stream: the missed changes, of which `page` is the first page, and then those that happen."""

    def __init__(
        self, owner: UserId, page: StoredChanges, *, tasks: TaskRepository, live: LiveChanges, access: Access
    ) -> None:
        self._owner = owner
        self._page = page
        self._tasks = tasks
        self._live = live
        self._access = access
        self._loop = asyncio.get_running_loop()
        # Times of the event loop.
        self._heartbeat_at = self._loop.time() + HEARTBEAT_SECONDS
        self._expires_at = math.inf

    async def produce(self, receive: Receive) -> AsyncGenerator[bytes]:
        """Yields the events until the token expires, the client is gone or the service stops."""
        self._expires_at = self._loop.time() + await self._access.seconds_left()
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            yield self._events_of_page()
            while not (subscription := self._join()) and not gone.done():
                if await self._is_expired():
                    yield notice("expired")
                    return
                # Lets other requests run: reading and sending a page may not have to wait for anything.
                await asyncio.sleep(0)
                self._page = await within(REQUEST_SECONDS, self._next_page())
                yield self._events_of_page()
            if subscription:
                with subscription:
                    gone.add_done_callback(lambda _: subscription.end())
                    while part := await self._next_part(subscription):
                        yield part
            if gone.done():
                yield format_sse_event(retry=random.randrange(MAX_RECONNECT_MILLISECONDS))  # noqa: S311 - no secret
        finally:
            gone.cancel()

    # --- what was missed

    def _events_of_page(self) -> bytes:
        """Returns the events of the page, and the token behind it. Drops the changes: the stream can last for hours."""
        state = self._page.state
        events = [event for _, event in events_of(self._owner, self._page.changes, state.epoch)]
        self._page = self._page._replace(changes=())
        return b"".join(events) + format_sse_event(id=token_of(self._owner, state))

    def _join(self) -> Subscription | None:
        return None if self._page.has_more else self._live.join(self._owner, self._page.state)

    def _next_page(self) -> Awaitable[StoredChanges]:
        return self._tasks.changes(self._owner, self._page.state, REPLAYED_CHANGES)

    # --- what happens

    async def _next_part(self, subscription: Subscription) -> bytes:
        """Waits for what to send next, and returns it. It is empty if the stream must end."""
        while not subscription.is_over:
            due_at = min(self._heartbeat_at, self._expires_at)
            if self._loop.time() >= due_at:
                return await self._check_token(subscription)
            if part := subscription.take(PART_BYTES):
                return part
            await subscription.wait(due_at)
        return b""

    async def _check_token(self, subscription: Subscription) -> bytes:
        """Returns a heartbeat, or the last event if the token is no longer accepted."""
        if not await self._is_expired():
            return KEEPALIVE_COMMENT
        subscription.end()
        return notice("expired")

    async def _is_expired(self) -> bool:
        """Returns whether the token has expired or, verified at each heartbeat, its key is no longer valid."""
        now = self._loop.time()
        if now >= min(self._heartbeat_at, self._expires_at):
            self._heartbeat_at = now + HEARTBEAT_SECONDS
            self._expires_at = min(self._expires_at, now + await self._access.seconds_left())
        return now >= self._expires_at


async def _disconnected(receive: Receive) -> None:
    """Waits until the client is gone. The server reports the same to every stream when it stops."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _access(request: Request) -> Access:
    state: State = request.scope["state"]
    return Access(state["verifier"], request.scope["headers"])


router = APIRouter(prefix="/api/{user_id:segment}", tags=["sync"], route_class=Endpoint)

LastEventId = Annotated[
    SyncToken,
    Header(
        alias="Last-Event-ID",
        description="The last `id` that the client has received, or `since` of a response of `/changes`. The stream begins "
        "with the changes after it. Without it, the stream begins with those from now on.",
    ),
]


@router.get(
    "/events",
    response_class=EventSourceResponse,
    responses=openapi.ON_EVENTS,
    response_description="A stream of events.",
)
async def stream_events(
    owner: Owner,
    tasks: Tasks,
    live: Annotated[LiveChanges, Depends(FromState("live"))],
    streams: Streams,
    access: Annotated[Access, Depends(_access)],
    last_event_id: LastEventId = None,
) -> Stream:
    """Tells the client of each change when it happens, as server-sent events.

    Each event has an `id`: a token, which `/changes` accepts, too. When the connection breaks, connect again with the
    last one in `Last-Event-ID`, and nothing is missed.
    """
    page = await _first_page(owner, tasks, last_event_id)
    stream = EventStream(owner, page, tasks=tasks, live=live, access=access)
    return Stream(stream.produce, streams.take(owner), media_type=EventSourceResponse.media_type, headers=_HEADERS)


async def _first_page(owner: UserId, tasks: TaskRepository, last_event_id: bytes | None) -> StoredChanges:
    if last_event_id is None:
        return StoredChanges([], await tasks.state(owner), has_more=False)
    return await tasks.changes(owner, state_of(owner, last_event_id), REPLAYED_CHANGES)


# nginx buffers responses, unless a response forbids it.
_HEADERS = {"X-Accel-Buffering": "no"}
