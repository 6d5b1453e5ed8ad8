"""Where an auth server is, and what follows from that."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_BETTER_AUTH_PATH = "/api/auth"
_NEVER_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f#\\]")
_NO_URL = "is no URL to fetch from; write it like https://app.example"


@dataclass(frozen=True, slots=True)
class AuthSite:
    """An auth server's origin, which is the issuer and the audience of its tokens, and the URL of its key set."""

    origin: str
    key_set_url: str


def parse_site(url: str) -> AuthSite:
    """What follows from Better Auth's base URL, which is where its routes are if it has a path.

    Raises:
        ValueError: it is no such URL; the message says what to write.
    """
    parts = urlsplit(check_url(url))
    if parts.query:
        raise ValueError("has a query; write only where Better Auth is: https://app.example")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    origin = f"{parts.scheme}://{host}{port}"
    return AuthSite(origin, f"{origin}{parts.path.rstrip('/') or _BETTER_AUTH_PATH}/jwks")


def check_url(url: str) -> str:
    """`url`, if keys may be fetched from it: whoever can change them on their way can be anybody.

    Raises:
        ValueError: they may not; the message says what to write.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(_NO_URL) from None
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc or _NEVER_IN_URLS.search(url):
        raise ValueError(_NO_URL)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("must begin with https://, unless it is on this machine")
    return url
