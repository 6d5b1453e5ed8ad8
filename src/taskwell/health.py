"""Is the process up, and can it do its job. Neither asks for a token."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy import Select, String, column, select, table

import taskwell
from taskwell.database.port import Query
from taskwell.errors import NotMigrated, NotReady, Problem
from taskwell.http.problems import openapi_responses
from taskwell.migrations import HEAD

router = APIRouter(tags=["health"])

schema_revision: Select[str] = select(column("version_num", String)).select_from(table("alembic_version"))


class Health(BaseModel):
    """The process is up."""

    status: Literal["ok"] = "ok"
    version: str = taskwell.__version__


class Readiness(BaseModel):
    """Each part that the service needs for its job."""

    status: Literal["ok"] = "ok"
    database: Literal["ok"] = "ok"
    keys: Literal["ok"] = "ok"


@router.get("/health")
async def health() -> Health:
    """Is the process up? Never touches the database, so that a serverless one may sleep."""
    return Health()


@router.get("/health/ready", responses=openapi_responses([NotReady]))
async def ready(request: Request) -> Readiness:
    """Can it do its job: is the database reachable and migrated, are keys at hand?"""
    try:
        await check_schema(request.state.schema_revision)
    except NotMigrated as problem:
        raise NotReady(f"database: {problem.detail}", cause=problem.cause) from problem
    except Problem as problem:
        raise NotReady(cause=problem.cause) from problem
    return Readiness()


async def check_schema(schema_revision: Query) -> None:
    """Looks whether the database has the schema that this version works on.

    Raises:
        NotMigrated: it has another, or none.
        DatabaseError: it cannot be reached.
    """
    if [row["version_num"] for row in await schema_revision()] != [HEAD]:
        raise NotMigrated
