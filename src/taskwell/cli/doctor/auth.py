"""Checks how tokens are verified, whether the keys are available, and whether a given token is accepted."""

import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import cast

import httpx2

from taskwell.auth.jwks import InvalidKeySet, parse_key_set
from taskwell.auth.jwks_client import DIRECTLY, FetchFailed, KeySet, fetch_from
from taskwell.auth.keys import Key, Keys, SharedSecret
from taskwell.auth.tokens import LEEWAY_SECONDS
from taskwell.cli.doctor.finding import Finding, shown, span
from taskwell.cli.doctor.token import examine_token
from taskwell.settings import Settings

_IGNORED = (
    "if these keys sign tokens, use Ed25519, EC P-256, P-384 or P-521, or RSA with 2048 to 8192 bits; give each a kid, "
    "and make sure that use, key_ops and alg allow signatures"
)
_NO_KEY_SET = (
    'use the URL of a key set, which returns {"keys": [...]}; Better Auth\'s is its base URL followed by /api/auth/jwks'
)
_NOT_REACHED = (
    "start the auth server, or correct BETTER_AUTH_URL or JWT_JWKS_URL; a firewall or a proxy may block the way"
)
_REMEDIES = {
    200: _NO_KEY_SET,
    404: "add Better Auth's jwt() plugin; if Better Auth is mounted at another path, put the path into BETTER_AUTH_URL",
    429: "wait a minute; if this repeats, raise the auth server's rate limit for this service's address",
    500: "read the auth server's log; Better Auth returns this until its own migration has created the table jwks",
}
_OTHER_STATUS = "read the auth server's log; key sets are public, so this URL must not require a login"
_REDIRECTED = "use the URL that it redirects to; redirects are not followed"
_CLOCK = "synchronise both clocks by NTP; a wrong clock makes tokens look expired or not yet valid"


@dataclass(slots=True)
class Fetched:
    """The outcome of fetching the key set."""

    url: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    responded_at: float = 0
    seconds: float = 0
    body: bytes = b""
    keys: Mapping[str, Key] = field(default_factory=dict[str, Key])
    failure: str = ""


async def examine_auth(settings: Settings, token: str | None) -> AsyncIterator[Finding]:
    """Checks how tokens are verified, the keys, the clock and, if given, the token."""
    yield Finding("ok", "auth", _mode(settings))
    keys: Keys
    kids: list[str] = []
    if settings.BETTER_AUTH_SECRET:
        keys = SharedSecret(settings.BETTER_AUTH_SECRET.get_secret_value())
    else:
        fetched = await _fetch(str(settings.key_set_url))
        for finding in (_key_set(fetched), *_clock(fetched)):
            yield finding
        keys, kids = await _kept(fetched), list(fetched.keys)
    if token is not None:
        async for finding in examine_token(token, settings, keys, kids):
            yield finding


def _mode(settings: Settings) -> str:
    how = "the auth server's key set" if settings.key_set_url else "a shared secret (HS256)"
    issuer = f"must have iss {shown(settings.issuer)}" if settings.issuer else "may have any iss"
    audience = (
        f"must have aud {' or '.join(map(shown, settings.audiences))}" if settings.audiences else "must not have aud"
    )
    return f"tokens are verified with {how}; they {issuer} and {audience}"


async def _fetch(url: str) -> Fetched:
    # The query string may hold a password, so the report leaves it out.
    fetched = Fetched(url.partition("?")[0])

    async def note(response: httpx2.Response) -> None:
        fetched.status, fetched.headers, fetched.responded_at = response.status_code, response.headers, time.time()

    async with httpx2.AsyncClient(mounts=DIRECTLY, event_hooks={"response": [note]}) as client:
        began = time.perf_counter()
        try:
            fetched.body = await fetch_from(url, client)()
            fetched.keys = parse_key_set(fetched.body)
        except FetchFailed as error:
            fetched.failure = str(error).replace(url, fetched.url)
        except InvalidKeySet as error:
            fetched.failure = f"the response of {fetched.url} is {error}"
        fetched.seconds = time.perf_counter() - began
    return fetched


async def _kept(fetched: Fetched) -> KeySet:
    async def fetch() -> bytes:
        if fetched.failure:
            raise FetchFailed(fetched.failure)
        return fetched.body

    keys = KeySet(fetch)
    await keys.refresh()
    return keys


def _key_set(fetched: Fetched) -> Finding:
    if fetched.failure:
        return Finding("fail", "key set", fetched.failure, _remedy(fetched.status))
    algorithms = ", ".join(sorted({"/".join(sorted(key.algorithms)) for key in fetched.keys.values()}))
    text = f"{len(fetched.keys)} usable ({algorithms}) from {fetched.url} in {fetched.seconds:.2f} s"
    entries = cast("list[object]", json.loads(fetched.body)["keys"])
    if ignored := len(entries) - len(fetched.keys):
        return Finding("warn", "key set", f"{text}; {ignored} ignored: {_other_kids(fetched.keys, entries)}", _IGNORED)
    return Finding("ok", "key set", text)


def _other_kids(usable: Mapping[str, Key], entries: Sequence[object]) -> str:
    kids = [cast("Mapping[str, object]", entry).get("kid") if isinstance(entry, dict) else None for entry in entries]
    others = [kid for kid in kids if kid not in list(usable)]
    return f"kid {' '.join(map(shown, others))}" if others else "a kid is used twice"


def _remedy(status: int) -> str:
    redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return _REDIRECTED if redirected else _REMEDIES.get(status, _OTHER_STATUS if status else _NOT_REACHED)


def _clock(fetched: Fetched) -> list[Finding]:
    """Compares the clock with the auth server's, if it responded. A response from a cache (RFC 9111, Age) has an old Date."""
    if not fetched.status:
        return []
    try:
        if "age" in fetched.headers:
            raise ValueError
        ahead = fetched.responded_at - parsedate_to_datetime(fetched.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return [Finding("warn", "clock", "the auth server's response has no usable Date to compare with", _CLOCK)]
    # The Date header has whole seconds.
    if abs(ahead) <= LEEWAY_SECONDS + 1:
        return [Finding("ok", "clock", f"within {LEEWAY_SECONDS} s of the auth server's clock")]
    direction = "ahead of" if ahead > 0 else "behind"
    return [Finding("warn", "clock", f"{span(abs(ahead))} {direction} the auth server's clock", _CLOCK)]
