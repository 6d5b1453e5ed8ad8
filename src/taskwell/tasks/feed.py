"""The endpoints that keep a client's copy of a user's tasks up to date."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from taskwell.auth.owner import Owner
from taskwell.auth.tokens import UserId
from taskwell.http.endpoint import Endpoint
from taskwell.http.parameters import DecimalDigits
from taskwell.tasks import openapi
from taskwell.tasks.repository import Deletion, Stored, StoredChanges, deleted_task, versioned
from taskwell.tasks.routes import Tasks
from taskwell.tasks.schemas import MAX_LIMIT, ChangesResponse
from taskwell.tasks.sync_tokens import SyncToken, state_of, token_of

router = APIRouter(prefix="/api/{user_id:segment}", tags=["sync"], route_class=Endpoint)

Since = Annotated[
    SyncToken, Query(description="`since` of the response before. Without it, the response begins with the first task.")
]
Limit = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT),
    DecimalDigits,
    Query(description="Maximum number of tasks and deletions to return, counted together."),
]


@router.get("/changes", responses=openapi.ON_CHANGES, response_description="A page of changes, the oldest first.")
async def list_changes(owner: Owner, tasks: Tasks, since: Since = None, limit: Limit = MAX_LIMIT) -> ChangesResponse:
    """Lists what has changed since an earlier response, to keep a copy of the user's tasks up to date.

    Put `tasks` into your copy, remove `deleted` from it, and store `since` for the next request. If `has_more` is true,
    send that request at once. No change is missed, however many clients write at the same time.
    """
    return _response(owner, await tasks.changes(owner, state_of(owner, since), limit))


def _response(owner: UserId, changes: StoredChanges) -> ChangesResponse:
    return {
        "tasks": [versioned(change) for change in changes.changes if isinstance(change, Stored)],
        "deleted": [deleted_task(change) for change in changes.changes if isinstance(change, Deletion)],
        "since": token_of(owner, changes.state),
        "revision": changes.state.revision,
        "has_more": changes.has_more,
    }
