"""Reads settings for the commands: from the environment, from `.env`, and with defaults for development."""

import codecs
import io
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from dotenv import load_dotenv
from dotenv.parser import parse_stream

from taskwell.cli.development import DATABASE_URL, development_secret
from taskwell.errors import SettingsError
from taskwell.settings import Settings, has_auth_mode

_ENV_FILE = Path(".env")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_environment() -> Mapping[str, str]:
    """Returns the environment, extended by `.env`. Worker processes inherit both.

    Raises:
        SettingsError: `.env` cannot be used.
    """
    text = _read_env_file()
    _check_lines(text)
    load_dotenv(stream=io.StringIO(text), interpolate=False)
    return os.environ


def _read_env_file() -> str:
    try:
        content = _ENV_FILE.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        # A folder called .env is usually a virtual environment.
        return ""
    except OSError as error:
        raise SettingsError(f".env: cannot be read: {error.strerror}") from None
    if content.startswith(_UTF_16) or b"\0" in content:
        raise SettingsError(".env: is not UTF-8 text, but probably UTF-16 from PowerShell; save it as UTF-8")
    try:
        # With or without a byte order mark, which Windows editors write.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f".env: line {line} is not UTF-8 text; save the file as UTF-8") from None


def _check_lines(text: str) -> None:
    """Rejects a line that python-dotenv would skip, because the setting on that line would silently keep its default."""
    reasons: list[str] = []
    for binding in parse_stream(io.StringIO(text)):
        # The original text begins with the blank lines before it.
        original = binding.original.string
        line = binding.original.line + original[: len(original) - len(original.lstrip())].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            reasons.append(f".env: line {line} is not NAME=value; correct it, or begin it with #")
        elif binding.key is not None and not (binding.key.isascii() and binding.key.isprintable()):
            reasons.append(f".env: line {line} has an invisible or non-ASCII character in its name; type it again")
    if reasons:
        raise SettingsError("\n".join(reasons))


def development_settings() -> Settings:
    """Returns the settings, with development defaults for those that production requires.

    Raises:
        SettingsError: the settings cannot be used.
        OSError: the development secret cannot be read or created.
    """
    environment = dict(read_environment())
    if not environment.get("DATABASE_URL", "").strip():
        environment["DATABASE_URL"] = DATABASE_URL
    if not has_auth_mode(environment):
        environment["BETTER_AUTH_SECRET"] = development_secret()
    if not environment.get("TASKWELL_LOG_FORMAT", "").strip():
        # A person reads it, also through a pipe.
        environment["TASKWELL_LOG_FORMAT"] = "text"
    return Settings.read(environment, development=True)


def placeholder_settings(environment: Mapping[str, str]) -> Settings:
    """Returns settings for an application that serves no requests: a random secret and the default database."""
    placeholders = {"DATABASE_URL": DATABASE_URL, "BETTER_AUTH_SECRET": secrets.token_hex()}
    return Settings.read({**environment, **placeholders})
