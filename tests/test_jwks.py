"""Which keys of a key set are used, and which are left out though the others stand."""

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
def test_a_keys_type_says_what_it_is_for(alg: str) -> None:
    assert _parse(jwk(private_key(alg), kid="k"))["k"].algorithms == ALGORITHMS[alg]


@pytest.mark.parametrize("alg", ["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256"])
def test_a_keys_alg_narrows_that(alg: str) -> None:
    assert _parse(jwk(private_key(alg), kid="k", alg=alg))["k"].algorithms == {alg}


@pytest.mark.parametrize("alg", ["EdDSA", "Ed25519"])
def test_eddsa_goes_by_both_names(alg: str) -> None:
    assert _parse(jwk(private_key("EdDSA"), kid="k", alg=alg))["k"].algorithms == {"EdDSA", "Ed25519"}


@pytest.mark.parametrize("alg", sorted(set().union(*ALGORITHMS.values())))
def test_a_key_verifies_what_its_private_half_signed(alg: str) -> None:
    key = private_key(alg)

    async def fetch() -> bytes:
        return json.dumps({"keys": [jwk(key, kid="k")]}).encode()

    verifier = Verifier(KeySet(fetch))
    assert anyio.run(verifier.verify, Signer(alg, key, {"kid": "k"}).token("alice")) == "alice"


P256, ED = jwk(private_key("ES256"), kid="bad"), jwk(private_key("EdDSA"), kid="bad")
RSA = jwk(RSA_KEY, kid="bad")
LEFT_OUT: dict[str, object] = {
    "null": None,
    "a string": "key",
    "a list": [],
    "empty": {},
    "no kid": {name: value for name, value in ED.items() if name != "kid"},
    "a kid that is a number": ED | {"kid": 1},
    "a kid that is a list": ED | {"kid": ["bad"]},
    "no kty": {name: value for name, value in ED.items() if name != "kty"},
    "a kty that is a list": ED | {"kty": ["OKP"]},
    "a secret": {"kty": "oct", "k": encoded(b"x" * 32), "kid": "bad", "alg": "HS256"},
    "for encryption": ED | {"use": "enc"},
    "a use that is null": ED | {"use": None},
    "for signing only": ED | {"key_ops": ["sign"]},
    "operations that are a string": ED | {"key_ops": "verify"},
    "of another curve's algorithm": P256 | {"alg": "ES384"},
    "of another kind's algorithm": P256 | {"alg": "EdDSA"},
    "of HMAC": RSA | {"alg": "HS256"},
    "of none": ED | {"alg": "none"},
    "an alg that is a list": ED | {"alg": ["EdDSA"]},
    "an alg of encryption": RSA | {"alg": "RSA-OAEP"},
    "secp256k1": jwk(ec.generate_private_key(ec.SECP256K1()), kid="bad"),
    "X25519": ED | {"crv": "X25519"},
    "Ed448": ED | {"crv": "Ed448", "x": encoded(b"\x01" * 57)},
    "an unknown curve": P256 | {"crv": "P-999"},
    "a curve that is a list": P256 | {"crv": ["P-256"]},
    "off the curve": P256 | {"y": encoded(b"\x01" * 32)},
    "the point at infinity": P256 | {"x": encoded(b"\x00" * 32), "y": encoded(b"\x00" * 32)},
    "a coordinate too short": P256 | {"x": encoded(b"\x01" * 31)},
    "a coordinate too long": P256 | {"x": encoded(b"\x01" * 33)},
    "no y": {name: value for name, value in P256.items() if name != "y"},
    "x that is a number": ED | {"x": 5},
    "x that is no base64": ED | {"x": "!!!"},
    "x too short": ED | {"x": encoded(b"\x02" * 31)},
    "x too long": ED | {"x": encoded(b"\x02" * 33)},
    "x empty": ED | {"x": ""},
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


@pytest.mark.parametrize("bad", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_one_poisoned_key_among_good_ones_is_left_out(bad: object) -> None:
    assert _parse(bad, GOOD).keys() == {"good"}
    assert _parse(GOOD, bad).keys() == {"good"}
    with pytest.raises(InvalidKeySet, match="no usable key"):
        _parse(bad)


def test_a_private_key_published_by_mistake_is_used_as_the_public_one_it_holds() -> None:
    private = jwk(RSA_KEY, kid="k") | {"d": "AQAB", "p": "AQAB"}
    assert "k" in _parse(private)


@pytest.mark.parametrize("bits", [2048, 8192])
def test_rsa_keys_of_2048_to_8192_bits_are_used(bits: int) -> None:
    assert _parse(RSA | {"n": encoded(b"\xff" * (bits // 8))}).keys() == {"bad"}


def test_of_two_keys_with_one_kid_the_first_counts() -> None:
    first, second = jwk(private_key("EdDSA"), kid="k"), jwk(private_key("ES256"), kid="k")
    assert _parse(first, second)["k"].algorithms == {"EdDSA", "Ed25519"}


@pytest.mark.parametrize(
    "text",
    [b"", b"null", b"[]", b'"keys"', b"{}", b'{"keys": {}}', b'{"keys": null}', b"<html>", b"\xff", b"[" * 60_000, b'{"keys": []}'],
)  # fmt: skip
def test_what_is_no_key_set_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidKeySet):
        parse_key_set(text)


def test_a_key_set_has_at_most_64_keys() -> None:
    keys = [GOOD | {"kid": str(number)} for number in range(65)]
    assert len(_parse(*keys[:64])) == 64
    with pytest.raises(InvalidKeySet):
        _parse(*keys)


# --- small-order points, by arithmetic rather than by a list

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


def _with(y: int) -> Point | None:
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


def _of_small_order() -> set[Point]:
    """What is left of any point when its part of the large prime order is taken away: all multiples of one such."""
    for y in range(2, 100):
        point = _with(y)
        generator = _times(PRIME_ORDER, point) if point else NEUTRAL
        if _times(4, generator) != NEUTRAL:
            return {_times(factor, generator) for factor in range(8)}
    raise AssertionError


def test_every_point_of_small_order_is_refused_however_it_is_spelled() -> None:
    ys = {y for _, y in _of_small_order()}
    assert len(ys) == 5
    for number in (number for y in ys for number in (y, y + P) if number < 2**255):
        for sign in (0, 1 << 255):
            spelled = (number | sign).to_bytes(32, "little")
            assert _parse(GOOD, ED | {"x": encoded(spelled)}).keys() == {"good"}
