"""Tokens that must be rejected, with a shared secret and with a key set. Each has one thing wrong with it."""

import hmac
import json
import time
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from support.tokens import Signer, encoded, jwk, pem, private_key

# Changes to a good token that make it unacceptable. A header member or claim with the value None is omitted.
HEADERS: dict[str, dict[str, Any]] = {
    **{f"alg {alg}": {"alg": alg} for alg in ("none", "None", "NONE", "nOnE", "", "HS384", "HS512", "RS512x", "hs256", "A256KW")},
    "no alg": {"alg": None},
    "alg a number": {"alg": 1},
    "alg a list": {"alg": ["HS256", "EdDSA"]},
    "alg an object": {"alg": {"name": "EdDSA"}},
    "alg true": {"alg": True},
    "crit exp": {"crit": ["exp"], "exp": 1},
    "crit empty": {"crit": []},
    "crit unknown": {"crit": ["http://example.com/UNDEFINED"]},
    "crit a string": {"crit": "b64"},
    "b64 false": {"b64": False},
    "b64 false and critical": {"b64": False, "crit": ["b64"]},
    "b64 true": {"b64": True},
    "zip DEF": {"zip": "DEF"},
    "zip empty": {"zip": ""},
    **{f"typ {typ}": {"typ": typ} for typ in ("JWE", "dpop+jwt", "logout+jwt", "secevent+jwt", "JOSE", "", "JWT;x")},
    **{
        f"typ {typ}": {"typ": typ}
        for typ in ("at+jwt;x", "at jwt", "at-jwt", "at+jwt, JWT", "rt+jwt", "id_token+jwt", "application/logout+jwt")
    },
    "typ application/ twice": {"typ": "application/application/at+jwt"},
    "typ a list of at+jwt": {"typ": ["at+jwt"]},
    "typ a list": {"typ": ["JWT"]},
    "typ a number": {"typ": 1},
    "kid a number": {"kid": 1},
    "kid a list": {"kid": ["k"]},
    "kid an object": {"kid": {"k": 1}},
    "kid true": {"kid": True},
}  # fmt: skip

INVALID_TIMES: list[Any] = [
    "9999999999", "soon", "", True, False, [9999999999], {"at": 9999999999}, "1e10", " 9999999999",
]  # fmt: skip
INVALID_USERS: list[Any] = ["", "x" * 256, "a\x00", "a\n", "\x7f", "\x9f", 1, 0, True, 1.5, [], ["a"], {}, {"a": 1}]
CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": int(time.time()) - 60},
    "expired yesterday": {"exp": int(time.time()) - 86_400},
    "exp 0": {"exp": 0},
    "exp -1": {"exp": -1},
    "no exp": {"exp": None},
    "not yet valid": {"nbf": int(time.time()) + 3600},
    "issued tomorrow": {"iat": int(time.time()) + 86_400},
    **{f"{name} {json.dumps(value)}": {name: value} for name in ("exp", "nbf", "iat") for value in INVALID_TIMES},
    "no user": {"sub": None},
    **{f"sub {str(value)[:20]!r}": {"sub": value} for value in INVALID_USERS},
    **{f"user_id {str(value)[:20]!r}": {"user_id": value} for value in [*INVALID_USERS, "somebody else"]},
    "user_id in another case": {"user_id": "ALICE"},
    "another aud": {"aud": "https://elsewhere.example"},
    "several other auds": {"aud": ["https://elsewhere.example", "https://nowhere.example"]},
    "aud a number": {"aud": 1},
    "aud an object": {"aud": {"https://here.example": True}},
    "aud a list of numbers": {"aud": [1]},
    "cnf with a DPoP key": {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
    "cnf with a certificate": {"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}},
    "cnf with a key": {"cnf": {"jwk": {"kty": "oct"}}},
    "cnf empty": {"cnf": {}},
    "cnf a string": {"cnf": "key"},
    "ID token with a nonce": {"nonce": "n-0S6_WzA2Mj", "auth_time": int(time.time())},
    "ID token with at_hash": {"at_hash": "77QmUPtjPfzWtF2AnpK9RQ", "acr": "0"},
    "ID token with c_hash": {"c_hash": "LDktKdoQak3Pk0cnXxCltA"},
    "ID token for a client": {"aud": "client-1", "azp": "client-1"},
    "logout token without typ": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "1"},
    "security event": {"events": {"https://schemas.openid.net/secevent/risc/event-type/account-disabled": {}}},
}  # fmt: skip

