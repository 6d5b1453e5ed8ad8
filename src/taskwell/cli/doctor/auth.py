"""How are tokens verified, are the keys for it at hand, and is this token accepted?"""

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

_LEFT_OUT = (
    "if they sign tokens, make them Ed25519, EC P-256, P-384 or P-521, or RSA of 2048 to 8192 bits, with a kid, "
    "and nothing in use, key_ops or alg that contradicts this"
)
_NO_KEY_SET = (
    'write the URL of a key set, which answers {"keys": [...]}; Better Auth\'s is its base URL and /api/auth/jwks'
)
_NOT_REACHED = (
    "start the auth server, or correct BETTER_AUTH_URL or JWT_JWKS_URL; a firewall or proxy may stand between"
)
_REMEDIES = {
    200: _NO_KEY_SET,
    404: "write the path that Better Auth is mounted at into BETTER_AUTH_URL, and give Better Auth the plugin jwt()",
    429: "wait a minute, and let the auth server limit this service's address less",
    500: "read the auth server's log; Better Auth answers so until its own migration has made the table jwks",
}
_OTHER_STATUS = "read the auth server's log; key sets are public, and nothing may ask for a login before them"
_REDIRECTED = "write the URL that it redirects to; redirects are not followed"
_CLOCK = "keep both clocks right by NTP; if they differ, tokens seem expired, or not yet valid"


@dataclass(slots=True)
class Fetched:
    """What came of asking for the key set."""

    url: str
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    answered_at: float = 0
    seconds: float = 0
    body: bytes = b""
    keys: Mapping[str, Key] = field(default_factory=dict[str, Key])
    failure: str = ""


async def examine_auth(settings: Settings, token: str | None) -> AsyncIterator[Finding]:
    """How tokens are verified, the keys, the clock, and, where one is given, the token."""
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
    how = "the auth server's key set" if settings.key_set_url else "a shared secret, HS256"
    issuer = f"with iss {shown(settings.issuer)}" if settings.issuer else "with any iss"
    audience = f"with aud {' or '.join(map(shown, settings.audiences))}" if settings.audiences else "without aud"
    return f"tokens are verified by {how}, {issuer} and {audience}"


async def _fetch(url: str) -> Fetched:
    # What follows a ? may be a password, of a sort.
    fetched = Fetched(url.partition("?")[0])

    async def note(response: httpx2.Response) -> None:
        fetched.status, fetched.headers, fetched.answered_at = response.status_code, response.headers, time.time()

    async with httpx2.AsyncClient(mounts=DIRECTLY, event_hooks={"response": [note]}) as client:
        began = time.perf_counter()
        try:
            fetched.body = await fetch_from(url, client)()
            fetched.keys = parse_key_set(fetched.body)
        except FetchFailed as error:
            fetched.failure = str(error).replace(url, fetched.url)
        except InvalidKeySet as error:
            fetched.failure = f"what {fetched.url} answers is {error}"
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
    if left_out := len(entries) - len(fetched.keys):
        return Finding(
            "warn", "key set", f"{text}; {left_out} left out: {_kids_besides(fetched.keys, entries)}", _LEFT_OUT
        )
    return Finding("ok", "key set", text)


def _kids_besides(usable: Mapping[str, Key], entries: Sequence[object]) -> str:
    kids = [cast("Mapping[str, object]", entry).get("kid") if isinstance(entry, dict) else None for entry in entries]
    besides = [kid for kid in kids if kid not in list(usable)]
    return f"kid {' '.join(map(shown, besides))}" if besides else "a kid comes twice"


def _remedy(status: int) -> str:
    redirected = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST
    return _REDIRECTED if redirected else _REMEDIES.get(status, _OTHER_STATUS if status else _NOT_REACHED)


def _clock(fetched: Fetched) -> list[Finding]:
    """This machine's clock by the auth server's, if that answered; a cache between would have an old answer."""
    if not fetched.status:
        return []
    try:
        if "age" in fetched.headers:
            raise ValueError
        ahead = fetched.answered_at - parsedate_to_datetime(fetched.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return [Finding("warn", "clock", "the auth server's answer has no time to compare with", _CLOCK)]
    # Dates have whole seconds.
    if abs(ahead) <= LEEWAY_SECONDS + 1:
        return [Finding("ok", "clock", f"agrees with the auth server's to within {LEEWAY_SECONDS} s")]
    direction = "ahead of" if ahead > 0 else "behind"
    return [Finding("warn", "clock", f"{span(abs(ahead))} {direction} the auth server's", _CLOCK)]
