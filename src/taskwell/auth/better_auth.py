"""The URL of an auth server, and the issuer, audience and key set URL that follow from it."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from taskwell.auth.addresses import is_private

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_BETTER_AUTH_PATH = "/api/auth"
_NEVER_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f#\\]")
_HOST_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?")
_ADDRESS = re.compile(r"[0-9.]+|[0-9a-f:.]*:[0-9a-f:.]*")
_NOT_A_HOST = "is not a host; write only its name, without scheme, port and path: auth.railway.internal"
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
    if parts.path.rstrip("/").endswith("/jwks"):
        raise ValueError("is the URL of a key set; write Better Auth's base URL here, or set JWT_JWKS_URL")
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{parts.port}"
    origin = f"{parts.scheme}://{host}{port}"
    return AuthServer(origin, f"{origin}{parts.path.rstrip('/') or _BETTER_AUTH_PATH}/jwks")


def check_key_set_url(url: str) -> str:
    """Returns `url` if keys can be fetched from it.

    Raises:
        ValueError: Keys cannot be fetched from it. The message says what to write.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    if not parts.hostname or parts.scheme not in _DEFAULT_PORTS or "@" in parts.netloc or _NEVER_IN_URLS.search(url):
        raise ValueError(_NOT_A_URL)
    return url


def check_encryption(url: str, http_hosts: Collection[str]) -> None:
    """Rejects plain http, except to this machine and to `http_hosts`.

    Anybody who can change the keys on the network can pose as any user.

    Raises:
        ValueError: The URL must be https.
    """
    parts = urlsplit(url)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK and parts.hostname not in http_hosts:
        raise ValueError(
            "must begin with https://, unless the auth server runs on this machine; "
            "on a private network, name its host in TASKWELL_ALLOW_HTTP_KEY_SET"
        )


def check_http_host(host: str) -> str:
    """Returns `host` in lower case if plain http may be allowed for it: a host name, or a private IP address.

    A host name is accepted without a lookup, because its address may change. Every fetch checks the address.

    Raises:
        ValueError: The host is a public address or not a host. The message says what to write.
    """
    host = host.lower()
    if not _ADDRESS.fullmatch(host):
        if not _HOST_NAME.fullmatch(host):
            raise ValueError(_NOT_A_HOST)
        return host
    try:
        private = is_private(host)
    except ValueError:
        raise ValueError(_NOT_A_HOST) from None
    if not private:
        raise ValueError("is not a private address; use https for it")
    return host
