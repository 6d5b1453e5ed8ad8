"""The application: puts all parts together."""

from collections.abc import AsyncGenerator, Container, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, cast

import httpx2
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

import taskwell
from taskwell import health
from taskwell.auth.jwks_client import DIRECTLY, KeySet, fetch_from
from taskwell.auth.keys import Keys, SharedSecret
from taskwell.auth.owner import Authenticator
from taskwell.auth.tokens import Verifier
from taskwell.database.counts import Counted
from taskwell.database.interface import Preparing
from taskwell.database.postgres import PostgresDatabase
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.database.urls import PostgresURL
from taskwell.errors import Problem
from taskwell.http import docs, openapi, problem_pages, streams
from taskwell.http.body import BodyReader
from taskwell.http.cors import CORS
from taskwell.http.endpoint import EndpointEngine
from taskwell.http.error_responses import handle_error, handle_validation_error
from taskwell.http.limits import InFlight
from taskwell.http.middleware import LastResort, RequestMiddleware
from taskwell.http.rate_limits import RateLimits, failure_limit, user_limit
from taskwell.migrations.check import schema_revision
from taskwell.settings import Settings
from taskwell.tasks import bulk, events, export, feed, routes, trash
from taskwell.tasks.live import LiveChanges
from taskwell.tasks.purge import Purge
from taskwell.tasks.repository import TaskRepository
from taskwell.telemetry.access_log import AccessLog
from taskwell.telemetry.logs import format_or_default
from taskwell.telemetry.request_counts import RequestCounts

if TYPE_CHECKING:
    from taskwell.telemetry.tracing import Tracing


class State(health.State, routes.State, streams.State, events.State):
    """The state that the lifespan passes to the route functions."""


class Application(FastAPI):
    """FastAPI, with our middleware in front of its whole stack."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        # Without Starlette's outermost middleware, which responds to a bug: `LastResort` does that, with the API's
        # error body.
        return cast("ServerErrorMiddleware", super().build_middleware_stack()).app

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request to FastAPI, whose router expects the prefix of a proxy in the path."""
        if root_path := scope.get("root_path"):
            scope = {**scope, "path": root_path + scope["path"]}
        await super().__call__(scope, receive, send)


def create_app(settings: Settings, metrics_to: Connection | None = None, tracing: "Tracing | None" = None) -> FastAPI:
    """Returns the service as an ASGI application. It opens nothing before its lifespan begins.

    `metrics_to`, if given, is the connection to report the metrics to. `tracing`, if given, traces requests.
    """
    database = database_from(settings)
    keys, key_resources = keys_from(settings, tracing)
    traced = _traced(database, settings, tracing) if tracing else database
    live = LiveChanges(database, settings.TASKWELL_EVENTS_IDLE_SECONDS)
    verifier = verifier_from(settings, keys)
    state = State(
        tasks=TaskRepository(traced),
        live=live,
        streams=streams.StreamLimits(settings.TASKWELL_MAX_STREAMS, settings.TASKWELL_MAX_STREAMS_PER_USER),
        verifier=verifier,
        require_if_match=settings.TASKWELL_REQUIRE_IF_MATCH,
        keys=keys,
        schema_revision=database.prepare(schema_revision),
    )
    rate_limits, counter_resources = rate_limits_from(settings)
    in_flight = InFlight(settings.TASKWELL_MAX_IN_FLIGHT)
    purge = Purge(database, settings.TASKWELL_TRASH_DAYS) if settings.TASKWELL_PURGE_INTERVAL_SECONDS else None
    counts = RequestCounts() if metrics_to else None

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[State]:
        del app
        async with AsyncExitStack() as stack:
            if tracing:
                await stack.enter_async_context(tracing)
            for resource in (database, *key_resources, *counter_resources, live):
                await stack.enter_async_context(resource)
            if purge and settings.TASKWELL_PURGE_INTERVAL_SECONDS:
                await stack.enter_async_context(purge.repeated(settings.TASKWELL_PURGE_INTERVAL_SECONDS))
            if metrics_to and counts:
                _report(metrics_to, counts, state, in_flight, database, rate_limits, purge)
            yield state

    app = Application(
        title="Taskwell",
        version=taskwell.__version__,
        summary="Task lists, each visible to its owner alone.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            Problem: handle_error,
            HTTPException: handle_error,
            RequestValidationError: handle_validation_error,
        },
    )
    # Before the routes of one task: a path is that of the first route that matches, and "batch" could be the ID of a task.
    app.include_router(bulk.router)
    app.include_router(routes.router)
    app.include_router(trash.router)
    app.include_router(feed.router)
    app.include_router(events.router)
    app.include_router(export.router)
    app.include_router(health.live)
    app.include_router(health.router)
    openapi.complete(app)
    docs.add(app)
    problem_pages.add(app)
    app.front = _middleware(
        EndpointEngine(
            app.framework,
            app.routes,
            authenticate=Authenticator(verifier),
            in_flight=in_flight,
            bodies=BodyReader(settings.TASKWELL_BODY_TIMEOUT_SECONDS),
            on_write=live.wrote,
            rate_limits=rate_limits,
        ),
        settings,
        counts=counts,
        first_segments={str(route.path).split("/")[1] for route in iter_route_contexts(app.routes)},
    )
    if tracing:
        app.front = _traced_requests(app.front, tracing)
    return app


