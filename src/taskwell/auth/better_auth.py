"""The URL of an auth server, and the issuer, audience and key set URL that follow from it."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_BETTER_AUTH_PATH = "/api/auth"
_NEVER_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f#\\]")
_NOT_A_URL = "is not a URL that keys can be fetched from; write it like https://app.example"


@dataclass(frozen=True, slots=True)
class AuthServer:
    """An auth server: its origin, which is the issuer and the audience of its tokens, and the URL of its key set."""

    origin: str
    key_set_url: str


def parse_auth_server_url(url: str) -> AuthServer:
    """Returns the auth server at Better Auth's base URL. A URL without a path means Better Auth's default path.

    Raises:
        ValueError: The URL cannot be used. The message says what to write.
    """
    parts = urlsplit(check_key_set_url(url))
    if parts.query:
        raise ValueError("has a query; write only the URL of Better Auth: https://app.example")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    origin = f"{parts.scheme}://{host}{port}"
    return AuthServer(origin, f"{origin}{parts.path.rstrip('/') or _BETTER_AUTH_PATH}/jwks")


def check_key_set_url(url: str) -> str:
    """Returns `url` if it is safe to fetch keys from: whoever can change the keys on the network can be any user.

    Raises:
        ValueError: The URL is not safe. The message says what to write.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc or _NEVER_IN_URLS.search(url):
        raise ValueError(_NOT_A_URL)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("must begin with https://, unless the auth server runs on this machine")
    return url
