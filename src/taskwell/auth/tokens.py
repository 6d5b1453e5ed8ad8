"""Verifying JSON Web Tokens (RFC 7519). This module knows nothing about HTTP.

The cheapest checks run first: the cache of verified tokens, the token's form, its header, its claims, its key and its
signature. Nothing in a token is trusted before its signature is verified. PyJWT checks the registered claims and the
signature. This module adds the checks that PyJWT leaves to its caller: padding, duplicate members, headers such as
`crit`, and the types of times.
"""

import base64
import json
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import NewType, cast

import jwt
from jwt.algorithms import OKPAlgorithm

from taskwell.auth.keys import Key, Keys, UnknownKey
from taskwell.auth.scopes import ACCESS_TOKEN_TYPE, granted_scopes

UserId = NewType("UserId", str)
"""A user's ID at the auth server: an opaque string of 1 to 255 characters."""

MAX_TOKEN_BYTES = 8 * 1024
MAX_USER_CHARACTERS = 255
LEEWAY_SECONDS = 5
MAX_TIME = 10**12
MAX_DEPTH = 16
CACHE_SIZE = 4096
CACHE_SECONDS = 300

_COMPACT = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+")
_TOKEN_TYPES = ("jwt", ACCESS_TOKEN_TYPE)
# An ID token proves a sign-in to an application (OpenID Connect Core, section 2). It is not for an API.
_ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash")
_UNUSABLE_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_signatures = jwt.PyJWS()
# RFC 9864 calls EdDSA with this curve "Ed25519".
_signatures.register_algorithm("Ed25519", OKPAlgorithm())

Members = dict[str, object]


class Cause(StrEnum):
    """Why a token was rejected. Appears in the log, never in a response."""

    MALFORMED = "malformed"
    HEADER = "header"
    PURPOSE = "purpose"
    TIMES = "times"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    USER = "user"
    UNKNOWN_KEY = "unknown_key"
    ALGORITHM = "algorithm"
    SIGNATURE = "signature"


