"""Reading a request's body: bounded in size and time, and strictly JSON."""

import asyncio
import json
import re
from codecs import BOM_UTF8
from functools import cached_property
from typing import NoReturn

import orjson
from starlette.requests import ClientDisconnect, Request

from taskwell.deadline import Deadline
from taskwell.errors import (
    MalformedRequest,
    PayloadTooLarge,
    RequestTimeout,
    UnprocessableRequest,
    UnsupportedMediaType,
)

MAX_BODY_BYTES = 64 * 1024

_JSON = re.compile(rb"application/([a-z0-9!#$&^_.-]+\+)?json")


class JSONRequest(Request):
    """A request whose `body()` and `json()` keep the contract; FastAPI's handler calls the same two."""

    async def body(self) -> bytes:
        """The whole body.

        Raises:
            PayloadTooLarge: it is over 64 KiB, as declared or as it comes.
            RequestTimeout: it did not arrive in time.
        """
        if not hasattr(self, "_body"):
            deadline: Deadline = self.scope["state"]["body_deadline"]
            try:
                self._body = await deadline.run(self._read())
            except asyncio.CancelledError:
                # The server stops, and waits no longer.
                raise RequestTimeout from None
        return self._body

    async def _read(self) -> bytes:
        declared = self._fields.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
            raise PayloadTooLarge
        body, more = b"", True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > MAX_BODY_BYTES:
                raise PayloadTooLarge
        return body

    @cached_property
    def _fields(self) -> dict[bytes, bytes]:
        # Of several of one name the first.
        headers: list[tuple[bytes, bytes]] = self.scope["headers"]
        return dict(reversed(headers))

    async def json(self) -> object:
        """The body as Python values.

        Raises:
            MalformedRequest: it is empty or not JSON (RFC 8259).
            UnsupportedMediaType: it is not declared as JSON, or compressed.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            if not body:
                raise MalformedRequest("The request's body is empty; send a JSON object.")
            if not _is_json(self._fields.get(b"content-type", b"")):
                raise UnsupportedMediaType
            if self._fields.get(b"content-encoding", b"identity").lower() != b"identity":
                raise UnsupportedMediaType("Send the body uncompressed, without Content-Encoding.")
            self._json = parse_json(body)
        return self._json


def _is_json(content_type: bytes) -> bool:
    """Whether the media type is `application/json` or `application/*+json` (RFC 6839, section 3.1)."""
    media_type = content_type.partition(b";")[0].strip().lower()
    return bool(_JSON.fullmatch(media_type))


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedRequest(f"The request's body is not JSON: {name} is no JSON value.")


_STRICTLY = json.JSONDecoder(parse_constant=_refuse_constant)


def parse_json(text: bytes) -> object:
    """What `text` says, as strictly as RFC 8259 has it: UTF-8, no NaN, no Infinity.

    Raises:
        MalformedRequest: it is not JSON.
        UnprocessableRequest: it is, but with a number of thousands of digits or nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Slower, it says what is wrong in better words.
        return _parse_or_explain(text)


def _parse_or_explain(text: bytes) -> object:
    if text.startswith(BOM_UTF8):
        raise MalformedRequest("The request's body begins with a byte order mark, which JSON has not.")
    try:
        return _STRICTLY.decode(text.decode())
    except UnicodeDecodeError:
        raise MalformedRequest("The request's body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"The request's body is not JSON: {error.msg} at character {error.pos}.") from None
    except (ValueError, RecursionError):
        raise UnprocessableRequest("The request's body is nested too deeply or has too long a number.") from None
