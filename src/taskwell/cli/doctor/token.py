"""Explains a token: its user and expiry if it is accepted; otherwise the check that refuses it, and the remedy."""

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

# For each cause: what is wrong with the token, and how to fix it.
_REFUSALS: dict[Cause, tuple[str, str]] = {
    Cause.MALFORMED: ("{reason}", f"{_GET_ONE}, complete and with nothing around it; a session token does not work"),
    Cause.HEADER: ("{reason}", f"{_GET_ONE}; this one has another purpose, for example as the session cookie"),
    Cause.PURPOSE: ("{reason}", f"{_GET_ONE}, or an OAuth access token without DPoP or mutual TLS"),
    Cause.TIMES: ("{reason}", "sign tokens with an exp claim, and with times in seconds since 1970"),
    Cause.EXPIRED: ("it expired {expired} ago", "get a new token; if new tokens are refused too, correct the clocks"),
    Cause.NOT_YET_VALID: (
        "it is not valid yet: its iat is {iat}, its nbf is {nbf}, and this machine's time is {now}",
        "correct the clocks",
    ),
    Cause.ISSUER: (
        "its iss is {iss}, but must be {issuer}",
        "if that is your auth server, set BETTER_AUTH_URL (or JWT_ISSUER) to it; otherwise, get a token from yours",
    ),
    Cause.AUDIENCE: (
        "its aud is {aud}, but must be {audiences}",
        "if that audience is this service, set JWT_AUDIENCE to it; otherwise, get a token for this service",
    ),
    Cause.USER: (
        "its user_id is {user_id} and its sub is {sub}, which name no usable user",
        "sign tokens with 1 to 255 printable characters in one of the two claims, or with the same in both",
    ),
    Cause.UNKNOWN_KEY: (
        "its kid is {kid}, but the key set has {kids}",
        "get a new token; if it is refused too, the token comes from another auth server, or from another database",
    ),
    Cause.ALGORITHM: (
        "its alg is {alg}, which does not fit its key or is not allowed by JWT_ALGORITHM ({algorithms})",
        "correct or unset JWT_ALGORITHM, or sign tokens with an algorithm of the key",
    ),
    Cause.SIGNATURE: ("its signature was not made with the key {kid}", "{whose_signature}"),
}
_OTHER_SECRET = "set BETTER_AUTH_SECRET to the secret that signed the token"  # noqa: S105 - advice
_OTHER_KEY = "get a new token; this one was changed or cut off on its way, or somebody else signed it"
_KEY_SET_NEEDED = "unset BETTER_AUTH_SECRET and set BETTER_AUTH_URL, to verify tokens with the auth server's key set"
_SECRET_NEEDED = f"{_GET_ONE}; only if your auth server has no key set, set BETTER_AUTH_SECRET instead of its URL"


async def examine_token(token: str, settings: Settings, keys: Keys, kids: Sequence[str]) -> AsyncIterator[Finding]:
    """Reports the token's claims, and whether the service's own verifier accepts it."""
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
        yield Finding(
            "fail", "token", "everything but its signature is valid; checking that needs the key set", "see above"
        )
    else:
        user = shown(identity.user)
        place = _path(identity.user)
        text = f"accepted: its user is {user}, whose tasks are at {place}; {_left(claims)}{_scopes(identity)}"
        yield Finding("ok", "token", text)


def _verifier(settings: Settings, keys: Keys) -> Verifier:
    audiences, algorithms = settings.audiences, settings.JWT_ALGORITHM
    return Verifier(keys, issuer=settings.issuer, audiences=audiences, algorithms=algorithms)


def _claimed(header: Members, claims: Members) -> str:
    names = ("iss", "aud", "sub", "user_id", "iat", "exp")
    parts = [f"{name} {shown(header[name])}" for name in ("alg", "kid", "typ") if name in header]
    return ", ".join(parts + [f"{name} {_time(claims[name])}" for name in names if name in claims])


def _time(value: object) -> str:
    """Returns a number as a time in UTC, and anything else as JSON."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return shown(value)
    try:
        return datetime.fromtimestamp(math.floor(value), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return shown(value)


def _left(claims: Members) -> str:
    return f"it is valid for {span(max(0, cast('float', claims['exp']) - time.time()))}"


def _scopes(identity: Identity) -> str:
    if identity.scopes is None:
        return ""
    return f"; it is an OAuth access token with the scopes {shown(sorted(identity.scopes))}"


def _path(user: str) -> str:
    return f"/api/{quote(user, safe='')}/tasks"


def _refused(error: InvalidToken, header: Members, claims: Members, settings: Settings, kids: Sequence[str]) -> Finding:
    if remedy := _other_mode(header.get("alg"), settings):
        kind = "a private key" if settings.BETTER_AUTH_SECRET else "a shared secret"
        text = f"refused: its alg is {shown(header['alg'])}, so it was signed with {kind}"
        return Finding("fail", "token", text, remedy)
    text, remedy = _REFUSALS[error.cause]
    facts = _facts(header, claims, settings) | {"reason": str(error), "kids": shown(list(kids))}
    return Finding("fail", "token", "refused: " + text.format_map(facts), remedy.format_map(facts))


def _other_mode(alg: object, settings: Settings) -> str:
    """Returns the remedy for a token of the other mode. The name of the check that refuses it would be misleading."""
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
