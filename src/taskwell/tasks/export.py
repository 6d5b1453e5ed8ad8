"""The export: all tasks of a user, in one response of any length.

It reads one page after the other, each when the client has room for it. Between pages, it holds no connection and no
transaction. The walk goes by id, over live and deleted tasks alike, so a task that is changed, deleted or restored
meanwhile keeps its place.
"""

from collections.abc import AsyncGenerator, Sequence

from fastapi import APIRouter, Request, Response

from taskwell.auth.owner import Owner
from taskwell.auth.tokens import UserId
from taskwell.database.failures import within
from taskwell.http.accept import preferred
from taskwell.http.endpoint import Endpoint
from taskwell.http.limits import REQUEST_SECONDS
from taskwell.http.streams import Stream, Streams
from taskwell.tasks import openapi
from taskwell.tasks.export_formats import FORMATS, Format
from taskwell.tasks.repository import TaskRepository
from taskwell.tasks.routes import Tasks
from taskwell.tasks.schemas import ExportedTask

PAGE_TASKS = 100
"""Number of tasks that are read at once: half a megabyte at most.

With 200, an export is a fifth faster, but requests of others wait longer for their turn. With 50, it takes half as long
again.
"""

router = APIRouter(prefix="/api/{user_id:segment}", tags=["export"], route_class=Endpoint)


@router.get("/export", response_class=Response, responses=openapi.ON_EXPORT, response_description="All tasks.")
async def export_tasks(owner: Owner, tasks: Tasks, streams: Streams, request: Request) -> Stream:
    """Returns all tasks of the user, newest first, those in the trash included.

    Each line is a task. Send `Accept: text/csv` for a table.
    """
    form = FORMATS[preferred(request.headers.getlist("accept"), list(FORMATS))]
    walk = _Walk(tasks, owner)
    # Before the response begins, so that an error of the database is a 500 and not a stream that breaks off.
    await walk.read_page()
    return Stream(
        lambda _receive: walk.parts(form),
        streams.take(owner),
        media_type=form.content_type,
        headers={
            "Content-Disposition": f'attachment; filename="{form.file_name}"',
            "Vary": "Authorization, Accept",
        },
    )


class _Walk:
    """A walk through all tasks of the owner. It holds one page at a time, and none while the client reads."""

    def __init__(self, tasks: TaskRepository, owner: UserId) -> None:
        self._tasks = tasks
        self._owner = owner
        self._page: Sequence[ExportedTask] = ()
        self._last_id: int | None = None

    async def read_page(self) -> None:
        """Reads the next page."""
        self._page = await self._tasks.export_page(self._owner, PAGE_TASKS, self._last_id)

    async def parts(self, form: Format) -> AsyncGenerator[bytes]:
        """Yields the text of the page that was read, and then of all others."""
        yield form.header
        while self._page:
            self._last_id, is_last = self._page[-1]["id"], len(self._page) < PAGE_TASKS
            yield form.tasks(self._give_page())
            if not is_last:
                await within(REQUEST_SECONDS, self.read_page())

    def _give_page(self) -> Sequence[ExportedTask]:
        page, self._page = self._page, ()
        return page
