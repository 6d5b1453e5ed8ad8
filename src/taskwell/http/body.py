"""Reading a request's body: bounded in size and time, and strictly JSON."""

import asyncio
import json
import re
from codecs import BOM_UTF8
from typing import NoReturn

import orjson
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope

from taskwell.errors import (
    MalformedRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnprocessableRequest,
    UnsupportedMediaType,
)
from taskwell.http.limits import Deadline

MAX_BODY_BYTES = 64 * 1024
"""The maximum of a route that does not declare its own `max_body_size`."""

_JSON = re.compile(rb"application/([a-z0-9!#$&^_.-]+\+)?json")


class BodyReader:
    """Reads bodies, each of which must arrive within `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._deadline = Deadline(seconds, RequestTimeout)

    async def read_json(self, scope: Scope, receive: Receive, max_bytes: int) -> object:
        """Reads and parses the body.

        Raises:
            PayloadTooLarge: the body is larger than `max_bytes`, by its declared length or its actual one.
            RequestTimeout: the body did not arrive in time.
            MalformedRequest: the body is empty or not JSON (RFC 8259).
            UnprocessableRequest: the body nests too deeply or has a number of thousands of digits.
            UnsupportedMediaType: the body is not declared as JSON, or is compressed.
        """
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        # Of repeated headers, the first one counts.
        fields = dict(reversed(headers))
        length = fields.get(b"content-length", b"0")
        if length.isdigit() and int(length) > max_bytes:
            raise PayloadTooLarge
        try:
            body = await self._deadline.run(_read(receive, max_bytes))
        except asyncio.CancelledError:
            # The server is stopping and no longer waits for this body.
            raise RequestTimeout from None
        if not body:
            raise MalformedRequest("The request's body is empty; send a JSON object.")
        if not _is_json(fields.get(b"content-type", b"")):
            raise UnsupportedMediaType
        if fields.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMediaType("Send the body uncompressed, without Content-Encoding.")
        return parse_json(body)


async def _read(receive: Receive, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        parts.append(part)
        size += len(part)
        more = message.get("more_body", False)
        if size > max_bytes:
            raise PayloadTooLarge
    # Joining a single part, the usual case, does not copy it.
    return b"".join(parts)


def _is_json(content_type: bytes) -> bool:
    """Returns True for `application/json` and `application/*+json` (RFC 6839, section 3.1)."""
    media_type = content_type.partition(b";")[0].strip().lower()
    return bool(_JSON.fullmatch(media_type))


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequest(f"The request's body is not JSON: {name} is not a JSON value.")


_STRICT_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(text: bytes) -> object:
    """Parses `text` as strictly as RFC 8259 demands: UTF-8, no NaN, no Infinity.

    Raises:
        MalformedRequest: the text is not JSON.
        UnprocessableRequest: the text is JSON, but nests too deeply or has a number of thousands of digits.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return _parse_or_explain(text)


def _parse_or_explain(text: bytes) -> object:
    """Parses with the standard library, which is slower and words its errors better."""
    if text.startswith(BOM_UTF8):
        raise MalformedRequest("The request's body begins with a byte order mark, which JSON does not allow.")
    try:
        return _STRICT_DECODER.decode(text.decode())
    except UnicodeDecodeError:
        raise MalformedRequest("The request's body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"The request's body is not JSON: {error.msg} at character {error.pos}.") from None
    except (ValueError, RecursionError):
        raise UnprocessableRequest("The request's body is nested too deeply or has too long a number.") from None
