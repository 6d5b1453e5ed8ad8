"""The application: the one place where everything meets."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict, cast

import httpx2
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

import taskwell
from taskwell import health
from taskwell.auth.jwks_client import DIRECTLY, KeySet, fetch_from
from taskwell.auth.keys import Keys, SharedSecret
from taskwell.auth.tokens import Verifier
from taskwell.database.interface import Database, Query
from taskwell.database.postgres import PostgresDatabase
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.database.urls import PostgresURL
from taskwell.deadline import Deadline
from taskwell.errors import Problem, RequestTimeout
from taskwell.http import docs, openapi
from taskwell.http.cors import CORS
from taskwell.http.endpoint import Dispatcher
from taskwell.http.error_responses import handle_http_exception, handle_problem, handle_validation_error
from taskwell.http.limits import InFlight
from taskwell.http.middleware import LastResort, RequestLayer
from taskwell.migrations.check import schema_revision
from taskwell.settings import Settings
from taskwell.tasks import routes
from taskwell.tasks.repository import TaskRepository


class State(TypedDict):
    """What a request finds in `request.state`."""

    verifier: Verifier
    tasks: TaskRepository
    schema_revision: Query
    body_deadline: Deadline
    in_flight: InFlight


class Application(FastAPI):
    """FastAPI's, behind layers that stand before its whole stack."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    def build_middleware_stack(self) -> ASGIApp:
        # Without its outermost layer, Starlette's answer to a bug, which `LastResort` gives in the one shape.
        return cast("ServerErrorMiddleware", super().build_middleware_stack()).app

    async def framework(self, scope: Scope, receive: Receive, send: Send) -> None:
        """FastAPI's own way."""
        await super().__call__(scope, receive, send)


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application. Nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[State]:
        del app
        async with open_database(settings) as database, open_verifier(settings) as verifier:
            yield State(
                verifier=verifier,
                tasks=TaskRepository(database),
                schema_revision=database.prepare(schema_revision),
                body_deadline=Deadline(settings.TASKWELL_BODY_TIMEOUT_SECONDS, RequestTimeout),
                in_flight=InFlight(settings.TASKWELL_MAX_IN_FLIGHT),
            )

    app = Application(
        title="Taskwell",
        version=taskwell.__version__,
        summary="Task lists, each visible to its owner alone.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        exception_handlers={
            Problem: handle_problem,
            HTTPException: handle_http_exception,
            RequestValidationError: handle_validation_error,
        },
    )
    app.include_router(routes.router)
    app.include_router(health.router)
    openapi.complete(app)
    docs.add(app)
    app.front = _in_front(app.framework, settings)
    return app


def _in_front(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The layers in front of the framework's own. CORS stands outside the last resort, so that a page can read a 500."""
    if settings.TASKWELL_DISPATCHER == "on":
        app = Dispatcher(app, routes.router.routes)
    app = LastResort(app)
    if settings.TASKWELL_CORS_ORIGINS:
        app = CORS(app, origins=settings.TASKWELL_CORS_ORIGINS)
    return RequestLayer(app)


@asynccontextmanager
async def open_verifier(settings: Settings) -> AsyncGenerator[Verifier]:
    """What verifies tokens as `settings` say; while the context is entered, its keys are kept fresh."""
    async with open_keys(settings) as keys:
        yield Verifier(
            keys,
            issuer=settings.issuer,
            audiences=settings.audiences,
            algorithms=settings.JWT_ALGORITHM,
        )


@asynccontextmanager
async def open_keys(settings: Settings) -> AsyncGenerator[Keys]:
    """The keys that `settings` name: the shared secret, or the auth server's key set."""
    if settings.BETTER_AUTH_SECRET:
        yield SharedSecret(settings.BETTER_AUTH_SECRET.get_secret_value())
        return
    async with (
        httpx2.AsyncClient(mounts=DIRECTLY) as client,
        KeySet(fetch_from(str(settings.key_set_url), client)).kept_fresh() as keys,
    ):
        yield keys


def open_database(settings: Settings) -> Database:
    """The database that `settings` name; it opens when its context is entered."""
    url = settings.DATABASE_URL
    if isinstance(url, PostgresURL):
        return PostgresDatabase(
            url,
            pool_min=settings.TASKWELL_POOL_MIN,
            pool_max=settings.TASKWELL_POOL_MAX,
            prepared_statements=settings.TASKWELL_PREPARED_STATEMENTS,
        )
    return SQLiteDatabase(url.path)
