"""Creates tokens from any bytes, signed with any kind of key."""

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import Algorithm, ECAlgorithm, OKPAlgorithm, RSAAlgorithm

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CURVES: dict[str, type[ec.EllipticCurve]] = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}
# Shared by all tests, because generating one is slow.
RSA_KEY = rsa.generate_private_key(65537, 2048)


def encoded(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(algorithm: Algorithm, key: Any, header: bytes, claims: bytes) -> str:
    """A token with exactly these bytes and a valid signature."""
    signing_input = f"{encoded(header)}.{encoded(claims)}"
    return f"{signing_input}.{encoded(algorithm.sign(signing_input.encode(), algorithm.prepare_key(key)))}"


def private_key(alg: str) -> PrivateKey:
    """A private key for `alg`."""
    if alg in ("EdDSA", "Ed25519"):
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(CURVES[alg]()) if alg in CURVES else RSA_KEY


def algorithm(alg: str) -> Algorithm:
    """PyJWT's implementation of `alg`."""
    return OKPAlgorithm() if alg == "Ed25519" else jwt.get_algorithm_by_name(alg)


def jwk(key: PrivateKey, **members: object) -> dict[str, Any]:
    """The public key as a JSON Web Key."""
    public: Any = key.public_key()
    kind: Any = {ed25519.Ed25519PrivateKey: OKPAlgorithm, rsa.RSAPrivateKey: RSAAlgorithm}
    converter = next((kind[known] for known in kind if isinstance(key, known)), ECAlgorithm)
    return {**converter.to_jwk(public, as_dict=True), **members}


def pem(key: PrivateKey) -> bytes:
    """The public key as PEM, which a naive verifier would use as an HMAC secret."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Signer:
    """Signs tokens as an auth server does, and tokens that no auth server would sign."""

    alg: str
    key: Any
    header: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)

    def raw(self, header: bytes, claims: bytes) -> str:
        """A token with exactly these bytes and a valid signature."""
        return compact(algorithm(self.alg), self.key, header, claims)

    def full_header(self, **members: object) -> dict[str, Any]:
        """The header of a good token, updated with `members`. None omits a member."""
        return _without_none({"alg": self.alg, **self.header, **members})

    def full_claims(self, user: str, **members: object) -> dict[str, Any]:
        """The claims of a good token for `user`, updated with `members`. None omits a claim."""
        now = int(time.time())
        return _without_none({"sub": user, "iat": now, "exp": now + 900, **self.claims, **members})

    def token(self, user: str, header: Mapping[str, object] | None = None, /, **claims: object) -> str:
        """A token for `user` with a valid signature."""
        head = json.dumps(self.full_header(**(header or {})))
        return self.raw(head.encode(), json.dumps(self.full_claims(user, **claims)).encode())


def _without_none(members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
