"""Is the process up, and can it do its job? Neither endpoint needs a token."""

from typing import Annotated, Literal, TypedDict

import typing_extensions
from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

import taskwell
from taskwell.auth.keys import Keys
from taskwell.database.interface import Query
from taskwell.errors import AuthUnavailable, DatabaseError, InternalError, NotReady, Overloaded
from taskwell.http.endpoint import Public
from taskwell.http.openapi import Responses, problem_responses
from taskwell.migrations.check import check_schema

router = APIRouter(tags=["health"])
live = APIRouter(tags=["health"], route_class=Public)


class State(TypedDict):
    """The part of the lifespan's state that these functions need."""

    keys: Keys
    schema_revision: Query


# For pydantic, which needs this one below Python 3.12.
class Health(typing_extensions.TypedDict):
    """The process is up."""

    status: Literal["ok"]
    version: Annotated[str, Field(description="The version of the service.")]


class Readiness(BaseModel):
    """The service can do its job: each part that it needs is ok."""

    status: Literal["ok"]
    database: Literal["ok"]
    keys: Literal["ok"]


_NO_KEYS = "keys: the auth server's key set could not be fetched."

_ON_HEALTH: Responses = {
    200: {"content": {"application/json": {"example": {"status": "ok", "version": "1.0.0"}}}},
    **problem_responses([InternalError]),
}
_ON_READY: Responses = {
    200: {"content": {"application/json": {"example": {"status": "ok", "database": "ok", "keys": "ok"}}}},
    **problem_responses([InternalError, NotReady, AuthUnavailable(_NO_KEYS)]),
}


@live.get("/health", responses=_ON_HEALTH, response_description="The process is up.")
async def health() -> Health:
    """Reports that the process is up. It never uses the database, so that a serverless database can sleep."""
    return {"status": "ok", "version": taskwell.__version__}


@router.get("/health/ready", responses=_ON_READY, response_description="The service is ready.")
async def ready(request: Request) -> Readiness:
    """Reports whether the service can do its job: the database is reachable and migrated, and signing keys are cached."""
    state: State = request.scope["state"]
    if not state["keys"].ready:
        raise AuthUnavailable(_NO_KEYS)
    try:
        await check_schema(state["schema_revision"])
    except Overloaded as problem:
        raise NotReady("database: all connections are in use.", cause=problem.cause) from problem
    except DatabaseError as problem:
        raise NotReady(f"database: {problem.detail}", cause=problem.cause) from problem
    return Readiness(status="ok", database="ok", keys="ok")
