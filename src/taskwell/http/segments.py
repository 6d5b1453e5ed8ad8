"""Path segments, cut before they are decoded.

A user's identifier is opaque and may hold a slash, which a client sends as `%2F`. Starlette routes on
the decoded path, where that slash has become a boundary. The outer layer therefore routes on the path
as it was sent, and the convertor here decodes each segment after the cut (RFC 3986, section 2.4).
"""

from urllib.parse import quote, unquote

from starlette.convertors import Convertor, register_url_convertor
from starlette.types import Scope


def path_segment(text: str) -> str:
    """Returns `text` as one segment of a path. Dots alone are encoded, because clients remove `..` (RFC 3986, section 5.2.4)."""
    segment = quote(text, safe="")
    return segment.replace(".", "%2E") if segment in (".", "..") else segment


class SegmentConvertor(Convertor[str]):
    """`{name:segment}` in a route's path: one segment, percent-decoded.

    Bytes that are no UTF-8 become lone surrogates, which no identifier contains.
    """

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value, errors="surrogateescape")

    def to_string(self, value: str) -> str:
        return path_segment(value)


def route_as_sent(scope: Scope) -> None:
    """Makes the router see the path as it was sent, a single trailing slash apart."""
    path: str = scope["raw_path"].decode("latin-1")
    scope["path"] = path[:-1] if path.endswith("/") and path != "/" else path


register_url_convertor("segment", SegmentConvertor())
