"""Which tokens are believed: the rules that no other test of the service sees."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import jwt
import pytest

from service import SECRET
from taskwell.auth.keys import SharedSecret
from taskwell.auth.metrics import AuthMetrics
from taskwell.auth.tokens import InvalidToken, Verifier

Change = Callable[[dict[str, Any]], object]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(header: bytes, claims: bytes, secret: str = SECRET) -> str:
    """A token of these very bytes, with a signature that is right for them."""
    signing_input = f"{_encoded(header)}.{_encoded(claims)}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    return f"{signing_input}.{_encoded(algorithm.sign(signing_input.encode(), secret.encode()))}"


def _token(header: Mapping[str, object] | None = None, /, **claims: Any) -> str:
    now = int(time.time())
    payload = {"sub": "alice", "exp": now + 900, "iat": now} | claims
    return _signed(json.dumps({"alg": "HS256", **(header or {})}).encode(), json.dumps(payload).encode())


def _verify(token: str, **expected: Any) -> str:
    return anyio.run(Verifier(SharedSecret(SECRET), AuthMetrics(), **expected).verify, token)


@pytest.mark.parametrize(
    "header", [{}, {"typ": "JWT"}, {"typ": "jwt"}, {"typ": "at+jwt"}, {"typ": "application/at+jwt"}, {"kid": "1"}]
)
def test_a_good_token_names_its_user(header: dict[str, str]) -> None:
    assert _verify(_token(header)) == "alice"


@pytest.mark.parametrize("user", ["ü", "日本", "a b", "x" * 255, "a/b", "a@b.example", "🧀", "0"])
def test_a_user_is_any_text_of_1_to_255(user: str) -> None:
    assert _verify(_token(sub=user)) == user


@pytest.mark.parametrize("user", ["", "x" * 256, "a\x00", "a\n", "\x7f", "\x85", "\ud800", None, 1, True, ["a"], {}])
def test_other_users_are_refused(user: object) -> None:
    for claims in ({"sub": user}, {"user_id": user}, {"user_id": user, "sub": user}):
        with pytest.raises(InvalidToken):
            _verify(_token(**claims))


@pytest.mark.parametrize(
    "name", ["alg", "none", "nOnE", "NONE", "HS384", "HS512", "RS256", "EdDSA", "hs256", "", None, 1]
)
def test_the_algorithm_is_the_keys(name: object) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token({"alg": name}))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"zip": "DEF"}, {"kid": 1}, {"kid": None},
        {"typ": "JWE"}, {"typ": "dpop+jwt"}, {"typ": None}, {"typ": ["JWT"]}, {"typ": "logout+jwt"},
    ],
)  # fmt: skip
def test_headers_that_change_a_tokens_meaning_are_refused(header: dict[str, object]) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token(header))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1", "9999999999", "", True, [], {}, None])
def test_a_time_is_a_number(name: str, value: object) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token(**{name: value}))


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"-1", b"0", b"9" * 5000])
def test_a_time_is_a_sane_number(value: bytes) -> None:
    with pytest.raises(InvalidToken):
        _verify(_signed(b'{"alg":"HS256"}', b'{"sub":"alice","nbf":' + value + b',"exp":' + value + b"}"))


@pytest.mark.parametrize(("late", "accepted"), [(3, True), (7, False)])
def test_clocks_may_differ_by_five_seconds(late: int, *, accepted: bool) -> None:
    now = time.time()
    for claims in ({"exp": now - late}, {"nbf": now + late}, {"iat": now + late}):
        if accepted:
            assert _verify(_token(**claims)) == "alice"
        else:
            with pytest.raises(InvalidToken):
                _verify(_token(**claims))


@pytest.mark.parametrize("aud", ["here", ["here"], ["there", "here"]])
def test_a_token_for_this_audience_is_accepted(aud: object) -> None:
    assert _verify(_token(aud=aud, iss="me"), audiences=("here", "also"), issuer="me") == "alice"


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "there", "iss": "me"}, {"aud": [], "iss": "me"}, {"iss": "me"}, {"aud": 1, "iss": "me"},
        {"aud": {"here": 1}, "iss": "me"}, {"aud": "here"}, {"aud": "here", "iss": "you"}, {"aud": "here", "iss": ["me"]},
        {"aud": "here", "iss": 1},
    ],
)  # fmt: skip
def test_another_audience_or_issuer_is_refused(claims: dict[str, object]) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token(**claims), audiences=("here",), issuer="me")


def _part(number: int, change: Callable[[str], str]) -> str:
    parts = _token().split(".")
    parts[number] = change(parts[number])
    return ".".join(parts)


MANGLED = {
    "nothing": "",
    "a dot": ".",
    "two dots": "..",
    "two parts": ".".join(_token().split(".")[:2]),
    "four parts": _token() + ".",
    "five parts, as a JWE": _token() + ".AAAA.AAAA",
    "padding": _part(1, lambda part: part + "="),
    "base64 of the other alphabet": _part(2, lambda part: part[:-4] + "+/+/"),
    "a line break": _part(1, lambda part: part[:9] + "\n" + part[9:]),
    "a trailing line break": _token() + "\n",
    "a blank": _part(1, lambda part: part[:9] + " " + part[9:]),
    "letters of another script": _part(1, lambda part: "\u0430" + part[1:]),
    "an impossible length": _part(2, lambda part: part + "AA"),
    "a header that is no JSON": _signed(b"{alg: HS256}", b"{}"),
    "a header that is a list": _signed(b'["HS256"]', b"{}"),
    "an empty header": _signed(b"", b"{}"),
    "claims that are a string": _signed(b'{"alg":"HS256"}', b'"alice"'),
    "claims that are null": _signed(b'{"alg":"HS256"}', b"null"),
    "claims that are no UTF-8": _signed(b'{"alg":"HS256"}', b'{"sub":"\xff","exp":9999999999}'),
    "claims nested deeply": _signed(b'{"alg":"HS256"}', b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "claims twice": _signed(b'{"alg":"HS256"}', b'{"sub":"bob","sub":"alice","exp":9999999999}'),
    "an algorithm twice": _signed(b'{"alg":"none","alg":"HS256"}', b'{"sub":"alice","exp":9999999999}'),
    "more than 8 KiB": _token(padding="x" * 8192),
}


@pytest.mark.parametrize("token", MANGLED.values(), ids=MANGLED.keys())
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        _verify(token)


def test_a_signature_has_one_spelling() -> None:
    # 32 bytes leave two bits of the last letter unused; others in them decode to the same bytes.
    token = _token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for letter in set(alphabet) - {token[-1]}:
        with pytest.raises(InvalidToken):
            _verify(token[:-1] + letter)


def test_the_cause_is_told_and_the_token_is_not() -> None:
    token = _token(exp=1)
    with pytest.raises(InvalidToken, match="expired") as refusal:
        _verify(token)
    assert token.split(".")[1] not in str(refusal.value)


def test_a_secret_does_not_show() -> None:
    assert SECRET not in repr(Verifier(SharedSecret(SECRET), AuthMetrics()))
    assert SECRET not in repr(SharedSecret(SECRET).find(None))
