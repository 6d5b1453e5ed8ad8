"""Conditional requests (RFC 9110, section 13), and the header `Idempotency-Key`."""

from typing import Annotated, TypeVar

from fastapi import Header
from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from taskwell.errors import MALFORMED_HEADER, PreconditionRequired
from taskwell.etags import ENTITY_TAGS_PATTERN, NOT_ENTITY_TAGS, EntityTags, MalformedEntityTagsError, Precondition
from taskwell.http.endpoint import add_header
from taskwell.idempotency import KEY_PATTERN, NOT_A_KEY, MalformedKeyError, parse_key

T = TypeVar("T")


def _entity_tags(text: object) -> EntityTags:
    try:
        return EntityTags(str(text))
    except MalformedEntityTagsError:
        raise PydanticCustomError(MALFORMED_HEADER, NOT_ENTITY_TAGS) from None


def _schema(pattern: str, max_length: int, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "maxLength": max_length, "pattern": pattern, "examples": [example]})


_Tags = Annotated[EntityTags | None, PlainValidator(_entity_tags), _schema(ENTITY_TAGS_PATTERN, 8000, '"57"')]

IfMatch = Annotated[
    _Tags,
    Header(
        alias="If-Match",
        description="Do this only if the ETag of the task is one of these; `*` means any. Otherwise the response is 412.",
    ),
]
IfNoneMatch = Annotated[
    _Tags,
    Header(
        alias="If-None-Match",
        description="The ETag of the version that you have. If it is still current, the response is 304, without a body.",
    ),
]
IfNoneMatchOnWrite = Annotated[
    _Tags,
    Header(
        alias="If-None-Match",
        description="Do this only if the ETag of the task is none of these. Otherwise the response is 412.",
    ),
]


def precondition(if_match: EntityTags | None, if_none_match: EntityTags | None, *, required: bool) -> Precondition:
    """Returns the condition for a write.

    Raises:
        PreconditionRequired: The operator requires `If-Match`, and the request has none.
    """
    if required and if_match is None:
        raise PreconditionRequired
    # `If-Match: *` means "if it exists", which every write checks anyway. `If-None-Match: *` means "if it does not
    # exist", so no revision satisfies it.
    match = if_match.revisions() if if_match and not if_match.is_any else None
    if if_none_match is None:
        return Precondition(match)
    # RFC 9110, section 13.1.2: weak comparison, unlike that of `If-Match`.
    return Precondition([]) if if_none_match.is_any else Precondition(match, if_none_match.revisions(weakly=True))


class NotModified(Response):
    """A 304: what the client has is still the same (RFC 9110, section 15.4.5)."""

    def __init__(self, etag: str) -> None:
        super().__init__(status_code=304, headers={"ETag": etag})


def unless_known(content: T, etag: str, if_none_match: EntityTags | None, response: Response) -> T | NotModified:
    """Returns `content` with its `ETag`, or a 304 if the client has it already."""
    if if_none_match and if_none_match.include(etag):
        return NotModified(etag)
    add_header(response, b"etag", etag)
    return content


# --- Idempotency-Key


def _idempotency_key(text: object) -> str:
    try:
        return parse_key(str(text))
    except MalformedKeyError:
        raise PydanticCustomError(MALFORMED_HEADER, NOT_A_KEY) from None


IdempotencyKey = Annotated[
    str | None,
    PlainValidator(_idempotency_key),
    _schema(KEY_PATTERN, 255, "8e03978e-40d5-43e8-bc93-6894a57f9324"),
    Header(
        alias="Idempotency-Key",
        description="Makes the request safe to repeat: one key creates at most one task of the user, however often it is "
        "sent. Choose a new random one, such as a UUID, for each task.",
    ),
]
