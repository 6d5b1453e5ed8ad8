"""Reads settings for the commands: from the environment, from `.env`, and with defaults for development."""

import os
import secrets
from collections.abc import Mapping

from dotenv import load_dotenv

from taskwell.cli.development import DATABASE_URL, development_secret
from taskwell.settings import Settings, has_auth_mode


def read_environment() -> Mapping[str, str]:
    """Returns the environment, extended by `.env`. Worker processes inherit both."""
    load_dotenv(".env", interpolate=False)
    return os.environ


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
    return Settings.read(environment, development=True)


def placeholder_settings(environment: Mapping[str, str]) -> Settings:
    """Returns settings for an application that serves no requests: a random secret and the default database."""
    placeholders = {"DATABASE_URL": DATABASE_URL, "BETTER_AUTH_SECRET": secrets.token_hex()}
    return Settings.read({**environment, **placeholders})