class InvalidToken(Exception):
    """The token is not accepted. The message is for the log and contains no part of the token."""

    def __init__(self, cause: Cause, message: str) -> None:
        super().__init__(f"{cause}: {message}")
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Identity:
    """The user of a verified token, the scopes that limit what the token may do, and when it expires."""

    user: UserId
    scopes: frozenset[str] | None
    """The scopes of an OAuth access token. None for a session's token, which may do everything."""
    expires_at: float
    """In seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """An entry of the cache of verified tokens: the identity, the key that verified the token, and the expiry."""

    identity: Identity
    kid: str | None
    key: Key
    until: float


class Verifier:
    """Verifies tokens and caches the result.

    A token must match `issuer` and one of `audiences`, if they are given. Without `audiences`, a token that has an
    audience is rejected (RFC 7519, section 4.1.3). `algorithms`, if given, narrows the algorithms of the keys.
    """

    def __init__(
        self,
        keys: Keys,
        *,
        issuer: str | None = None,
        audiences: Sequence[str] = (),
        algorithms: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = keys
        self._issuer = issuer
        self._audiences = audiences
        self._algorithms = algorithms
        self._clock = clock
        self._verified_tokens: OrderedDict[bytes, _Verified] = OrderedDict()
        self.cache_hits = self.verifications = 0
        """How often a token was found in the cache, and how often one was verified."""
        self.refusals = Counter[Cause]()

    async def verify(self, token: str) -> Identity:
        """Returns the token's user and scopes.

        Raises:
            InvalidToken: The token is malformed, has a wrong signature, is expired or not valid yet, is meant for
                another service, or names no user.
            KeysUnavailable: There are no keys to verify the token with.
        """
        if identity := self.cached(token):
            return identity
        verified = await self._verify(token)
        self._cache(token, verified)
        return verified.identity

    def cached(self, token: str) -> Identity | None:
        """Returns the identity of a token that was verified before.

        The entry is valid until it expires, and while the key set has the same key object.
        """
        digest = sha256(token.encode(errors="surrogateescape")).digest()
        verified = self._verified_tokens.get(digest)
        if verified is None:
            return None
        if self._clock() >= verified.until or self.keys.cached(verified.kid) is not verified.key:
            del self._verified_tokens[digest]
            return None
        self._verified_tokens.move_to_end(digest)
        self.cache_hits += 1
        return verified.identity

    async def _verify(self, token: str) -> _Verified:
        self.verifications += 1
        header, claims = read_unverified(token)
        _check_header(header)
        _check_purpose(claims)
        _check_types_of_times(claims)
        self._check_claims(token)
        expires_at = float(cast("float", claims["exp"]))
        identity = Identity(_user(claims), granted_scopes(_type(header), claims), expires_at)
        kid = cast("str | None", header.get("kid"))
        key = await self._key(kid, header.get("alg"))
        self._check_signature(token, str(header.get("alg")), key)
        until = min(expires_at, self._clock() + CACHE_SECONDS)
        return _Verified(identity, kid, key, until)

    def _check_claims(self, token: str) -> None:
        try:
            jwt.decode(
                token,
                issuer=self._issuer,
                audience=self._audiences or None,
                leeway=LEEWAY_SECONDS,
                options={
                    "verify_signature": False,
                    "require": ["exp"],
                    "verify_exp": True,
                    "verify_nbf": True,
                    "verify_iat": True,
                    "verify_iss": True,
                    "verify_aud": True,
                },
            )
        except jwt.InvalidTokenError as error:
            raise InvalidToken(_cause(error), str(error)) from None

    async def _key(self, kid: str | None, algorithm: object) -> Key:
        try:
            return await self.keys.get(kid)
        except UnknownKey:
            raise InvalidToken(Cause.UNKNOWN_KEY, _unknown_key(kid, algorithm)) from None

    def _check_signature(self, token: str, algorithm: str, key: Key) -> None:
        if algorithm not in key.algorithms or (self._algorithms and algorithm not in self._algorithms):
            raise InvalidToken(Cause.ALGORITHM, "its algorithm does not fit its key or is not in JWT_ALGORITHM")
        try:
            _signatures.decode(token, key.material, algorithms=[algorithm])
        except jwt.PyJWTError as error:
            raise InvalidToken(Cause.SIGNATURE, str(error)) from None

    def _cache(self, token: str, verified: _Verified) -> None:
        self._verified_tokens[sha256(token.encode()).digest()] = verified
        if len(self._verified_tokens) > CACHE_SIZE:
            self._verified_tokens.popitem(last=False)


_CAUSES: dict[type[jwt.InvalidTokenError], Cause] = {
    jwt.ExpiredSignatureError: Cause.EXPIRED,
    jwt.ImmatureSignatureError: Cause.NOT_YET_VALID,
    jwt.InvalidIssuerError: Cause.ISSUER,
    jwt.InvalidAudienceError: Cause.AUDIENCE,
}


def _cause(error: jwt.InvalidTokenError) -> Cause:
    if isinstance(error, jwt.MissingRequiredClaimError):
        return {"exp": Cause.TIMES, "iss": Cause.ISSUER, "aud": Cause.AUDIENCE}[error.claim]
    return _CAUSES.get(type(error), Cause.MALFORMED)


def read_unverified(token: str) -> tuple[Members, Members]:
    """Returns the header and the claims of a token without verifying its signature.

    Raises:
        InvalidToken: The token is malformed.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken(Cause.MALFORMED, "longer than 8 KiB")
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise InvalidToken(Cause.MALFORMED, "not three base64url parts")
    return _members(_decode(parts[1])), _members(_decode(parts[2]))


