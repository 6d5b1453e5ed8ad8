"""Verifying JSON Web Tokens (RFC 7519). Knows no HTTP.

Each check is cheaper than the next, and a token has to be exactly what RFC 7515 describes before
anything about it is believed. PyJWT checks the signature and the registered claims; in front of it stand the
checks that it leaves to its caller (types of the times, duplicate members, `crit` and its kin).
"""

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, cast

import jwt

from taskwell.auth.keys import Keys, UnknownKey

UserId = NewType("UserId", str)
"""A user's identifier at the auth server: opaque, 1 to 255 characters."""

MAX_TOKEN_BYTES = 8 * 1024
MAX_USER_CHARACTERS = 255
LEEWAY_SECONDS = 5

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_TOKEN_TYPES = ("jwt", "at+jwt")
_UNUSABLE_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

Members = dict[str, object]


class InvalidToken(Exception):
    """The token is not accepted; the message is the cause, for the log."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """Decides whose a token is.

    `issuer` and `audiences`, where given, must be matched. A token for an audience is refused where none
    is configured, as RFC 7519, section 4.1.3 demands.
    """

    keys: Keys
    issuer: str | None = None
    audiences: Sequence[str] = ()

    async def verify(self, token: str) -> UserId:
        """The user whose token this is.

        Raises:
            InvalidToken: it is malformed, wrongly signed, expired or not yet valid, for somebody else, or names no user.
        """
        header, claims = _read(token)
        _check_header(header)
        try:
            key = await self.keys.find(cast("str | None", header.get("kid")))
        except UnknownKey:
            raise InvalidToken("no key is known under its kid") from None
        if header.get("alg") != key.algorithm:
            raise InvalidToken("its algorithm is not its key's")
        _check_times(claims)
        try:
            jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                issuer=self.issuer,
                audience=self.audiences or None,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp"], "strict_aud": False},
            )
        except jwt.InvalidTokenError as error:
            raise InvalidToken(f"{type(error).__name__}: {error}") from None
        return _user(claims)


def _read(token: str) -> tuple[Members, Members]:
    """Header and claims, not yet verified."""
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken("longer than 8 KiB")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise InvalidToken("not three base64url parts")
    header, claims, signature = (_decode(part) for part in parts.groups())
    del signature  # decoded to see that it is canonical
    return _members(header), _members(claims)


def _decode(part: str) -> bytes:
    """Base64url without padding, in its one canonical spelling (RFC 4648, section 3.5)."""
    try:
        data = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise InvalidToken("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part.encode():
        raise InvalidToken("not canonical base64url")
    return data


def _members(text: bytes) -> Members:
    """A JSON object without duplicate members (RFC 7515, section 4; RFC 7519, section 4)."""
    try:
        members = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise InvalidToken("not JSON") from None
    if not isinstance(members, dict):
        raise InvalidToken("not a JSON object")
    return cast("Members", members)


def _unique(pairs: list[tuple[str, object]]) -> Members:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate members")
    return members


def _check_header(header: Members) -> None:
    """Refuses what changes the meaning of a token, and what is no access token."""
    for name in ("crit", "b64", "zip"):
        if name in header:
            raise InvalidToken(f"its header has {name}")
    if "kid" in header and not isinstance(header["kid"], str):
        raise InvalidToken("its kid is not a string")
    if "typ" in header and str(header["typ"]).lower().removeprefix("application/") not in _TOKEN_TYPES:
        raise InvalidToken("its typ is not JWT")


def _check_times(claims: Members) -> None:
    """Times are numbers (RFC 7519, section 2, NumericDate); PyJWT would also read a string of digits."""
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidToken(f"its {name} is not a number")


def _user(claims: Members) -> UserId:
    """The `user_id` claim, or else `sub`; where both are there, they agree."""
    user = claims.get("user_id", claims.get("sub"))
    if claims.get("sub", user) != user:
        raise InvalidToken("its user_id and sub disagree")
    if not isinstance(user, str) or not 1 <= len(user) <= MAX_USER_CHARACTERS or _UNUSABLE_CHARACTER.search(user):
        raise InvalidToken("it names no usable user")
    return UserId(user)
