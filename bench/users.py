"""The users of the load and their tokens, signed as Better Auth signs them or with a shared secret."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from support.auth_server import AuthServer, key_set
from support.tokens import Signer, jwk, pem, private_key

Algorithm = Literal["HS256", "EdDSA"]

SECRET = "a-secret-of-the-benchmark-and-of-nothing-else"
KEY_ID = "bench"
FIRST_USER = 100_000
TOKEN_SECONDS = 3600


def user(number: int) -> str:
    """Returns the user's id. It consists of digits, because pgbench cannot build any other text."""
    return str(FIRST_USER + number)


@dataclass(frozen=True)
class Auth:
    """One way to sign tokens, and the settings that let a server verify them."""

    algorithm: Algorithm
    signer: Signer
    taskwell: dict[str, str]
    peers: dict[str, str]

    def token(self, name: str) -> str:
        """Returns a token with the claims of Better Auth's tokens: the user's whole row."""
        row = {
            "name": f"User {name}",
            "email": f"user-{name}@example.com",
            "emailVerified": True,
            "createdAt": "2026-01-01T00:00:00.000Z",
            "updatedAt": "2026-01-01T00:00:00.000Z",
            "id": name,
        }
        return self.signer.token(name, exp=self._expiry(), **row)

    def _expiry(self) -> int:
        return int(self.signer.full_claims("")["iat"]) + TOKEN_SECONDS


def by_secret() -> Auth:
    return Auth(
        "HS256",
        Signer("HS256", SECRET.encode()),
        taskwell={"BETTER_AUTH_SECRET": SECRET},
        peers={"JWT_ALGORITHM": "HS256", "JWT_KEY": SECRET},
    )


@contextmanager
def by_key_set() -> Iterator[Auth]:
    """Yields EdDSA. Taskwell fetches the key set, as in production; the peers get the key itself."""
    key = private_key("EdDSA")
    with AuthServer(key_set(jwk(key, kid=KEY_ID))) as server:
        names = {"JWT_ISSUER": server.origin, "JWT_AUDIENCE": server.origin}
        yield Auth(
            "EdDSA",
            Signer("EdDSA", key, {"kid": KEY_ID}, {"iss": server.origin, "aud": server.origin}),
            taskwell={"JWT_JWKS_URL": f"{server.origin}/jwks", **names},
            peers={"JWT_ALGORITHM": "EdDSA", "JWT_KEY": pem(key).decode(), **names},
        )
