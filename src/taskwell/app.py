"""The application: the one place where everything meets."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TypedDict

import httpx
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

import taskwell
from taskwell import health
from taskwell.auth.keys import Keys, SharedSecret
from taskwell.auth.keyset import DIRECTLY, KeySet, fetch_from
from taskwell.auth.metrics import AuthMetrics
from taskwell.auth.tokens import Verifier
from taskwell.database.port import Database, Query
from taskwell.database.postgres import PostgresDatabase
from taskwell.database.sqlite import SQLiteDatabase
from taskwell.database.urls import PostgresURL
from taskwell.errors import Problem
from taskwell.http import documentation
from taskwell.http.cors import CORS
from taskwell.http.outer import LastResort, RequestLayer
from taskwell.http.problems import handle_http_exception, handle_problem, handle_validation_error
from taskwell.settings import Settings
from taskwell.tasks import routes
from taskwell.tasks.repository import TaskRepository


class State(TypedDict):
    """What a request finds in `request.state`."""

    verifier: Verifier
    tasks: TaskRepository
    schema_revision: Query
    body_timeout_seconds: float


def create_app(settings: Settings) -> FastAPI:
    """The service as an ASGI application. Nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[State]:
        del app
        async with open_database(settings) as database, open_verifier(settings) as verifier:
            yield State(
                verifier=verifier,
                tasks=TaskRepository(database),
                schema_revision=database.prepare(health.schema_revision),
                body_timeout_seconds=settings.TASKWELL_BODY_TIMEOUT_SECONDS,
            )

    app = FastAPI(
        title="Taskwell",
        version=taskwell.__version__,
        summary="Tasks of users, each for its owner alone.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        middleware=_layers(settings),
        exception_handlers={
            Problem: handle_problem,
            HTTPException: handle_http_exception,
            RequestValidationError: handle_validation_error,
        },
    )
    app.include_router(routes.router)
    app.include_router(health.router)
    documentation.add(app)
    return app


def _layers(settings: Settings) -> list[Middleware]:
    """The layers around the routes, outermost first. CORS stands outside the last resort, so that a page can read a 500."""
    cors = Middleware(CORS, origins=settings.TASKWELL_CORS_ORIGINS)
    return [Middleware(RequestLayer), *([cors] if settings.TASKWELL_CORS_ORIGINS else []), Middleware(LastResort)]


@asynccontextmanager
async def open_verifier(settings: Settings) -> AsyncGenerator[Verifier]:
    """What verifies tokens as `settings` say; while the context is entered, its keys are kept fresh."""
    metrics = AuthMetrics()
    async with open_keys(settings, metrics) as keys:
        yield Verifier(
            keys,
            metrics,
            issuer=settings.issuer,
            audiences=settings.audiences,
            algorithms=settings.JWT_ALGORITHM,
        )


@asynccontextmanager
async def open_keys(settings: Settings, metrics: AuthMetrics) -> AsyncGenerator[Keys]:
    """The keys that `settings` name: the shared secret, or the auth server's key set."""
    if settings.BETTER_AUTH_SECRET:
        yield SharedSecret(settings.BETTER_AUTH_SECRET.get_secret_value())
        return
    async with (
        httpx.AsyncClient(mounts=DIRECTLY) as client,
        KeySet(fetch_from(str(settings.key_set_url), client), metrics).kept_fresh() as keys,
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
