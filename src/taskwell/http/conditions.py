"""Conditional requests (RFC 9110, section 13), and the header `Idempotency-Key`."""

import re
from typing import Annotated, TypeVar

from fastapi import Header
from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from taskwell.errors import MALFORMED_HEADER, PreconditionRequired
from taskwell.etags import ALWAYS, EntityTags, MalformedEntityTagsError, Precondition

T = TypeVar("T")

# RFC 9110, section 8.8.3, permits more characters in a tag; these are the ones of this service's tags.
_TAGS_SCHEMA = {"type": "string", "maxLength": 8000}


def _entity_tags(text: object) -> EntityTags:
    try:
        return EntityTags(str(text))
    except MalformedEntityTagsError:
        raise PydanticCustomError(
            MALFORMED_HEADER, 'must be * or a list of entity tags, such as "57", with the quotes'
        ) from None


IfMatch = Annotated[
    EntityTags | None,
    PlainValidator(_entity_tags),
    WithJsonSchema(_TAGS_SCHEMA),
    Header(
        alias="If-Match",
        description="Do this only if the task's ETag is one of these; `*` means any. Else the response is 412.",
    ),
]
IfNoneMatch = Annotated[
    EntityTags | None,
    PlainValidator(_entity_tags),
    WithJsonSchema(_TAGS_SCHEMA),
    Header(
        alias="If-None-Match", description="The ETag of what you have. If it is still the same, the response is 304."
    ),
]
IfNoneMatchOnWrite = Annotated[
    EntityTags | None,
    PlainValidator(_entity_tags),
    WithJsonSchema(_TAGS_SCHEMA),
    Header(
        alias="If-None-Match", description="Do this only if the task's ETag is none of these. Else the response is 412."
    ),
]


def precondition(if_match: EntityTags | None, if_none_match: EntityTags | None, *, required: bool) -> Precondition:
    """Returns what a write of a task depends on.

    Raises:
        PreconditionRequired: `required`, and the request has no `If-Match`.
    """
    if if_match is None and if_none_match is None:
        if required:
            raise PreconditionRequired
        return ALWAYS
    if required and if_match is None:
        raise PreconditionRequired
    # `If-Match: *` means "if it exists", which every write depends on. `If-None-Match: *` means "if it does not exist",
    # so no revision will do.
    match = if_match.revisions() if if_match and not if_match.is_any else None
    if if_none_match is None:
        return Precondition(match)
    # `If-None-Match` is compared weakly also on a write (RFC 9110, section 13.1.2).
    return Precondition([]) if if_none_match.is_any else Precondition(match, if_none_match.revisions(weakly=True))


class NotModified(Response):
    """A 304: what the client has is still the same (RFC 9110, section 15.4.5)."""

    def __init__(self, etag: str) -> None:
        super().__init__(status_code=304, headers={"ETag": etag})


def unless_known(content: T, etag: str, if_none_match: EntityTags | None, response: Response) -> T | NotModified:
    """Returns `content` with its `ETag`, or a 304 if the client has it already."""
    if if_none_match and if_none_match.include(etag):
        return NotModified(etag)
    response.headers["ETag"] = etag
    return content


# --- Idempotency-Key

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# The form of draft-ietf-httpapi-idempotency-key-header: a string of RFC 9651, section 3.3.3.
_QUOTED_KEY = re.compile(r'"(?:[^"\\]|\\["\\])*"')
_ESCAPED = re.compile(r'\\(["\\])')


def _idempotency_key(text: object) -> str:
    key = str(text)
    if key.startswith('"'):
        key = _ESCAPED.sub(r"\1", key[1:-1]) if _QUOTED_KEY.fullmatch(key) else ""
    if not _KEY.fullmatch(key):
        raise PydanticCustomError(
            MALFORMED_HEADER, "must have 1 to 255 visible ASCII characters, or be a quoted string of them"
        )
    return key


IdempotencyKey = Annotated[
    str | None,
    PlainValidator(_idempotency_key),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 512, "pattern": r"^[\x21-\x7e]{1,512}$"}),
    Header(
        alias="Idempotency-Key",
        description="Makes the request safe to repeat: one key creates at most one task of the user, however often it is "
        "sent. Choose a new random one, such as a UUID, for each task.",
    ),
]
