"""How the log describes a request: as fields of a JSON record, and as a name in a line of text."""

import re
from typing import TypedDict

from starlette.types import Scope

MAX_LOGGED_PATH = 256

UNKNOWN = "-"

_NOT_PRINTABLE = re.compile("[^!-~]")


class RequestFields(TypedDict):
    """A request in a record of the log. docs/telemetry.md describes the fields."""

    request_id: str
    trace_id: str | None
    user_id: str | None
    client: str
    method: str
    route: str | None
    path: str
    error_code: str | None


class RequestName(str):
    """The name of a request in a line of text, and its `fields` for a JSON record.

    A message about a request begins with `%s` for the name. A JSON record has the fields instead.
    """

    __slots__ = ("fields",)
    fields: RequestFields


def request_name(request_id: str, client: str, method: str, raw_path: bytes) -> str:
    """Returns `request_id=… client=… GET /path`. The path is the client's text, so it is cut and escaped."""
    return f"request_id={request_id} client={client} {method} {printable_path(raw_path)}"


def name_of(scope: Scope) -> RequestName:
    """Returns the name of the request of `scope`, with what is known about it now."""
    state = scope["state"]
    # A HEAD request runs as GET.
    method = state.get("method", scope["method"])
    request_id, client = state.get("request_id", UNKNOWN), client_of(scope)
    name = RequestName(request_name(request_id, client, method, scope["raw_path"]))
    name.fields = {
        "request_id": request_id,
        "trace_id": state.get("trace_id"),
        "user_id": state.get("owner"),
        "client": client,
        "method": method,
        "route": state.get("route"),
        "path": printable_path(scope["raw_path"]),
        "error_code": state.get("error_code"),
    }
    return name


def client_of(scope: Scope) -> str:
    """Returns the client's IP address."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else UNKNOWN


def printable_path(raw_path: bytes) -> str:
    """Percent-encodes everything but printable ASCII: a line break or an escape sequence would forge the log."""
    path = raw_path[:MAX_LOGGED_PATH]
    if path.isascii() and (text := path.decode()).isprintable() and " " not in text:
        return text or UNKNOWN
    return _NOT_PRINTABLE.sub(lambda byte: f"%{ord(byte[0]):02X}", path.decode("latin-1"))[:MAX_LOGGED_PATH]
