"""Which tokens are accepted. The rules that the tests over HTTP do not cover."""

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import jwt
import pytest

from support.service import SECRET
from taskwell.auth import tokens
from taskwell.auth.keys import Key, SharedSecret, UnknownKey
from taskwell.auth.tokens import CACHE_SECONDS, MAX_TOKEN_BYTES, InvalidToken, Verifier

Change = Callable[[dict[str, Any]], object]


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(header: bytes, claims: bytes, secret: str = SECRET) -> str:
    """A token with exactly these bytes and a valid signature."""
    signing_input = f"{_encoded(header)}.{_encoded(claims)}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    return f"{signing_input}.{_encoded(algorithm.sign(signing_input.encode(), secret.encode()))}"


def _token(header: Mapping[str, object] | None = None, /, **claims: Any) -> str:
    now = int(time.time())
    payload = {"sub": "alice", "exp": now + 900, "iat": now} | claims
    return _signed(json.dumps({"alg": "HS256", **(header or {})}).encode(), json.dumps(payload).encode())


def _verify(token: str, **expected: Any) -> str:
    return anyio.run(Verifier(SharedSecret(SECRET), **expected).verify, token).user


@pytest.mark.parametrize(
    "header", [{}, {"typ": "JWT"}, {"typ": "jwt"}, {"typ": "at+jwt"}, {"typ": "application/at+jwt"}, {"kid": "1"}]
)
def test_a_good_token_names_its_user(header: dict[str, str]) -> None:
    assert _verify(_token(header)) == "alice"


@pytest.mark.parametrize("user", ["ü", "日本", "a b", "x" * 255, "a/b", "a@b.example", "🧀", "0"])
def test_a_user_is_any_text_of_1_to_255_characters(user: str) -> None:
    assert _verify(_token(sub=user)) == user


@pytest.mark.parametrize("user", ["", "x" * 256, "a\x00", "a\n", "\x7f", "\x85", "\ud800", None, 1, True, ["a"], {}])
def test_an_unusable_user_is_rejected(user: object) -> None:
    for claims in ({"sub": user}, {"user_id": user}, {"user_id": user, "sub": user}):
        with pytest.raises(InvalidToken):
            _verify(_token(**claims))


@pytest.mark.parametrize(
    "name", ["alg", "none", "nOnE", "NONE", "HS384", "HS512", "RS256", "EdDSA", "hs256", "", None, 1]
)
def test_the_key_determines_the_algorithm(name: object) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token({"alg": name}))


@pytest.mark.parametrize(
    "header",
    [
        {"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"b64": True}, {"zip": "DEF"}, {"kid": 1}, {"kid": None},
        {"typ": "JWE"}, {"typ": "dpop+jwt"}, {"typ": None}, {"typ": ["JWT"]}, {"typ": "logout+jwt"},
    ],
)  # fmt: skip
def test_headers_that_change_how_a_token_is_read_are_rejected(header: dict[str, object]) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token(header))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ["1", "9999999999", "", True, [], {}, None])
def test_a_time_must_be_a_number(name: str, value: object) -> None:
    with pytest.raises(InvalidToken):
        _verify(_token(**{name: value}))


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"-1", b"0", b"9" * 5000])
def test_a_time_must_be_finite_and_in_range(value: bytes) -> None:
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
def test_another_audience_or_issuer_is_rejected(claims: dict[str, object]) -> None:
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
    "five parts, like a JWE": _token() + ".AAAA.AAAA",
    "padding": _part(1, lambda part: part + "="),
    "the standard base64 alphabet": _part(2, lambda part: part[:-4] + "+/+/"),
    "a line break": _part(1, lambda part: part[:9] + "\n" + part[9:]),
    "a trailing line break": _token() + "\n",
    "a space": _part(1, lambda part: part[:9] + " " + part[9:]),
    "a letter of another script": _part(1, lambda part: "\u0430" + part[1:]),
    "a lone surrogate": "\udcff",
    "an impossible length": _part(2, lambda part: part + "AA"),
    "a header that is not JSON": _signed(b"{alg: HS256}", b"{}"),
    "a header that is a list": _signed(b'["HS256"]', b"{}"),
    "an empty header": _signed(b"", b"{}"),
    "claims that are a string": _signed(b'{"alg":"HS256"}', b'"alice"'),
    "claims that are null": _signed(b'{"alg":"HS256"}', b"null"),
    "claims that are not UTF-8": _signed(b'{"alg":"HS256"}', b'{"sub":"\xff","exp":9999999999}'),
    "deeply nested claims": _signed(b'{"alg":"HS256"}', b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"),
    "a duplicate claim": _signed(b'{"alg":"HS256"}', b'{"sub":"bob","sub":"alice","exp":9999999999}'),
    "a duplicate algorithm": _signed(b'{"alg":"none","alg":"HS256"}', b'{"sub":"alice","exp":9999999999}'),
    "more than 8 KiB": _token(padding="x" * 8192),
}


