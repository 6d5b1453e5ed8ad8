"""How a log line names its request: the request's id, the client's address, the method and the path."""

import re

from starlette.types import Scope

MAX_LOGGED_PATH = 256

UNKNOWN = "-"

_NOT_PRINTABLE = re.compile("[^!-~]")


def request_name(request_id: str, client: str, method: str, raw_path: bytes) -> str:
    """Returns `request_id=… client=… GET /path`. The path is the client's text, so it is cut and escaped."""
    return f"request_id={request_id} client={client} {method} {_printable(raw_path)}"


def name_of(scope: Scope) -> str:
    """Returns the name of the request of `scope`."""
    state = scope["state"]
    # A HEAD request runs as GET.
    method = state.get("method", scope["method"])
    return request_name(state.get("request_id", UNKNOWN), client_of(scope), method, scope["raw_path"])


def client_of(scope: Scope) -> str:
    """Returns the client's IP address."""
    client: tuple[str, int] | None = scope.get("client")
    return client[0] if client else UNKNOWN


def _printable(raw_path: bytes) -> str:
    """Percent-encodes everything but printable ASCII: a line break or an escape sequence would forge the log."""
    path = raw_path[:MAX_LOGGED_PATH]
    if path.isascii() and (text := path.decode()).isprintable() and " " not in text:
        return text or UNKNOWN
    return _NOT_PRINTABLE.sub(lambda byte: f"%{ord(byte[0]):02X}", path.decode("latin-1"))[:MAX_LOGGED_PATH]
