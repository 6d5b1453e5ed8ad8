"""Verification keys and the interface of their two sources: a shared secret, or a key set.

A key names its own algorithms. The algorithm in a token's header is compared with them and never trusted
(RFC 8725, section 3.1).
"""

from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

Material = bytes | Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


class UnknownKey(Exception):
    """No key has the token's `kid`."""


class KeysUnavailable(Exception):
    """No keys are cached, and none could be fetched."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verification key and the JWS algorithms (RFC 7518) that it may be used with."""

    algorithms: frozenset[str]
    material: Material = field(repr=False)


class Keys(Protocol):
    """A source of verification keys."""

    @property
    def ready(self) -> bool:
        """Whether keys are cached."""
        ...

    def cached(self, kid: str | None) -> Key | None:
        """Returns the key with this `kid` if it is cached."""
        ...

    async def get(self, kid: str | None) -> Key:
        """Returns the key with this `kid`. May fetch it over the network.

        Raises:
            UnknownKey: No key has this `kid`.
            KeysUnavailable: No keys are cached, and none could be fetched.
        """
        ...


class SharedSecret:
    """One HS256 key, shared with the auth server. It is the only key, so it serves any `kid`."""

    ready = True

    def __init__(self, secret: str) -> None:
        self._key = Key(frozenset({"HS256"}), secret.encode())

    def cached(self, kid: str | None) -> Key:
        """Returns the key."""
        del kid
        return self._key

    async def get(self, kid: str | None) -> Key:
        """Returns the key."""
        return self.cached(kid)
