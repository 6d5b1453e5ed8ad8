"""The list endpoint's parameters, and its response: `Link` and `ETag`."""

from datetime import UTC, datetime
from typing import Annotated, NamedTuple
from zlib import crc32

from fastapi import Depends, Query, Request, Response
from pydantic import AfterValidator, Field, WithJsonSchema

from taskwell.auth.tokens import UserId
from taskwell.errors import UnprocessableRequest
from taskwell.etags import ANY_STATE, EntityTags, ListState, known_state, list_etag
from taskwell.http.conditions import NotModified
from taskwell.http.endpoint import add_header
from taskwell.http.error_responses import invalid_parameter
from taskwell.http.pages import MAX_CURSOR, decode_cursor, encode_cursor, link
from taskwell.http.parameters import MAX_BIGINT, Boolean, DecimalDigits
from taskwell.http.segments import path_segment
from taskwell.tasks.repository import Page, Position, StoredPage
from taskwell.tasks.schemas import MAX_LIMIT, TaskListResponse, without_nul
from taskwell.tasks.statements import Sort
from taskwell.tasks.tables import MAX_TITLE

MAX_OFFSET = 2**31 - 1
MAX_QUERY = 100

Limit = Annotated[
    int, Field(ge=1, le=MAX_LIMIT), DecimalDigits, Query(description="Maximum number of tasks to return.")
]
CURSOR_TEXT = WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_CURSOR})


class TaskList(NamedTuple):
    """A request for a list."""

    request: Request
    page: Page

    def known(self, tags: EntityTags | None) -> ListState | None:
        """Returns the state whose list the client already has."""
        if tags is None:
            return None
        return ANY_STATE if tags.is_any else known_state(tags, self._query_string)

    def answer(self, owner: UserId, stored: StoredPage, response: Response) -> TaskListResponse | NotModified:
        """Returns the page with its `ETag` and `Link`, or a 304 if the client has it already."""
        etag = list_etag(stored.state, self._query_string)
        if stored.page is None:
            return NotModified(etag)
        add_header(response, b"etag", etag)
        if stored.following or self.page.after or self.page.offset:
            add_header(response, b"link", self._links(owner, stored.following))
        return stored.page

    @property
    def _query_string(self) -> bytes:
        query: bytes = self.request.scope["query_string"]
        return query

    def _links(self, owner: UserId, following: Position | None) -> str:
        given = {name: value for name, value in self.request.query_params.items() if name not in ("cursor", "offset")}
        following_page = {"next": given | {"cursor": cursor_to(following, _filter_of(self.page))}} if following else {}
        path = f"/api/{path_segment(owner)}/tasks"
        return link(self.request.scope, path, **following_page, first=given)


async def _task_list(
    request: Request,
    complete: Annotated[Boolean, Query(description="Return only complete tasks, or only incomplete ones.")] = None,
    q: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_QUERY),
        AfterValidator(without_nul),
        WithJsonSchema({"type": "string", "minLength": 1, "maxLength": MAX_QUERY}),
        Query(description="Return only tasks whose title or description contains this text. Case does not matter."),
    ] = None,
    sort: Annotated[
        Sort | None,
        WithJsonSchema({"type": "string", "enum": list(Sort.__args__)}),
        Query(description="The order; `-` means descending. The default is newest first."),
    ] = None,
    limit: Limit = MAX_LIMIT,
    offset: Annotated[
        int | None,
        Field(ge=0, le=MAX_OFFSET),
        DecimalDigits,
        WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_OFFSET, "default": 0}),
        Query(description="Number of tasks to skip."),
    ] = None,
    cursor: Annotated[
        str | None,
        Field(min_length=1, max_length=MAX_CURSOR),
        CURSOR_TEXT,
        Query(
            description="The start of the page, from the `Link` header of the page before. Needs the same `sort`, `q` and "
            "`complete`; not together with `offset`."
        ),
    ] = None,
) -> TaskList:
    page = Page(complete=complete, q=q, sort=sort, limit=limit, offset=offset or 0)
    if cursor is not None:
        if offset is not None:
            raise invalid_parameter("cursor", "cannot be used together with offset", "cursor_with_offset")
        page = page._replace(after=position_in(cursor, _filter_of(page), page.sort))
    return TaskList(request, page)


Listed = Annotated[TaskList, Depends(_task_list)]


# --- cursors


def cursor_to(position: Position, made_for: int) -> str:
    """Returns the cursor of the page behind `position`, in the list with the number `made_for`."""
    return encode_cursor(made_for, position.value, position.id)


def position_in(cursor: str, made_for: int, sort: str | None) -> Position:
    """Returns the position of a cursor. `made_for` is the number of the list, and `sort` its order.

    Raises:
        UnprocessableRequest: it is not a cursor, or one of another list.
    """
    try:
        its_list, value, task_id = decode_cursor(cursor)
        if its_list != made_for:
            raise _wrong_cursor("was made for another list, sort, q or complete")
        return Position(_sort_value(sort, value), _id(task_id))
    except (ValueError, OverflowError):
        raise _wrong_cursor("is not a cursor of this service") from None


def _wrong_cursor(msg: str) -> UnprocessableRequest:
    return invalid_parameter("cursor", msg, "cursor")


def _filter_of(page: Page) -> int:
    """Returns a number that differs for lists with another order or filter."""
    return crc32(repr((page.sort, page.q, page.complete)).encode())


def _sort_value(sort: str | None, value: object) -> datetime | str | None:
    if sort is None:
        return None
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004 - all mistakes in a cursor are one error
    if not sort.endswith("title"):
        return datetime.fromisoformat(value).astimezone(UTC)
    if len(value) > MAX_TITLE or "\x00" in value:
        raise ValueError(value)
    return value


def _id(value: object) -> int:
    if type(value) is not int or not 0 < value <= MAX_BIGINT:
        raise ValueError(value)
    return value
