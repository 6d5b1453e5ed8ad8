"""Which keys of a key set are used, and which are skipped."""

import json
from typing import Any

import anyio
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from support.tokens import RSA_KEY, Signer, encoded, jwk, private_key
from taskwell.auth.jwks import InvalidKeySet, parse_key_set
from taskwell.auth.jwks_client import KeySet
from taskwell.auth.tokens import Verifier

ALGORITHMS = {
    "EdDSA": {"EdDSA", "Ed25519"},
    "ES256": {"ES256"},
    "ES384": {"ES384"},
    "ES512": {"ES512"},
    "RS256": {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"},
}
GOOD = jwk(private_key("EdDSA"), kid="good")


def _parse(*keys: object) -> dict[str, Any]:
    return dict(parse_key_set(json.dumps({"keys": keys}).encode()))


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_the_type_of_a_key_determines_its_algorithms(alg: str) -> None:
    assert _parse(jwk(private_key(alg), kid="k"))["k"].algorithms == ALGORITHMS[alg]


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256"])
def test_the_alg_of_a_key_narrows_its_algorithms(alg: str) -> None:
    assert _parse(jwk(private_key(alg), kid="k", alg=alg))["k"].algorithms == {alg}


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_eddsa_has_two_names(alg: str) -> None:
    assert _parse(jwk(private_key("EdDSA"), kid="k", alg=alg))["k"].algorithms == {"EdDSA", "Ed25519"}


@pytest.mark.parametrize("alg", sorted(set().union(*ALGORITHMS.values())))
def test_a_key_verifies_what_its_private_key_signed(alg: str) -> None:
    key = private_key(alg)

    async def fetch() -> bytes:
        return json.dumps({"keys": [jwk(key, kid="k")]}).encode()

    verifier = Verifier(KeySet(fetch))
    assert anyio.run(verifier.verify, Signer(alg, key, {"kid": "k"}).token("alice")).user == "alice"


P256, ED = jwk(private_key("ES256"), kid="bad"), jwk(private_key("EdDSA"), kid="bad")
RSA = jwk(RSA_KEY, kid="bad")
SKIPPED: dict[str, object] = {
    "null": None,
    "a string": "key",
    "a list": [],
    "empty": {},
    "no kid": {name: value for name, value in ED.items() if name != "kid"},
    "a kid that is a number": ED | {"kid": 1},
    "a kid that is a list": ED | {"kid": ["bad"]},
    "no kty": {name: value for name, value in ED.items() if name != "kty"},
    "a kty that is a list": ED | {"kty": ["OKP"]},
    "a symmetric key": {"kty": "oct", "k": encoded(b"x" * 32), "kid": "bad", "alg": "HS256"},
    "a key for encryption": ED | {"use": "enc"},
    "a use that is null": ED | {"use": None},
    "a key that may only sign": ED | {"key_ops": ["sign"]},
    "key_ops that are a string": ED | {"key_ops": "verify"},
    "an alg of another curve": P256 | {"alg": "ES384"},
    "an alg of another key type": P256 | {"alg": "EdDSA"},
    "an HMAC alg": RSA | {"alg": "HS256"},
    "alg none": ED | {"alg": "none"},
    "an alg that is a list": ED | {"alg": ["EdDSA"]},
    "an encryption alg": RSA | {"alg": "RSA-OAEP"},
    "secp256k1": jwk(ec.generate_private_key(ec.SECP256K1()), kid="bad"),
    "X25519": ED | {"crv": "X25519"},
    "Ed448": ED | {"crv": "Ed448", "x": encoded(b"\x01" * 57)},
    "an unknown curve": P256 | {"crv": "P-999"},
    "a curve that is a list": P256 | {"crv": ["P-256"]},
    "a point off the curve": P256 | {"y": encoded(b"\x01" * 32)},
    "the point at infinity": P256 | {"x": encoded(b"\x00" * 32), "y": encoded(b"\x00" * 32)},
    "a coordinate that is too short": P256 | {"x": encoded(b"\x01" * 31)},
    "a coordinate that is too long": P256 | {"x": encoded(b"\x01" * 33)},
    "no y": {name: value for name, value in P256.items() if name != "y"},
    "x that is a number": ED | {"x": 5},
    "x that is not base64": ED | {"x": "!!!"},
    "x that is too short": ED | {"x": encoded(b"\x02" * 31)},
    "x that is too long": ED | {"x": encoded(b"\x02" * 33)},
    "empty x": ED | {"x": ""},
    "RSA of 1024 bits": jwk(rsa.generate_private_key(65537, 1024), kid="bad"),
    "RSA of 2047 bits": RSA | {"n": encoded(b"\x7f" + b"\xff" * 255)},
    "RSA of 8200 bits": RSA | {"n": encoded(b"\xff" * 1025)},
    "RSA of 16384 bits": RSA | {"n": encoded(b"\xff" * 2048)},
    "RSA with exponent 1": RSA | {"e": encoded(b"\x01")},
    "RSA with exponent 2": RSA | {"e": encoded(b"\x02")},
    "RSA without a modulus": RSA | {"n": ""},
    "RSA without n": {name: value for name, value in RSA.items() if name != "n"},
    "RSA without e": {name: value for name, value in RSA.items() if name != "e"},
    "RSA with a number": RSA | {"n": 5},
}


@pytest.mark.parametrize("bad", SKIPPED.values(), ids=SKIPPED.keys())
def test_one_bad_key_is_skipped_and_the_good_ones_are_used(bad: object) -> None:
    assert _parse(bad, GOOD).keys() == {"good"}
    assert _parse(GOOD, bad).keys() == {"good"}
    with pytest.raises(InvalidKeySet, match="no usable key"):
        _parse(bad)


def test_the_public_half_of_a_private_key_that_was_published_by_mistake_is_used() -> None:
    private = jwk(RSA_KEY, kid="k") | {"d": "AQAB", "p": "AQAB"}
    assert "k" in _parse(private)


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_keys_of_2048_to_8192_bits_are_used(bits: int) -> None:
    assert _parse(RSA | {"n": encoded(b"\xff" * (bits // 8))}).keys() == {"bad"}


def test_the_first_of_two_keys_with_the_same_kid_is_used() -> None:
    first, second = jwk(private_key("EdDSA"), kid="k"), jwk(private_key("ES256"), kid="k")
    assert _parse(first, second)["k"].algorithms == {"EdDSA", "Ed25519"}


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b'"keys"', b"{}", b'{"keys": {}}', b'{"keys": null}', b"<html>", b"\xff", b"[" * 60_000, b'{"keys": []}'],
)  # fmt: skip
def test_text_that_is_not_a_key_set_is_rejected(text: bytes) -> None:
    with pytest.raises(InvalidKeySet):
        parse_key_set(text)


def test_a_key_set_may_have_at_most_64_keys() -> None:
    keys = [GOOD | {"kid": str(number)} for number in range(65)]
    assert len(_parse(*keys[:64])) == 64
    with pytest.raises(InvalidKeySet):
        _parse(*keys)


# --- points of small order, computed independently of the list in jwks.py

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
PRIME_ORDER = 2**252 + 27742317777372353535851937790883648493
NEUTRAL = (0, 1)
Point = tuple[int, int]


def _add(a: Point, b: Point) -> Point:
    """The sum on the curve -x² + y² = 1 + dx²y² (RFC 8032, section 5.1.4)."""
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, P)
    y = (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P)
    return x % P, y % P


def _point_with(y: int) -> Point | None:
    """The point with this y, if there is one (RFC 8032, section 5.1.3)."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (x, y % P) if x * x % P == square else None


def _times(factor: int, point: Point) -> Point:
    product = NEUTRAL
    for bit in f"{factor:b}":
        product = _add(product, product)
        if bit == "1":
            product = _add(product, point)
    return product


def _small_order_points() -> set[Point]:
    """All points of small order: the multiples of a point from which multiplying by the prime order left only the small part."""
    for y in range(2, 100):
        point = _point_with(y)
        generator = _times(PRIME_ORDER, point) if point else NEUTRAL
        if _times(4, generator) != NEUTRAL:
            return {_times(factor, generator) for factor in range(8)}
    raise AssertionError


def test_a_point_of_small_order_is_skipped_in_every_encoding() -> None:
    ys = {y for _, y in _small_order_points()}
    assert len(ys) == 5
    for number in (number for y in ys for number in (y, y + P) if number < 2**255):
        for sign in (0, 1 << 255):
            encoded_point = (number | sign).to_bytes(32, "little")
            assert _parse(GOOD, ED | {"x": encoded(encoded_point)}).keys() == {"good"}
