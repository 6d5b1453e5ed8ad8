"""Whose is a token, and until when; or which check refuses it, and how is that mended?"""

import math
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote

from taskwell.auth.jwks import ASYMMETRIC_ALGORITHMS
from taskwell.auth.keys import Keys, KeysUnavailable
from taskwell.auth.tokens import Cause, Identity, InvalidToken, Members, Verifier, read_unverified
from taskwell.cli.doctor.finding import Finding, shown, span
from taskwell.settings import Settings

_GET_ONE = "send a token from Better Auth's GET /api/auth/token"

# What a check has found, in terms of the token and the settings, and what to do about it.
_REFUSALS: dict[Cause, tuple[str, str]] = {
    Cause.MALFORMED: ("{reason}", f"{_GET_ONE}, whole and with nothing around it; a session token is something else"),
    Cause.HEADER: ("{reason}", f"{_GET_ONE}; this one is for another use, such as the session cookie"),
    Cause.PURPOSE: ("{reason}", f"{_GET_ONE}, or an OAuth access token without DPoP or mutual TLS"),
    Cause.TIMES: ("{reason}", "let it be signed with an exp, and with times in seconds since 1970"),
    Cause.EXPIRED: ("it expired {expired} ago", "get a new one; if new ones are refused too, set the clocks right"),
    Cause.NOT_YET_VALID: ("it is from the future: iat {iat}, nbf {nbf}; here it is {now}", "set the clocks right"),
    Cause.ISSUER: (
        "its iss is {iss}, and must be {issuer}",
        "if that is your auth server, set BETTER_AUTH_URL (or JWT_ISSUER) so; else get a token from the right one",
    ),
    Cause.AUDIENCE: (
        "its aud is {aud}, and must be {audiences}",
        "if that means this service, set JWT_AUDIENCE so; else get a token that is for it",
    ),
    Cause.USER: (
        "its user_id is {user_id}, its sub {sub}: no usable user",
        "let it be signed with a string of 1 to 255 printable characters in one of them, or the same in both",
    ),
    Cause.UNKNOWN_KEY: (
        "its kid is {kid}, and the key set has {kids}",
        "get a new token; if that is refused too, key set and token come from two auth servers, or two databases of one",
    ),
    Cause.ALGORITHM: (
        "its alg is {alg}, which its key is not for, or JWT_ALGORITHM ({algorithms}) does not allow",
        "correct or unset JWT_ALGORITHM, or let it be signed by an algorithm of its key",
    ),
    Cause.SIGNATURE: ("its signature is not of the key {kid}", "{whose_signature}"),
}
_OTHER_SECRET = "set BETTER_AUTH_SECRET to the very secret that it was signed with"  # noqa: S105 - advice
_OTHER_KEY = "get a new token: this one was changed or cut on its way, or somebody else signed it"
_KEY_SET_NEEDED = (
    "unset BETTER_AUTH_SECRET and set BETTER_AUTH_URL, so that it is verified by the auth server's key set"
)
_SECRET_NEEDED = f"{_GET_ONE}; only if your auth server has no key set, set BETTER_AUTH_SECRET instead of its URL"


async def examine_token(token: str, settings: Settings, keys: Keys, kids: Sequence[str]) -> AsyncIterator[Finding]:
    """What the token says, and what the service's own verifier says of it."""
    try:
        header, claims = read_unverified(token)
    except InvalidToken as error:
        yield _refused(error, {}, {}, settings, kids)
        return
    yield Finding("ok", "token says", _claimed(header, claims))
    try:
        identity = await _verifier(settings, keys).verify(token)
    except InvalidToken as error:
        yield _refused(error, header, claims, settings, kids)
    except KeysUnavailable:
        yield Finding("fail", "token", "all but its signature is well; for that the key set is missing", "see above")
    else:
        user = identity.user
        yield Finding(
            "ok",
            "token",
            f"accepted: of user {shown(user)}, whose tasks are at {_path(user)}; {_left(claims)}{_scopes(identity)}",
        )


def _verifier(settings: Settings, keys: Keys) -> Verifier:
    audiences, algorithms = settings.audiences, settings.JWT_ALGORITHM
    return Verifier(keys, issuer=settings.issuer, audiences=audiences, algorithms=algorithms)


def _claimed(header: Members, claims: Members) -> str:
    names = ("iss", "aud", "sub", "user_id", "iat", "exp")
    parts = [f"{name} {shown(header[name])}" for name in ("alg", "kid", "typ") if name in header]
    return ", ".join(parts + [f"{name} {_time(claims[name])}" for name in names if name in claims])


def _time(value: object) -> str:
    """A number as the time that it stands for; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shown(value)
    try:
        return datetime.fromtimestamp(math.floor(value), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return shown(value)


def _left(claims: Members) -> str:
    return f"valid for {span(max(0, cast('float', claims['exp']) - time.time()))}"


def _scopes(identity: Identity) -> str:
    if identity.scopes is None:
        return ""
    return f"; an access token with the scopes {', '.join(sorted(identity.scopes)) or 'none'}"


def _path(user: str) -> str:
    return f"/api/{quote(user, safe='')}/tasks"


def _refused(error: InvalidToken, header: Members, claims: Members, settings: Settings, kids: Sequence[str]) -> Finding:
    if remedy := _other_mode(header.get("alg"), settings):
        kind = "with a private key" if settings.BETTER_AUTH_SECRET else "with a shared secret"
        return Finding("fail", "token", f"refused: its alg is {shown(header['alg'])}, so it was signed {kind}", remedy)
    text, remedy = _REFUSALS[error.cause]
    facts = _facts(header, claims, settings) | {"reason": str(error), "kids": shown(list(kids))}
    return Finding("fail", "token", "refused: " + text.format_map(facts), remedy.format_map(facts))


def _other_mode(alg: object, settings: Settings) -> str:
    """What to do about a token for the other way of verifying; the check that is in fact the first would mislead."""
    if settings.BETTER_AUTH_SECRET:
        return _KEY_SET_NEEDED if alg in list(ASYMMETRIC_ALGORITHMS) else ""
    return _SECRET_NEEDED if str(alg).startswith("HS") else ""


def _facts(header: Members, claims: Members, settings: Settings) -> dict[str, str]:
    names = ("iss", "aud", "sub", "user_id")
    exp = claims.get("exp")
    return {
        **{name: shown(claims[name]) if name in claims else "absent" for name in names},
        **{name: _time(claims[name]) if name in claims else "absent" for name in ("iat", "nbf")},
        **{name: shown(header[name]) if name in header else "absent" for name in ("alg", "kid")},
        "expired": span(time.time() - exp) if isinstance(exp, int | float) else "",
        "now": _time(time.time()),
        "issuer": shown(settings.issuer),
        "audiences": " or ".join(map(shown, settings.audiences)) or "absent",
        "algorithms": ", ".join(settings.JWT_ALGORITHM) or "unset",
        "whose_signature": _OTHER_SECRET if settings.BETTER_AUTH_SECRET else _OTHER_KEY,
    }