def _decode(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except ValueError:
        raise InvalidToken(Cause.MALFORMED, "not base64url") from None


def _members(text: bytes) -> Members:
    """Parses a JSON object without duplicate members (RFC 7515, section 4; RFC 7519, section 4)."""
    try:
        members = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise InvalidToken(Cause.MALFORMED, "not JSON") from None
    if not isinstance(members, dict) or _is_deeper_than(MAX_DEPTH, cast("Members", members)):
        raise InvalidToken(Cause.MALFORMED, "not a JSON object, or nested too deeply")
    return cast("Members", members)


def _is_deeper_than(levels: int, value: object) -> bool:
    # A limit of our own, because Python's recursion limit differs between versions.
    if not isinstance(value, dict | list):
        return False
    parts = cast("Members", value).values() if isinstance(value, dict) else cast("list[object]", value)
    return levels == 0 or any(_is_deeper_than(levels - 1, part) for part in parts)


def _unique(pairs: list[tuple[str, object]]) -> Members:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate members")
    return members


def _check_header(header: Members) -> None:
    """Rejects headers that change how a token must be read, and tokens of another type."""
    for name in ("crit", "b64", "zip"):
        if name in header:
            raise InvalidToken(Cause.HEADER, f"its header has {name}")
    if "kid" in header and not isinstance(header["kid"], str):
        raise InvalidToken(Cause.HEADER, "its kid is not a string")
    if "typ" in header and _type(header) not in _TOKEN_TYPES:
        raise InvalidToken(Cause.HEADER, "its typ is not JWT or at+jwt")


def _type(header: Members) -> str | None:
    """Returns the `typ` in lower case and without the prefix `application/` (RFC 7515, section 4.1.9)."""
    return str(header["typ"]).lower().removeprefix("application/") if "typ" in header else None


def _check_purpose(claims: Members) -> None:
    """Rejects tokens that the auth server signs with the same keys, but for a purpose other than calling an API."""
    if "cnf" in claims:
        # RFC 7800: only the holder of another key may use the token, and this API cannot check that key.
        raise InvalidToken(Cause.PURPOSE, "it is bound to a key by cnf")
    if "events" in claims:
        # RFC 8417; a logout token is one too (OpenID Connect Back-Channel Logout, section 2.4).
        raise InvalidToken(Cause.PURPOSE, "it has events, so it is a logout token or another security event")
    if any(name in claims for name in _ID_TOKEN_CLAIMS):
        raise InvalidToken(Cause.PURPOSE, "it is an ID token")


def _unknown_key(kid: str | None, algorithm: object) -> str:
    if str(algorithm).startswith("HS"):
        return "it is signed with a shared secret, but this service verifies tokens with a key set"
    return "the key set has no key with its kid" if kid is not None else "it has no kid to choose a key by"


def _check_types_of_times(claims: Members) -> None:
    """Rejects times that are not numbers (RFC 7519, section 2, NumericDate). PyJWT would accept a string of digits."""
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        # `not abs(value) < MAX_TIME` also rejects NaN, because every comparison with NaN is false.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_TIME:
            raise InvalidToken(Cause.TIMES, f"its {name} is not a number, or is too large")


def _user(claims: Members) -> UserId:
    """Returns the `user_id` claim, or `sub` if it is absent. If a token has both, they must be equal."""
    user = claims.get("user_id", claims.get("sub"))
    if claims.get("sub", user) != user:
        raise InvalidToken(Cause.USER, "its user_id and sub differ")
    if user is not None and claims.get("client_id") == user:
        # RFC 9068, section 2.2: without a user, as in the client credentials grant, `sub` is the client.
        raise InvalidToken(Cause.USER, "it belongs to a client, not to a user")
    if not isinstance(user, str) or not is_usable_user(user):
        raise InvalidToken(Cause.USER, "it names no usable user")
    return UserId(user)


def is_usable_user(user: str) -> bool:
    """Returns whether a user's identifier has 1 to 255 characters, all of them printable."""
    return 1 <= len(user) <= MAX_USER_CHARACTERS and not _UNUSABLE_CHARACTER.search(user)
