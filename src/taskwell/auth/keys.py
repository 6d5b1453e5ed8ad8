"""The keys that tokens are verified with, and the two places they come from: a shared secret, or a key set.

A key brings its own algorithms: what a token's header asks for is compared with them, never obeyed
(RFC 8725, section 3.1).
"""

from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Material = bytes | Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class UnknownKey(Exception):
    """No key is known under the token's `kid`."""


class KeysUnavailable(Exception):
    """No key is at hand at all, and none can be had."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key and the JWS algorithms (RFC 7518) that it is for."""

    algorithms: frozenset[str]
    material: Material = field(repr=False)


class Keys(Protocol):
    """Where verification keys come from."""

    @property
    def ready(self) -> bool:
        """Whether there is a key at hand."""
        ...

    def find(self, kid: str | None) -> Key | None:
        """The key that tokens call `kid`, if it is at hand."""
        ...

    async def seek(self, kid: str | None) -> Key:
        """The key that tokens call `kid`, if need be from far away.

        Raises:
            UnknownKey: there is none.
            KeysUnavailable: there is no telling.
        """
        ...


class SharedSecret:
    """One HS256 key, shared with whoever signs the tokens. It is the one key there is, whatever a token calls it."""

    ready = True

    def __init__(self, secret: str) -> None:
        self._key = Key(frozenset({"HS256"}), secret.encode())

    def find(self, kid: str | None) -> Key:
        """The key."""
        del kid
        return self._key

    async def seek(self, kid: str | None) -> Key:
        """The key."""
        return self.find(kid)
