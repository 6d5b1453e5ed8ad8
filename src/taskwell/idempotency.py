"""The values of the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), and of `key` in a batch."""

import re

NOT_A_KEY = "must have 1 to 255 visible ASCII characters, or be a quoted string of them"

KEY_PATTERN = '^([!#-~][!-~]*|"[!#-Z^-~]+")$'
"""The common forms, for JSON Schema."""

_KEY = re.compile(r"[\x21-\x7e]{1,255}")
# The form of the draft: a string of RFC 9651, section 3.3.3.
_QUOTED_KEY = re.compile(r'"(?:[^"\\]|\\["\\])*"')
_ESCAPED = re.compile(r'\\(["\\])')


class MalformedKeyError(ValueError):
    """A text is not a key."""


def parse_key(text: str) -> str:
    """Returns the key that `text` is, without the quotes of the draft's form.

    Raises:
        MalformedKeyError: `text` is not a key.
    """
    key = text
    if key.startswith('"'):
        key = _ESCAPED.sub(r"\1", key[1:-1]) if _QUOTED_KEY.fullmatch(key) else ""
    if not _KEY.fullmatch(key):
        raise MalformedKeyError(text)
    return key
