"""The trash endpoints: the tasks that were deleted and not yet erased.

A page of the trash has no `ETag`. Erasing a task changes the trash but takes no revision, so a 304 could be wrong.
"""

from typing import Annotated, NamedTuple
from zlib import crc32

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field

from taskwell.auth.owner import Owner
from taskwell.auth.tokens import UserId
from taskwell.http.endpoint import Endpoint, add_header
from taskwell.http.pages import MAX_CURSOR, link
from taskwell.http.segments import path_segment
from taskwell.tasks import openapi
from taskwell.tasks.listing import CURSOR_TEXT, Limit, cursor_to, position_in
from taskwell.tasks.repository import Position, TrashPage
from taskwell.tasks.routes import TaskId, Tasks, written
from taskwell.tasks.schemas import MAX_LIMIT, TaskResponse, TrashResponse

router = APIRouter(prefix="/api/{user_id:segment}/trash", tags=["trash"], route_class=Endpoint)

# The number of this list in cursors, so that those of other lists are refused. A position is the revision of a
# deletion.
_TRASH = crc32(b"trash")


class _Trash(NamedTuple):
    """A request for a page of the trash. It begins after the deletion with the revision `after`."""

    request: Request
    limit: int
    after: int | None

    def answer(self, owner: UserId, stored: TrashPage, response: Response) -> TrashResponse:
        """Returns the page with its `Link`."""
        if stored.following or self.after:
            add_header(response, b"link", self._links(owner, stored.following))
        return stored.page

    def _links(self, owner: UserId, following: int | None) -> str:
        given = {name: value for name, value in self.request.query_params.items() if name != "cursor"}
        following_page = {"next": given | {"cursor": cursor_to(Position(None, following), _TRASH)}} if following else {}
        return link(self.request.scope, f"/api/{path_segment(owner)}/trash", **following_page, first=given)


async def _trash(
    request: Request,
    limit: Limit = MAX_LIMIT,
    cursor: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_CURSOR),
        CURSOR_TEXT,
        Query(description="The start of the page, from the `Link` header of the page before."),
    ] = None,
) -> _Trash:
    return _Trash(request, limit, None if cursor is None else position_in(cursor, _TRASH, None).id)


@router.get("", responses=openapi.ON_TRASH, response_description="A page of deleted tasks.")
async def list_trash(
    owner: Owner, tasks: Tasks, trash: Annotated[_Trash, Depends(_trash)], response: Response
) -> TrashResponse:
    """Lists the user's deleted tasks, the newest deletion first, until they are erased."""
    return trash.answer(owner, await tasks.list_trash(owner, trash.limit, trash.after), response)


@router.post(
    "/{task_id:segment}/restore",
    responses=openapi.ON_RESTORE,
    response_description="The task, in the list again.",
)
async def restore_task(owner: Owner, tasks: Tasks, task_id: TaskId, response: Response) -> TaskResponse:
    """Restores a deleted task, with the same ID and a new ETag.

    A task that is not deleted stays as it is. So the request can be repeated.
    """
    return written(await tasks.restore(owner, task_id), response)
