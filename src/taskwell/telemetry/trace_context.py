"""The trace that a request belongs to, by the header `traceparent` (W3C Trace Context, level 1, section 3.2)."""

import re

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_LENGTH_OF_VERSION_00 = 55


def trace_id_of(traceparent: bytes) -> str | None:
    """Returns the trace id of a `traceparent`, or None if it is not valid. Only later versions may be longer."""
    match = _TRACEPARENT.fullmatch(traceparent)
    if match is None or (traceparent[:2] == b"00" and len(traceparent) != _LENGTH_OF_VERSION_00):
        return None
    return match[1].decode()