# Claims of OAuth access tokens (`typ: at+jwt`) that must be rejected, although the scopes are right.
ACCESS_TOKEN_CLAIMS: dict[str, dict[str, Any]] = {
    "expired": {"exp": int(time.time()) - 60},
    "no exp": {"exp": None},
    "not yet valid": {"nbf": int(time.time()) + 3600},
    "another aud": {"aud": "https://elsewhere.example"},
    "no user": {"sub": None},
    "a client instead of a user": {"sub": "client-1"},
    "a client in user_id": {"sub": None, "user_id": "client-1"},
    "bound to a DPoP key": {"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}},
    "bound to a certificate": {"cnf": {"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"}},
    "with events": {"events": {}},
    "with a nonce": {"nonce": "n-0S6_WzA2Mj"},
}

# Claims of access tokens that do not grant `tasks:read`. `scope` counts before `scp`.
INSUFFICIENT_SCOPES: dict[str, dict[str, Any]] = {
    "no scope": {},
    **{
        f"scope {json.dumps(scope)}": {"scope": scope}
        for scope in (
            "", " ", "openid profile email", "tasks", "tasks:", "tasks:*", "*", "read", "tasks:reads", "xtasks:read",
            "TASKS:READ", "tasks: read", "tasks:read,tasks:write", "tasks:read\ttasks:write", "tasks:read\n",
            "tasks:read\u00a0", "tasks:write", 1, 0, True, {}, {"tasks:read": True}, [], [1], [None], [["tasks:read"]],
            ["tasks:read tasks:write"], ["tasks:write"], ["Tasks:Read"],
        )
    },
    "scp openid": {"scp": "openid"},
    "scp a list of openid": {"scp": ["openid"]},
    "scp an object": {"scp": {"tasks:read": True}},
    "scope openid and scp tasks:read": {"scope": "openid", "scp": "tasks:read"},
    "scope empty and scp tasks:read": {"scope": "", "scp": ["tasks:read"]},
    "scopes": {"scopes": "tasks:read"},
    "permissions": {"permissions": ["tasks:read"]},
}  # fmt: skip

# The text of the claims, in forms that JSON libraries read differently. `%s` is the rest of a good token's claims.
TEXTS: dict[str, bytes] = {
    **{
        f"{name} {value.decode()}": b'{%s,"' + name.encode() + b'":' + value + b"}"
        for name in ("exp", "nbf", "iat")
        for value in (b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"null")
    },
    "exp of 5000 digits": b'{%s,"exp":' + b"9" * 5000 + b"}",
    "nbf of 400 digits": b'{%s,"nbf":' + b"9" * 400 + b"}",
    "exp as hexadecimal": b'{%s,"exp":0xFFFFFFFFF}',
    "exp with an underscore": b'{%s,"exp":9_999_999_999}',
    "duplicate sub": b'{"sub":"bob",%s}',
    "duplicate exp": b'{%s,"exp":9999999999}',
    "a trailing comma": b"{%s,}",
    "a comment": b"{%s/* */}",
    "a second object after it": b"{%s}{}",
    "a byte order mark": b"\xef\xbb\xbf{%s}",
    "single quotes": b"{'sub':'alice'}",
    "an array": b"[{%s}]",
    "a string": b'"alice"',
    "a number": b"1",
    "null": b"null",
    "nothing": b"",
    "invalid UTF-8": b'{%s,"a":"\xff"}',
    "UTF-16": '{"sub":"alice","exp":9999999999}'.encode("utf-16"),
    "deeply nested arrays": b'{%s,"a":' + b"[" * 2500 + b"]" * 2500 + b"}",
    "deeply nested objects": b'{%s,"a":' + b'{"a":' * 700 + b"1" + b"}" * 700 + b"}",
    "NUL": b"{%s}\x00",
    "cnf null": b'{%s,"cnf":null}',
    "cnf twice": b'{%s,"cnf":{},"cnf":null}',
    "a lone surrogate as the user": b'{%s,"user_id":"\\ud800"}',
}

HEADER_TEXTS: dict[str, bytes] = {
    "duplicate alg": b'{"alg":"none",%s}',
    "duplicate kid": b'{"kid":"other","kid":"k",%s}',
    "an array": b"[%s]",
    "a string": b'"JWT"',
    "null": b"null",
    "nothing": b"",
    "invalid UTF-8": b'{%s,"a":"\xff"}',
    "deeply nested arrays": b'{%s,"a":' + b"[" * 2500 + b"]" * 2500 + b"}",
    "NaN": b'{%s,"crit":NaN}',
}


def _inner(members: dict[str, Any]) -> bytes:
    return json.dumps(members).encode()[1:-1]


def _replaced(token: str, part: int, change: Callable[[str], str]) -> str:
    parts = token.split(".")
    parts[part] = change(parts[part])
    return ".".join(parts)


def _mangled(good: str, other: str) -> dict[str, str]:
    """Damaged forms of a good token. `other` is a good token of another user."""
    head, claims, signature = good.split(".")
    forms = {
        "not a token": "junk",
        "one dot": ".",
        "two dots": "..",
        "no signature": f"{head}.{claims}.",
        "no claims": f"{head}..{signature}",
        "no header": f".{claims}.{signature}",
        "two parts": f"{head}.{claims}",
        "four parts": f"{good}.{signature}",
        "five parts, like a JWE": f"{good}.AAAA.AAAA",
        "the token twice": f"{good} {good}",
        "the claims of another token": f"{head}.{other.split('.')[1]}.{signature}",
        "the signature of another token": f"{head}.{claims}.{other.split('.')[2]}",
        "in quotes": f'"{good}"',
        "as JSON": json.dumps({"protected": head, "payload": claims, "signature": signature}).replace(" ", ""),
        "percent-encoded": good.replace(".", "%2E"),
        "parts in reverse order": f"{signature}.{claims}.{head}",
        "one byte over 8 KiB": good + "A" * (8193 - len(good)),
    }
    for number, name in enumerate(("header", "claims", "signature")):
        forms |= {
            f"{name} cut by one": _replaced(good, number, lambda part: part[:-1]),
            f"{name} cut by four": _replaced(good, number, lambda part: part[:-4]),
            f"{name} with four more": _replaced(good, number, lambda part: part + "AAAA"),
            f"{name} changed in the middle": _replaced(good, number, _flipped),
            f"{name} padded": _replaced(good, number, lambda part: part + "="),
            f"{name} with plus": _replaced(good, number, lambda part: "+" + part[1:]),
            f"{name} with slash": _replaced(good, number, lambda part: "/" + part[1:]),
            f"{name} with a space": _replaced(good, number, lambda part: part[:4] + " " + part[4:]),
        }
    return forms


def _flipped(part: str) -> str:
    middle = len(part) // 2
    return part[:middle] + ("A" if part[middle] != "A" else "B") + part[middle + 1 :]


def _forged(signer: Signer, user: str) -> dict[str, str]:
    """Tokens signed by a stranger, with and without a header that points to the stranger's key."""
    claims = json.dumps(signer.full_claims(user)).encode()
    forms: dict[str, str] = {}
    for alg in ("EdDSA", "ES256", "ES384", "ES512", "RS256", "PS256"):
        key = private_key(alg) if alg[:2] not in ("RS", "PS") else rsa.generate_private_key(65537, 2048)
        stranger = Signer(alg, key, signer.header)
        public = jwk(key, kid=signer.header.get("kid", "mine"), alg=alg)
        forms[f"{alg} by a stranger"] = stranger.raw(json.dumps(stranger.full_header()).encode(), claims)
        for name, value in {
            "jwk": public,
            "jku": "http://127.0.0.1:1/jwks",
            "x5u": "http://127.0.0.1:1/cert",
            "x5c": ["MIIB"],
            "kid": "../../../../dev/null",
        }.items():
            head = stranger.full_header(**{name: value})
            forms[f"{alg} by a stranger with {name}"] = stranger.raw(json.dumps(head).encode(), claims)
        for secret in (pem(key), json.dumps(public).encode()):
            forms[f"HMAC with the public key of {alg}, {len(forms)}"] = _hmac(signer, claims, secret)
    for name, secret in {"an empty secret": b"", "NUL": b"\x00" * 32, "secret": b"secret", "null": b"null"}.items():
        forms[f"HMAC with {name}"] = _hmac(signer, claims, secret)
    return forms


def _hmac(signer: Signer, claims: bytes, secret: bytes) -> str:
    head = json.dumps(signer.full_header(alg="HS256")).encode()
    signing_input = f"{encoded(head)}.{encoded(claims)}"
    # PyJWT refuses to sign with a public key or an empty secret. An attacker does not.
    return f"{signing_input}.{encoded(hmac.digest(secret, signing_input.encode(), 'sha256'))}"


def hostile_tokens(signer: Signer, user: str) -> dict[str, str]:
    """Tokens for `user` that a service must reject, although it accepts the tokens of `signer`."""
    good, other = signer.token(user), signer.token("bob")
    claims = signer.full_claims(user)
    head, body = _inner(signer.full_header()), _inner(claims)
    rest = {name: value for name, value in claims.items() if name not in ("exp", "iat")}
    forms = {f"header: {name}": signer.token(user, members) for name, members in HEADERS.items()}
    forms |= {f"claims: {name}": signer.token(user, **members) for name, members in CLAIMS.items()}
    for name, text in TEXTS.items():
        base = _inner(rest | {"exp": claims["exp"]}) if "exp" not in name else _inner(rest)
        whole = body if name == "duplicate exp" else base
        forms[f"text: {name}"] = signer.raw(json.dumps(signer.full_header()).encode(), text.replace(b"%s", whole))
    for name, text in HEADER_TEXTS.items():
        forms[f"header text: {name}"] = signer.raw(text.replace(b"%s", head), json.dumps(claims).encode())
    forms |= {f"mangled: {name}": token for name, token in _mangled(good, other).items()}
    forms |= {f"forged: {name}": token for name, token in _forged(signer, user).items()}
    access = {"scope": "tasks:read tasks:write", "client_id": "client-1"}
    for name, members in ACCESS_TOKEN_CLAIMS.items():
        forms[f"access token: {name}"] = signer.token(user, {"typ": "at+jwt"}, **(access | members))
    forms["unsigned"] = encoded(b'{"alg":"none"}') + "." + encoded(json.dumps(claims).encode()) + "."
    return forms


def tokens_without_scope(signer: Signer, user: str) -> dict[str, str]:
    """OAuth access tokens for `user` that do not grant `tasks:read`. A service must answer GET with 403."""
    forms = {
        f"{typ}: {name}": signer.token(user, {"typ": typ}, client_id="client-1", **members)
        for typ in ("at+jwt", "application/at+jwt", "AT+JWT")
        for name, members in INSUFFICIENT_SCOPES.items()
    }
    # Better Auth's OAuth provider before 1.7 set no typ.
    for typ in (None, "JWT"):
        for client in ("azp", "client_id"):
            header, claims = {"typ": typ}, {client: "client-1", "scope": "openid profile"}
            forms[f"typ {typ} with {client}"] = signer.token(user, header, **claims)
    return forms