@pytest.mark.parametrize("token", MANGLED.values(), ids=MANGLED.keys())
def test_text_that_is_not_a_token_is_rejected(token: str) -> None:
    with pytest.raises(InvalidToken):
        _verify(token)


def test_a_signature_has_only_one_encoding() -> None:
    # The last letter of an encoded 32-byte signature has two unused bits. Other values for them decode to the same bytes.
    token = _token()
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for letter in set(alphabet) - {token[-1]}:
        with pytest.raises(InvalidToken):
            _verify(token[:-1] + letter)


def test_a_token_may_have_at_most_8_kib() -> None:
    lengths: dict[int, str] = {}
    for more in range(4):
        empty = _token({"more": "x" * more}, padding="")
        room = MAX_TOKEN_BYTES - len(empty)
        for padding in range(room * 3 // 4 - 3, room * 3 // 4 + 6):
            token = _token({"more": "x" * more}, padding="x" * padding)
            lengths[len(token)] = token
    assert _verify(lengths[8192]) == "alice"
    with pytest.raises(InvalidToken, match="8 KiB"):
        _verify(lengths[8193])


def test_claims_may_be_nested_16_levels_deep() -> None:
    # The claims object itself is the first level.
    for levels in (15, 16):
        nested = json.loads("[" * levels + "]" * levels)
        if levels < 16:
            assert _verify(_token(a=nested)) == "alice"
        else:
            with pytest.raises(InvalidToken, match="nested"):
                _verify(_token(a=nested))


def _fitting(header: Mapping[str, object] | None = None, /, **claims: Any) -> str:
    """A token for the audience `here` from the issuer `me`. A claim with the value None is omitted."""
    given: dict[str, Any] = {"sub": "alice", "iss": "me", "aud": "here", "exp": int(time.time()) + 900} | claims
    members = {name: value for name, value in given.items() if value is not None}
    return _signed(json.dumps({"alg": "HS256", **(header or {})}).encode(), json.dumps(members).encode())


CAUSES: dict[str, list[str]] = {
    "malformed": [
        "", "A.AA.AA", "AA.AA.A", _signed(b"{]", b"{}"), _signed(b"{}", b"[]"), _fitting(padding="x" * 8192),
        _fitting()[:-1] + "_", _signed(b'{"alg":"HS256"}', b'{"a":1,"a":1}'),
    ],
    "header": [_fitting({"crit": []}), _fitting({"kid": 1}), _fitting({"typ": "JWE"})],
    "purpose": [_fitting(cnf={"jkt": "x"}), _fitting(events={}), _fitting(nonce="x"), _fitting(at_hash="x")],
    "times": [_fitting(exp="1"), _fitting(nbf=True), _fitting(iat=10**12), _fitting(exp=-(10**12)), _fitting(exp=None)],
    "expired": [_fitting(exp=1)],
    "not_yet_valid": [_fitting(nbf=9999999999), _fitting(iat=9999999999)],
    "issuer": [_fitting(iss="you"), _fitting(iss=None)],
    "audience": [_fitting(aud="there"), _fitting(aud=None)],
    "user": [_fitting(sub=""), _fitting(user_id="bob"), _fitting(sub=None), _fitting(client_id="alice")],
    "algorithm": [_fitting({"alg": "HS512"}), _fitting({"alg": None})],
    "signature": [".".join([_fitting().rpartition(".")[0], _fitting(sub="bob").rpartition(".")[2]])],
}  # fmt: skip


@pytest.mark.parametrize(("cause", "token"), [(cause, token) for cause, tokens in CAUSES.items() for token in tokens])
def test_the_log_has_the_cause_of_a_rejection_but_no_part_of_the_token(cause: str, token: str) -> None:
    verifier = Verifier(SharedSecret(SECRET), issuer="me", audiences=("here",))
    for _ in range(2):
        with pytest.raises(InvalidToken, match=rf"\A{cause}: (?!None)\S") as rejection:
            anyio.run(verifier.verify, token)
        assert not [part for part in token.split(".") if len(part) > 8 and part in str(rejection.value)]


def test_the_operator_can_narrow_the_algorithms() -> None:
    assert _verify(_token(), algorithms=("HS256",)) == "alice"
    with pytest.raises(InvalidToken, match="algorithm"):
        _verify(_token(), algorithms=("HS384",))


# --- the cache of verified tokens


class ChangingKeys:
    """A key source whose keys can be replaced."""

    ready = True

    def __init__(self, **secrets: str) -> None:
        self.keys = {kid: SharedSecret(secret).cached(None) for kid, secret in secrets.items()}
        self.gets = 0

    def cached(self, kid: str | None) -> Key | None:
        return self.keys.get(kid or "")

    async def get(self, kid: str | None) -> Key:
        self.gets += 1
        if key := self.cached(kid):
            return key
        raise UnknownKey


class CachingVerifier:
    """A verifier with a clock and keys that a test controls."""

    def __init__(self) -> None:
        self.now = time.time()
        self.keys = ChangingKeys(k=SECRET)
        self._verifier = Verifier(self.keys, clock=lambda: self.now)

    def has_cached(self, token: str) -> bool:
        """Verifies `token`. Returns whether the cache had it."""
        before = self.keys.gets
        assert anyio.run(self._verifier.verify, token).user == "alice"
        return self.keys.gets == before


def test_a_verified_token_is_cached_for_five_minutes() -> None:
    verifier, token = CachingVerifier(), _token({"kid": "k"})
    assert not verifier.has_cached(token)
    assert verifier.has_cached(token)
    assert not verifier.has_cached(_token({"kid": "k"}, jti="another"))
    verifier.now += CACHE_SECONDS - 1
    assert verifier.has_cached(token)
    verifier.now += 1
    assert not verifier.has_cached(token)


def test_a_token_is_not_cached_beyond_its_expiry() -> None:
    verifier = CachingVerifier()
    token = _token({"kid": "k"}, exp=int(verifier.now) + 60)
    assert not verifier.has_cached(token)
    verifier.now = int(verifier.now) + 59
    assert verifier.has_cached(token)
    verifier.now += 1
    assert not verifier.has_cached(token)


@pytest.mark.parametrize(
    ("secrets", "cause"), [({"other": SECRET}, "unknown_key"), ({"k": SECRET + "2"}, "signature")], ids=str
)
def test_a_cached_token_is_rejected_after_its_key_is_replaced(secrets: dict[str, str], cause: str) -> None:
    verifier, token = CachingVerifier(), _token({"kid": "k"})
    verifier.has_cached(token)
    assert verifier.has_cached(token)
    verifier.keys.keys = ChangingKeys(**secrets).keys
    with pytest.raises(InvalidToken, match=cause):
        verifier.has_cached(token)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "it is signed with a shared secret, but this service verifies tokens with a key set"),
        ({"kid": "k"}, "it is signed with a shared secret, but this service verifies tokens with a key set"),
        ({"alg": "EdDSA"}, "it has no kid to choose a key by"),
        ({"alg": "EdDSA", "kid": "k"}, "the key set has no key with its kid"),
    ],
)
def test_the_reason_for_an_unknown_key_fits_the_token(header: dict[str, str], message: str) -> None:
    verifier = Verifier(ChangingKeys(other=SECRET))
    with pytest.raises(InvalidToken, match=f"^unknown_key: {message}$"):
        anyio.run(verifier.verify, _token(header))


def test_the_least_recently_used_token_leaves_the_cache_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
    verifier = CachingVerifier()
    one, two, three, four = [_token({"kid": "k"}, jti=name) for name in ("one", "two", "three", "four")]
    assert [verifier.has_cached(token) for token in (one, two, three)] == [False] * 3
    assert verifier.has_cached(one)
    assert not verifier.has_cached(four)
    assert [verifier.has_cached(token) for token in (one, three, four)] == [True] * 3
    assert not verifier.has_cached(two)


def test_a_secret_is_not_printed() -> None:
    assert SECRET not in repr(Verifier(SharedSecret(SECRET)))
    assert SECRET not in repr(SharedSecret(SECRET).cached(None))
