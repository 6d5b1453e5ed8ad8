"""Every setting, read once at the door, refused by name when it is unsafe or contradicts another.

Only `create_app` and the command line see them.
"""

import difflib
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from taskwell.database.urls import DatabaseURL, InvalidDatabaseURL, parse_database_url

DEVELOPMENT_SECRET_PREFIX = "taskwell-development-only-"  # noqa: S105 - a mark, not a secret

MIN_SECRET_BYTES = 32
_PLACEHOLDERS = (
    "changeme",
    "changethis",
    "yoursecret",
    "replaceme",
    "replacethis",
    "placeholder",
    "betterauthsecret1234",
)
_KEY_SET_NAMES = ("BETTER_AUTH_URL", "JWT_JWKS_URL", "BETTER_AUTH_PUBLIC_KEY_URL")


class SettingsError(ValueError):
    """The settings cannot be used. The message has one line for each reason, with the remedy, and no secret."""


def _database_url(text: object) -> DatabaseURL:
    try:
        return parse_database_url(str(text))
    except InvalidDatabaseURL as error:
        raise ValueError(str(error)) from None


def _strong(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    remedy = "make one with: openssl rand -base64 32"
    if any(word in re.sub(r"[^a-z0-9]", "", value.lower()) for word in _PLACEHOLDERS):
        raise ValueError(f"is a well-known placeholder; {remedy}")
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes; {remedy}")
    return secret


def _comma_separated(text: object) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def _origin(text: str) -> str:
    if not re.fullmatch(r"https?://[^/\s*?#@]+", text):
        raise ValueError(f"{text!r} is no origin; write scheme and host as the browser does: https://app.example")
    return text


CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_origin)], ...], BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """The settings under their names in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    DATABASE_URL: Annotated[DatabaseURL, BeforeValidator(_database_url)]
    """Where the tasks are: `postgresql://user:password@host/database`, or `sqlite:///taskwell.db`."""

    BETTER_AUTH_SECRET: Annotated[SecretStr, AfterValidator(_strong)]
    """The secret that tokens are signed with by HS256, at least 32 bytes. `JWT_SECRET_KEY` is another name for it."""

    JWT_ISSUER: str | None = None
    """The `iss` that a token must have. Not looked at by default."""

    JWT_AUDIENCE: CommaSeparated = ()
    """The `aud` values of which a token must have one, comma-separated. By default a token must have no `aud`."""

    TASKWELL_CORS_ORIGINS: Origins = ()
    """The origins whose pages may call this service from a browser, comma-separated. None by default."""

    TASKWELL_LOG_LEVEL: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda text: str(text).lower())
    ] = "info"
    """How much is logged, to standard error. `info` has a line for each request."""

    TASKWELL_POOL_MIN: int = Field(default=5, ge=0, le=100)
    """Connections to PostgreSQL that each process opens at start."""

    TASKWELL_POOL_MAX: int = Field(default=20, ge=1, le=1000)
    """Connections to PostgreSQL that each process has at most."""

    TASKWELL_BODY_TIMEOUT_SECONDS: float = Field(default=10, gt=0, le=300)
    """Seconds in which a request's body must have arrived."""

    @model_validator(mode="after")
    def _pool_is_a_range(self) -> Self:
        if self.TASKWELL_POOL_MIN > self.TASKWELL_POOL_MAX:
            raise ValueError("TASKWELL_POOL_MIN is larger than TASKWELL_POOL_MAX; lower it or raise the other")
        return self

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Self:
        """The settings in `environment`, where an empty value is as good as none.

        Raises:
            SettingsError: they cannot be used.
        """
        values = {name: value for name, value in environment.items() if value.strip()}
        problems = [*_unknown(values), *_auth_mode(values)]
        values.setdefault("BETTER_AUTH_SECRET", values.get("JWT_SECRET_KEY", ""))
        try:
            settings = cls.model_validate({name: values[name] for name in cls.model_fields if name in values})
        except ValidationError as error:
            seen = " ".join(problems)
            problems += [line for line in _lines(error) if line.partition(":")[0] not in seen]
            raise SettingsError("\n".join(problems)) from None
        if problems:
            raise SettingsError("\n".join(problems))
        return settings


def read_database_url(environment: Mapping[str, str]) -> DatabaseURL:
    """The database alone, for a command that needs nothing else.

    Raises:
        SettingsError: it is missing or cannot be used.
    """
    try:
        return parse_database_url(environment["DATABASE_URL"])
    except KeyError:
        raise SettingsError(f"DATABASE_URL: {_REMEDIES['DATABASE_URL']}") from None
    except InvalidDatabaseURL as error:
        raise SettingsError(f"DATABASE_URL: {error}") from None


def has_auth_mode(environment: Mapping[str, str]) -> bool:
    """Whether the environment says how tokens are verified."""
    return any(environment.get(name, "").strip() for name in ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY", *_KEY_SET_NAMES))


def refuse_development_secret(settings: Settings) -> None:
    """Keeps the secret that `taskwell dev` made out of production.

    Raises:
        SettingsError: it is the one in use.
    """
    if settings.BETTER_AUTH_SECRET.get_secret_value().startswith(DEVELOPMENT_SECRET_PREFIX):
        raise SettingsError(
            "BETTER_AUTH_SECRET: is the development secret, which lies in a file of the working tree; "
            "set the secret of your auth server"
        )


def _unknown(values: Mapping[str, str]) -> list[str]:
    """A misspelt setting would silently leave its default in force."""
    ours = [name for name in Settings.model_fields if name.startswith("TASKWELL_")]
    lines: list[str] = []
    for name in sorted(values):
        if name.startswith("TASKWELL_") and name not in ours:
            close = difflib.get_close_matches(name, ours, 1)
            lines.append(f"{name}: is no setting" + (f"; did you mean {close[0]}?" if close else "; remove it"))
    return lines


def _auth_mode(values: Mapping[str, str]) -> list[str]:
    secrets = {values[name] for name in ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY") if name in values}
    key_set = next((name for name in _KEY_SET_NAMES if name in values), None)
    if secrets and key_set:
        return [f"{key_set}: contradicts BETTER_AUTH_SECRET; tokens are verified in one way only, so unset one of them"]
    if key_set:
        return [f"{key_set}: this version cannot verify by key set yet; set BETTER_AUTH_SECRET instead"]
    if len(secrets) > 1:
        return ["JWT_SECRET_KEY: contradicts BETTER_AUTH_SECRET, whose other name it is; unset one of them"]
    if not secrets:
        return ["BETTER_AUTH_SECRET: is missing; set it to the secret that your auth server signs tokens with"]
    return []


_REMEDIES = {
    "DATABASE_URL": "is missing; set it to postgresql://user:password@host/database or sqlite:///taskwell.db",
}


def _lines(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        name = str(part["loc"][0]) if part["loc"] else ""
        message = part["msg"].removeprefix("Value error, ").replace("Input should", "must")
        if part["type"] == "missing":
            message = _REMEDIES.get(name, "is missing")
        lines.append(f"{name}: {message}" if name else message)
    return lines
