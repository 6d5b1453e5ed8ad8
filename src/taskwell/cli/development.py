"""What a developer needs and production must not have: a secret that lies in a file, and tokens signed with it."""

import asyncio
import os
import secrets
import time
from pathlib import Path

import jwt

from taskwell.auth.keys import SharedSecret
from taskwell.auth.tokens import Verifier
from taskwell.errors import SettingsError
from taskwell.settings import DEVELOPMENT_SECRET_PREFIX, Settings

SECRET_FILE = Path(".taskwell/development-secret")
DATABASE_URL = "sqlite:///taskwell.db"
DEMO_USER = "demo"

_GREETING = """
Taskwell serves at {url}

  documentation  {url}/docs
  a token for the user "{user}", valid for a day:

{token}

  a first task:

curl -X POST {url}/api/{user}/tasks \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {token}' \\
  -d '{{"title": "Buy milk"}}'

Another user's token: {command} --user ID. Stop with Ctrl-C.
"""


def greeting(settings: Settings, url: str, command: str) -> str:
    """Where the service is, and all that a first request needs. `command` is the one that prints tokens."""
    token = sign(settings, DEMO_USER, ttl_seconds=24 * 3600)
    return _GREETING.format(url=url, user=DEMO_USER, token=token, command=command)


def development_secret() -> str:
    """The secret of this working tree, made when it is first needed, and readable by its owner only.

    Raises:
        OSError: it can be neither read nor made.
    """
    SECRET_FILE.parent.mkdir(mode=0o700, exist_ok=True)
    if not SECRET_FILE.exists():
        _make_secret()
    return SECRET_FILE.read_text(encoding="utf-8").strip()


def _make_secret() -> None:
    """Whole or not at all, and of two that start at once one is kept: a link, unlike a rename, overwrites nothing."""
    draft = SECRET_FILE.with_name(f"{SECRET_FILE.name}.{os.getpid()}")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as writable:
        writable.write(DEVELOPMENT_SECRET_PREFIX + secrets.token_urlsafe(32))
    try:
        os.link(draft, SECRET_FILE)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def sign(settings: Settings, user: str, ttl_seconds: int) -> str:
    """A token for `user` that this service accepts.

    Raises:
        InvalidToken: it would not, as no token may name such a user.
        SettingsError: tokens are verified by key set, and only the auth server has the private keys.
    """
    now = int(time.time())
    claims: dict[str, object] = {"sub": user, "iat": now, "exp": now + ttl_seconds}
    if settings.JWT_ISSUER:
        claims["iss"] = settings.JWT_ISSUER
    if settings.JWT_AUDIENCE:
        claims["aud"] = settings.JWT_AUDIENCE[0]
    if settings.BETTER_AUTH_SECRET is None:
        raise SettingsError("BETTER_AUTH_SECRET: is missing; without it only your auth server can sign tokens")
    secret = settings.BETTER_AUTH_SECRET.get_secret_value()
    token = jwt.encode(claims, secret, "HS256")
    verifier = Verifier(SharedSecret(secret), issuer=settings.JWT_ISSUER, audiences=settings.JWT_AUDIENCE)
    asyncio.run(verifier.verify(token))
    return token
