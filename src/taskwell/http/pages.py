"""Cursors and `Link` headers: how a client walks through a list page by page."""

from base64 import b64decode, urlsafe_b64encode
from collections.abc import Mapping
from typing import cast
from urllib.parse import urlencode

import orjson
from starlette.types import Scope

from taskwell.http.segments import public_path

MAX_CURSOR = 2048


def encode_cursor(*parts: object) -> str:
    """Returns a text that is opaque to clients and safe in a URL."""
    return urlsafe_b64encode(orjson.dumps(parts)).rstrip(b"=").decode()


def decode_cursor(text: str) -> list[object]:
    """Returns the parts that made the cursor, as JSON values. A client may have forged it, so check them.

    Raises:
        ValueError: it is not a cursor.
    """
    parts: object = orjson.loads(b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
    if not isinstance(parts, list):
        raise ValueError(text)  # noqa: TRY004 - all mistakes in a cursor are one error
    return cast("list[object]", parts)


def link(scope: Scope, path: str, **targets: Mapping[str, object]) -> str:
    """Returns a `Link` header (RFC 8288): for each relation, `path` with the query parameters of its target."""
    base = public_path(scope, path)
    urls = {relation: f"{base}?{urlencode(query)}" if query else base for relation, query in targets.items()}
    return ", ".join(f'<{url}>; rel="{relation}"' for relation, url in urls.items())
