"""Path segments: the path is split first and decoded afterwards.

A user's identifier is opaque and may contain a slash, which a client sends as `%2F`. Starlette routes on the decoded
path, where that slash has become a boundary. So the middleware makes the router see the path as it was sent, and the
convertor here decodes each segment after the path was split (RFC 3986, section 2.4).
"""

import re
from collections.abc import Container
from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope


def path_segment(text: str) -> str:
    """Returns `text` as one segment of a path.

    Dots alone are encoded, because clients remove `..` (RFC 3986, section 5.2.4).
    """
    segment = quote(text, safe="")
    return segment.replace(".", "%2E") if segment in (".", "..") else segment


_ROOT_PATH = re.compile("(?:/[A-Za-z0-9._~-]+)*")


class SegmentConvertor(Convertor[str]):
    """`{name:segment}` in a route's path: one segment, percent-decoded.

    Bytes that are not UTF-8 become lone surrogates, which no identifier contains.
    """

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value, errors="surrogateescape")

    def to_string(self, value: str) -> str:
        return path_segment(value)


def route_as_sent(scope: Scope) -> None:
    """Makes the router see the path as it was sent, except for a single trailing slash."""
    path: str = scope["raw_path"].decode("latin-1")
    scope["path"] = path[:-1] if path.endswith("/") and path != "/" else path


# --- behind a proxy, under a prefix


def check_root_path(root_path: str) -> str:
    """Returns `root_path` without the slash at its end. The root itself becomes the empty string.

    Raises:
        ValueError: It is not the path of a URL, or contains characters that proxies and browsers may encode.
    """
    if not root_path.startswith("/"):
        raise ValueError("must begin with a slash, like /prefix")
    trimmed = root_path.removesuffix("/")
    if not _ROOT_PATH.fullmatch(trimmed) or not {".", ".."}.isdisjoint(trimmed.split("/")):
        raise ValueError("must be a path like /prefix or /a/b, of letters, digits, and any of - . _ ~")
    return trimmed


def remove_root_path(scope: Scope, root_path: str, first_segments: Container[str]) -> None:
    """Removes `root_path` from the path that the router sees, if the proxy has passed it on.

    Stores it in the scope.

    A proxy may also have removed it. The path then seldom begins like `root_path`, but it can: behind `/api`, the tasks
    of a user begin with `/api` in both cases. So it is removed only in front of one of the service's `first_segments`.
    """
    scope["root_path"] = root_path
    path: str = scope["path"]
    if path == root_path:
        scope["path"] = "/"
    elif path.startswith(f"{root_path}/"):
        rest = path[len(root_path) :]
        if rest.split("/", 2)[1] in first_segments:
            scope["path"] = rest


def public_path(scope: Scope, path: str) -> str:
    """Returns `path` as clients must send it, for `Location` and `Link`: with the prefix that a proxy serves it under."""
    # A mount adds its own prefix to `root_path`.
    root_path: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root_path + path


register_url_convertor("segment", SegmentConvertor())
