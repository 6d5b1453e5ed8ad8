"""The keys that tokens are verified with.

A key brings its own algorithm: what a token's header asks for is compared with it, never obeyed
(RFC 8725, section 3.1).
"""

from dataclasses import dataclass, field
from typing import Protocol


class UnknownKey(Exception):
    """No key is known under the token's `kid`."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key and the one JWS algorithm (RFC 7518) that it is for."""

    algorithm: str
    material: bytes = field(repr=False)


class Keys(Protocol):
    """Where verification keys come from."""

    async def find(self, kid: str | None) -> Key:
        """The key for a token whose header names `kid`.

        Raises:
            UnknownKey: there is none.
        """
        ...


class SharedSecret:
    """One HS256 key, shared with whoever signs the tokens."""

    def __init__(self, secret: str) -> None:
        self._key = Key("HS256", secret.encode())

    async def find(self, kid: str | None) -> Key:
        """The one key there is, whatever the token calls it."""
        del kid
        return self._key
