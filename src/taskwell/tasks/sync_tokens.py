"""Tokens of `/changes`: how far a client's copy of a user's tasks has come.

A token is the user's revision and epoch. It is opaque to clients, and belongs to one user. It needs no secret: a forged
token can only make its own user miss changes.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import blake2s
from struct import Struct
from typing import Annotated

from pydantic import PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from taskwell.auth.tokens import UserId
from taskwell.etags import ListState
from taskwell.tasks.repository import outdated_token

BEGINNING = ListState(0, 0)
"""The state before the first write, in which there are no tasks."""

_STATE = Struct(">qq")
# With the state it has 24 bytes, which base64 writes without padding.
_DIGEST_BYTES = 8
_TOKEN = re.compile(r"[A-Za-z0-9_-]{32}")


def _decoded(text: object) -> bytes:
    if not _TOKEN.fullmatch(str(text)):
        raise PydanticCustomError("sync_token", "is not a token of this service")
    return urlsafe_b64decode(str(text))


SyncToken = Annotated[
    bytes | None,
    PlainValidator(_decoded),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 64}),
]
"""A parameter that holds a token, decoded but not yet checked. None means that there is no copy yet."""


def token_of(owner: UserId, state: ListState) -> str:
    """Returns the token for a copy that has reached `state`."""
    packed = _STATE.pack(*state)
    return urlsafe_b64encode(packed + _digest(owner, packed)).decode()


def state_of(owner: UserId, token: bytes | None) -> ListState:
    """Returns the state that a copy with this token has reached.

    Raises:
        Gone: the token is another user's, or it is damaged.
    """
    if token is None:
        return BEGINNING
    packed, digest = token[: _STATE.size], token[_STATE.size :]
    if digest != _digest(owner, packed):
        raise outdated_token()
    return ListState(*_STATE.unpack(packed))


def _digest(owner: UserId, packed: bytes) -> bytes:
    return blake2s(packed + owner.encode(), digest_size=_DIGEST_BYTES).digest()
