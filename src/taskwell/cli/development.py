"""For development only: a secret in a file, and tokens signed with it."""

import asyncio
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

import jwt

from taskwell.auth.keys import SharedSecret
from taskwell.auth.tokens import Verifier
from taskwell.errors import SettingsError
from taskwell.settings import DEVELOPMENT_SECRET_PREFIX, MIN_SECRET_BYTES, Settings

SECRET_FILE = Path(".taskwell/development-secret")
DATABASE_URL = "sqlite:///taskwell.db"
DEMO_USER = "demo"

_RANDOM_BYTES = 32
_WRITE_SECONDS = 2

_GREETING = """
Taskwell is running at {url}

  API documentation: {url}/docs

  A token for the user "{user}", valid for one day:

{token}

  Create a first task:

curl -X POST {url}/api/{user}/tasks \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {token}' \\
  -d '{{"title": "Buy milk"}}'

For another user's token, run: {command} --user ID
To stop, press Ctrl-C.
"""


def greeting(settings: Settings, url: str, command: str) -> str:
    """Returns a text with the URLs, a token and a first request. It mentions `command`, which prints tokens."""
    token = sign(settings, DEMO_USER, ttl_seconds=24 * 3600)
    return _GREETING.format(url=url, user=DEMO_USER, token=token, command=command)


def development_secret() -> str:
    """Returns the secret of the current folder. The first call creates it in a file that only its owner can read.

    Raises:
        OSError: the file cannot be read or created.
    """
    SECRET_FILE.parent.mkdir(mode=0o700, exist_ok=True)
    if not SECRET_FILE.exists():
        with suppress(FileExistsError):
            _create_secret()
    return _read_secret()


def _create_secret() -> None:
    # O_EXCL lets one of several processes create the file, also on file systems without hard links.
    file = os.open(SECRET_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as writable:
        writable.write(DEVELOPMENT_SECRET_PREFIX + secrets.token_urlsafe(_RANDOM_BYTES))


def _read_secret() -> str:
    # Another process may have created the file and not written to it yet.
    deadline = time.monotonic() + _WRITE_SECONDS
    while len(secret := SECRET_FILE.read_text(encoding="utf-8").strip()) < MIN_SECRET_BYTES:
        if time.monotonic() > deadline:
            raise OSError(f"{SECRET_FILE} does not contain a complete secret; delete the file and run this again")
        time.sleep(0.01)
    return secret


def sign(settings: Settings, user: str, ttl_seconds: int) -> str:
    """Returns a token for `user` that this service accepts.

    Raises:
        InvalidToken: `user` is not a valid user id.
        SettingsError: the service verifies tokens with a key set, so only the auth server can sign them.
    """
    now = int(time.time())
    claims: dict[str, object] = {"sub": user, "iat": now, "exp": now + ttl_seconds}
    if settings.JWT_ISSUER:
        claims["iss"] = settings.JWT_ISSUER
    if settings.JWT_AUDIENCE:
        claims["aud"] = settings.JWT_AUDIENCE[0]
    if settings.BETTER_AUTH_SECRET is None:
        raise SettingsError("BETTER_AUTH_SECRET: is missing; without it, only your auth server can sign tokens")
    secret = settings.BETTER_AUTH_SECRET.get_secret_value()
    token = jwt.encode(claims, secret, "HS256")
    verifier = Verifier(SharedSecret(secret), issuer=settings.JWT_ISSUER, audiences=settings.JWT_AUDIENCE)
    asyncio.run(verifier.verify(token))
    return token
