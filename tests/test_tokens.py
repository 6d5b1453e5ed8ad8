"""Which tokens are believed: the rules that no other test of the service sees."""

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
    """A token of these very bytes, with a signature that is right for them."""
    signing_input = f"{_encoded(header)}.{_encoded(claims)}"
    algorithm = jwt.get_algorithm_by_name("HS256")
    return f"{signing_input}.{_encoded(algorithm.sign(signing_input.encode(), secret.encode()))}"


def _token(header: Mapping[str, object] | None = None, /, **claims: Any) -> str:
    now = int(time.time())
    payload = {"sub": "alice", "exp": now + 900, "iat": now} | claims
    return _signed(json.dumps({"alg": "HS256", **(header or {})}).encode(), json.dumps(payload).encode())


def _verify(token: str, **expected: Any) -> str:
    return anyio.run(Verifier(SharedSecret(SECRET), **expected).verify, token)


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
    "no text": "\udcff",
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


def test_a_token_has_at_most_8_kib() -> None:
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


def test_claims_may_be_nested_sixteen_deep() -> None:
    # The claims themselves are one level of it.
    for levels in (15, 16):
        nested = json.loads("[" * levels + "]" * levels)
        if levels < 16:
            assert _verify(_token(a=nested)) == "alice"
        else:
            with pytest.raises(InvalidToken, match="nested"):
                _verify(_token(a=nested))


def _fitting(header: Mapping[str, object] | None = None, /, **claims: Any) -> str:
    """A token for the audience `here` from the issuer `me`; a claim given as None is left out."""
    given: dict[str, Any] = {"sub": "alice", "iss": "me", "aud": "here", "exp": int(time.time()) + 900} | claims
    members = {name: value for name, value in given.items() if value is not None}
    return _signed(json.dumps({"alg": "HS256", **(header or {})}).encode(), json.dumps(members).encode())


CAUSES: dict[str, list[str]] = {
    "malformed": [
        "", "A.AA.AA", "AA.AA.A", _signed(b"{]", b"{}"), _signed(b"{}", b"[]"), _fitting(padding="x" * 8192),
        _fitting()[:-1] + "_", _signed(b'{"alg":"HS256"}', b'{"a":1,"a":1}'),
    ],
    "header": [_fitting({"crit": []}), _fitting({"kid": 1}), _fitting({"typ": "JWE"})],
    "times": [_fitting(exp="1"), _fitting(nbf=True), _fitting(iat=10**12), _fitting(exp=-(10**12)), _fitting(exp=None)],
    "expired": [_fitting(exp=1)],
    "not_yet_valid": [_fitting(nbf=9999999999), _fitting(iat=9999999999)],
    "issuer": [_fitting(iss="you"), _fitting(iss=None)],
    "audience": [_fitting(aud="there"), _fitting(aud=None)],
    "user": [_fitting(sub=""), _fitting(user_id="bob"), _fitting(sub=None)],
    "algorithm": [_fitting({"alg": "HS512"}), _fitting({"alg": None})],
    "signature": [".".join([_fitting().rpartition(".")[0], _fitting(sub="bob").rpartition(".")[2]])],
}  # fmt: skip


@pytest.mark.parametrize(("cause", "token"), [(cause, token) for cause, tokens in CAUSES.items() for token in tokens])
def test_the_log_tells_why_a_token_was_refused_and_not_the_token(cause: str, token: str) -> None:
    verifier = Verifier(SharedSecret(SECRET), issuer="me", audiences=("here",))
    for _ in range(2):
        with pytest.raises(InvalidToken, match=rf"\A{cause}: (?!None)\S") as refusal:
            anyio.run(verifier.verify, token)
        assert not [part for part in token.split(".") if len(part) > 8 and part in str(refusal.value)]


def test_accepted_algorithms_can_be_narrowed() -> None:
    assert _verify(_token(), algorithms=("HS256",)) == "alice"
    with pytest.raises(InvalidToken, match="algorithm"):
        _verify(_token(), algorithms=("HS384",))


# --- what is remembered


class Ring:
    """Keys that can be changed."""

    ready = True

    def __init__(self, **secrets: str) -> None:
        self.keys = {kid: SharedSecret(secret).cached(None) for kid, secret in secrets.items()}
        self.seeks = 0

    def cached(self, kid: str | None) -> Key | None:
        return self.keys.get(kid or "")

    async def get(self, kid: str | None) -> Key:
        self.seeks += 1
        if key := self.cached(kid):
            return key
        raise UnknownKey


class Remembering:
    """A verifier with a clock and keys that can be changed."""

    def __init__(self) -> None:
        self.now = time.time()
        self.ring = Ring(k=SECRET)
        self._verifier = Verifier(self.ring, clock=lambda: self.now)

    def remembers(self, token: str) -> bool:
        """Verifies `token`, and says whether that took no verification."""
        before = self.ring.seeks
        assert anyio.run(self._verifier.verify, token) == "alice"
        return self.ring.seeks == before


def test_a_token_seen_before_is_remembered_for_five_minutes() -> None:
    subject, token = Remembering(), _token({"kid": "k"})
    assert not subject.remembers(token)
    assert subject.remembers(token)
    assert not subject.remembers(_token({"kid": "k"}, jti="another"))
    subject.now += CACHE_SECONDS - 1
    assert subject.remembers(token)
    subject.now += 1
    assert not subject.remembers(token)


def test_no_token_is_remembered_beyond_its_end() -> None:
    subject = Remembering()
    token = _token({"kid": "k"}, exp=int(subject.now) + 60)
    assert not subject.remembers(token)
    subject.now = int(subject.now) + 59
    assert subject.remembers(token)
    subject.now += 1
    assert not subject.remembers(token)


@pytest.mark.parametrize(
    ("secrets", "cause"), [({"other": SECRET}, "unknown_key"), ({"k": SECRET + "2"}, "signature")], ids=str
)
def test_a_remembered_token_falls_with_its_key(secrets: dict[str, str], cause: str) -> None:
    subject, token = Remembering(), _token({"kid": "k"})
    subject.remembers(token)
    assert subject.remembers(token)
    subject.ring.keys = Ring(**secrets).keys
    with pytest.raises(InvalidToken, match=cause):
        subject.remembers(token)


def test_the_token_that_was_not_seen_for_longest_is_forgotten_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "CACHE_SIZE", 3)
    subject = Remembering()
    one, two, three, four = [_token({"kid": "k"}, jti=name) for name in ("one", "two", "three", "four")]
    assert [subject.remembers(token) for token in (one, two, three)] == [False] * 3
    assert subject.remembers(one)
    assert not subject.remembers(four)
    assert [subject.remembers(token) for token in (one, three, four)] == [True] * 3
    assert not subject.remembers(two)


def test_a_secret_does_not_show() -> None:
    assert SECRET not in repr(Verifier(SharedSecret(SECRET)))
    assert SECRET not in repr(SharedSecret(SECRET).cached(None))
