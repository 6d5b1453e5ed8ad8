"""Parsing a JSON Web Key Set (RFC 7517) into verification keys.

Each key is loaded on its own. A key that is malformed, weak or not for signatures is skipped; the others are used.
"""

import json
from collections.abc import Mapping
from typing import cast

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from taskwell.auth.keys import Key, Material

MAX_KEYS = 64
RSA_BITS = range(2048, 8192 + 1)

# RFC 9864 calls EdDSA with this curve "Ed25519".
_ED25519 = frozenset({"EdDSA", "Ed25519"})
_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_ALGORITHMS: dict[tuple[object, object], frozenset[str]] = {
    ("OKP", "Ed25519"): _ED25519,
    ("EC", "P-256"): frozenset({"ES256"}),
    ("EC", "P-384"): frozenset({"ES384"}),
    ("EC", "P-521"): frozenset({"ES512"}),
    ("RSA", None): _RSA,
}
ASYMMETRIC_ALGORITHMS = frozenset[str]().union(*_ALGORITHMS.values())

# The y coordinates, little-endian, of the points of order 1, 2, 4 and 8, in every encoding. Anybody can forge signatures
# for such a key (https://eprint.iacr.org/2020/1244, section 2; https://github.com/jedisct1/libsodium, ed25519_ref10.c).
_SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)

JWK = Mapping[str, object]


class InvalidKeySet(Exception):
    """The bytes are not a key set, or the key set has no usable key."""


class _Unusable(Exception):
    """The key is skipped."""


def parse_key_set(text: bytes) -> dict[str, Key]:
    """Returns the usable keys of a key set by their `kid`. If two keys have the same `kid`, the first is used.

    Raises:
        InvalidKeySet: The text is not JSON or not a key set, or the set has too many keys or no usable one.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidKeySet("not JSON") from None
    entries = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise InvalidKeySet("not a key set")
    if len(cast("list[object]", entries)) > MAX_KEYS:
        raise InvalidKeySet(f"a key set with more than {MAX_KEYS} keys")
    keys: dict[str, Key] = {}
    for entry in cast("list[object]", entries):
        try:
            kid, key = _load(entry)
        except _Unusable:
            continue
        keys.setdefault(kid, key)
    if not keys:
        raise InvalidKeySet("a key set with no usable key")
    return keys


def _load(entry: object) -> tuple[str, Key]:
    if not isinstance(entry, dict):
        raise _Unusable
    jwk = cast("JWK", entry)
    kid = jwk.get("kid")
    if not isinstance(kid, str) or jwk.get("use", "sig") != "sig" or not _may_verify(jwk.get("key_ops", ["verify"])):
        raise _Unusable
    algorithms = _algorithms(jwk)
    try:
        material = _material(jwk)
    # The libraries do not document what they raise for hostile numbers. Catching broadly is safe: loading has no effect.
    except (jwt.PyJWTError, UnsupportedAlgorithm, ArithmeticError, LookupError, TypeError, ValueError):
        raise _Unusable from None
    return kid, Key(algorithms, material)


def _may_verify(operations: object) -> bool:
    return isinstance(operations, list) and "verify" in operations


def _algorithms(jwk: JWK) -> frozenset[str]:
    """Returns the algorithms of the key's type. If the key has an `alg`, returns only that one, and its alias."""
    try:
        allowed = _ALGORITHMS[jwk.get("kty"), jwk.get("crv")]
    except (KeyError, TypeError):
        raise _Unusable from None
    alg = jwk.get("alg")
    if alg is None:
        return allowed
    if not isinstance(alg, str) or alg not in allowed:
        raise _Unusable
    return allowed if allowed is _ED25519 else frozenset({alg})


def _material(jwk: JWK) -> Material:
    public = {name: value for name, value in jwk.items() if name in ("kty", "crv", "x", "y", "n", "e")}
    match jwk["kty"]:
        case "OKP":
            point = cast("Ed25519PublicKey", OKPAlgorithm.from_jwk(public))
            _refuse_small_order(point)
            return point
        case "EC":
            return cast("Material", ECAlgorithm.from_jwk(public))
        case _:
            key = cast("RSAPublicKey", RSAAlgorithm.from_jwk(public))
            if key.key_size not in RSA_BITS:
                raise _Unusable
            return key


def _refuse_small_order(point: Ed25519PublicKey) -> None:
    *y, last = point.public_bytes_raw()
    # The highest bit is the sign of x.
    if bytes([*y, last & 0x7F]) in _SMALL_ORDER:
        raise _Unusable