# The three functions that follow import what only metrics or traces need.


def _traced(database: PostgresDatabase | SQLiteDatabase, settings: Settings, tracing: "Tracing") -> Preparing:
    from taskwell.database.traced import TracedDatabase  # noqa: PLC0415

    return TracedDatabase(database, settings.DATABASE_URL, tracing.tracer)


def _traced_requests(app: ASGIApp, tracing: "Tracing") -> ASGIApp:
    from taskwell.telemetry.tracing import TracedRequests  # noqa: PLC0415

    return TracedRequests(app, tracing)


def _report(  # noqa: PLR0913, PLR0917 - one for each part that counts
    connection: Connection,
    counts: RequestCounts,
    state: State,
    in_flight: InFlight,
    database: Counted,
    rate_limits: RateLimits | None,
    purge: Purge | None,
) -> None:
    from taskwell.metrics import Metrics  # noqa: PLC0415
    from taskwell.telemetry.reports import report_to  # noqa: PLC0415

    metrics = Metrics(
        requests=counts,
        in_flight=in_flight,
        streams=state["streams"],
        live=state["live"],
        verifier=state["verifier"],
        keys=state["keys"],
        database=database,
        rate_limits=rate_limits,
        purge=purge,
    )
    report_to(connection, metrics.collect)


def _middleware(
    app: ASGIApp, settings: Settings, first_segments: Container[str], counts: RequestCounts | None
) -> ASGIApp:
    """Wraps `app` in the middleware for every request. CORS is outside of `LastResort`, so that a page can read a 500."""
    app = LastResort(app)
    if settings.TASKWELL_CORS_ORIGINS:
        app = CORS(app, origins=settings.TASKWELL_CORS_ORIGINS)
    access_log = AccessLog(format_or_default(settings.TASKWELL_LOG_FORMAT))
    return RequestMiddleware(
        app, access_log, root_path=settings.TASKWELL_ROOT_PATH, first_segments=first_segments, counts=counts
    )


def verifier_from(settings: Settings, keys: Keys) -> Verifier:
    """Returns the verifier of tokens that `settings` describe."""
    return Verifier(keys, issuer=settings.issuer, audiences=settings.audiences, algorithms=settings.JWT_ALGORITHM)


def keys_from(
    settings: Settings, tracing: "Tracing | None" = None
) -> tuple[Keys, Sequence[AbstractAsyncContextManager[object]]]:
    """Returns the keys that `settings` name, and the contexts that fetch and refresh them, in the order to enter them."""
    if settings.BETTER_AUTH_SECRET:
        return SharedSecret(settings.BETTER_AUTH_SECRET.get_secret_value()), ()
    client = httpx2.AsyncClient(mounts=DIRECTLY)
    if tracing:
        client.event_hooks = {"request": [tracing.propagate]}
    key_set = KeySet(fetch_from(str(settings.key_set_url), client))
    return key_set, (client, key_set.kept_fresh())


def rate_limits_from(
    settings: Settings,
) -> tuple[RateLimits | None, Sequence[AbstractAsyncContextManager[object]]]:
    """Returns the rate limits that `settings` set, or None, and the contexts that their counters need."""
    users, failures = settings.TASKWELL_RATE_LIMIT, settings.TASKWELL_AUTH_FAILURE_LIMIT
    if not (users or failures):
        return None, ()
    # Not at the top, because without a limit the service does not import the packages that count.
    from taskwell.http.rate_counters import BoundedMemory, SharedRedis  # noqa: PLC0415

    url = settings.TASKWELL_RATE_LIMIT_STORAGE
    redis = SharedRedis(url.get_secret_value()) if url else None
    limits = RateLimits(
        user_limit(users, redis or BoundedMemory()) if users else None,
        failure_limit(failures, redis or BoundedMemory()) if failures else None,
    )
    return limits, (redis,) if redis else ()


def database_from(settings: Settings) -> PostgresDatabase | SQLiteDatabase:
    """Returns the database that `settings` name. It opens when its context is entered."""
    url = settings.DATABASE_URL
    if isinstance(url, PostgresURL):
        return PostgresDatabase(
            url,
            pool_min=settings.TASKWELL_POOL_MIN,
            pool_max=settings.TASKWELL_POOL_MAX,
            prepared_statements=settings.TASKWELL_PREPARED_STATEMENTS,
        )
    return SQLiteDatabase(url.path)
