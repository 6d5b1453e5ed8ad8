"""Every setting, read once at the door, refused by name when it is unsafe or contradicts another.

They are read by the command line; from then on only what builds the application sees them.
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
    ValidationInfo,
    field_validator,
)

from taskwell.auth.better_auth import AuthSite, check_url, parse_site
from taskwell.auth.jwks import ASYMMETRIC_ALGORITHMS
from taskwell.database.urls import DatabaseURL, InvalidDatabaseURL, direct, parse_database_url
from taskwell.errors import SettingsError
from taskwell.http.origins import check_origin

DEVELOPMENT_SECRET_PREFIX = "taskwell-development-only-"  # noqa: S105 - a mark, not a secret

MIN_SECRET_BYTES = 32

# With everything but letters and digits taken out. They stand in documentation and templates, so anybody can sign with them.
_PLACEHOLDERS = (
    "changeme",
    "secretsecret",
    "changethis",
    "changeinproduction",
    "yoursecret",
    "yoursupersecret",
    "yourjwtsecret",
    "yourbetterauthsecret",
    "mysupersecret",
    "replaceme",
    "replacethis",
    "replacewith",
    "placeholder",
    "betterauthsecret1234",
    "opensslrand",
)
_MIN_DIFFERENT_CHARACTERS = 4

_SECRET_NAMES = ("BETTER_AUTH_SECRET", "JWT_SECRET_KEY")
_KEY_SET_NAMES = ("BETTER_AUTH_URL", "JWT_JWKS_URL", "BETTER_AUTH_PUBLIC_KEY_URL")
_ALIASES = {"JWT_SECRET_KEY": "BETTER_AUTH_SECRET", "BETTER_AUTH_PUBLIC_KEY_URL": "JWT_JWKS_URL"}

_NO_DATABASE = "is missing; set it to postgresql://user:password@host/database or sqlite:///taskwell.db"
_ANOTHER_KIND = "names another kind of database than DATABASE_URL; correct it, or unset it"
_NO_AUTH_MODE = (
    "is missing; set it to where your Better Auth is, like https://app.example, "
    "or else BETTER_AUTH_SECRET to the secret that your auth server signs tokens with"
)


def _database_url(text: object) -> DatabaseURL:
    try:
        return parse_database_url(str(text))
    except InvalidDatabaseURL as error:
        raise ValueError(str(error)) from None


def _site(url: object) -> AuthSite:
    return parse_site(str(url))


def _strong(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    remedy = "make one with `openssl rand -base64 32` and set it on the auth server too"
    if any(word in re.sub(r"[^a-z0-9]", "", value.lower()) for word in _PLACEHOLDERS):
        raise ValueError(f"is a well-known placeholder; {remedy}")
    if len(set(value)) < _MIN_DIFFERENT_CHARACTERS <= len(value):
        raise ValueError(f"is a few characters repeated; {remedy}")
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes; {remedy}")
    return secret


def _comma_separated(text: object) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(check_origin)], ...], BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """The settings under their names in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    DATABASE_URL: Annotated[DatabaseURL, BeforeValidator(_database_url)]
    """Where the tasks are: `postgresql://user:password@host/database`, or `sqlite:///taskwell.db`."""

    MIGRATION_DATABASE_URL: Annotated[DatabaseURL, BeforeValidator(_database_url)] | None = None
    """The same database as migrations reach it: past a pooler, as the role that owns the tables. By default
    `DATABASE_URL`, of Neon's pooler the direct form."""

    BETTER_AUTH_URL: Annotated[AuthSite, BeforeValidator(_site)] | None = None
    """Where Better Auth is. Tokens are verified with its key set; issuer and audience are its origin."""

    JWT_JWKS_URL: Annotated[str, AfterValidator(check_url)] | None = None
    """The key set, where it is not Better Auth's usual one. `BETTER_AUTH_PUBLIC_KEY_URL` is another name for it."""

    BETTER_AUTH_SECRET: Annotated[SecretStr, AfterValidator(_strong)] | None = None
    """The secret that tokens are signed with by HS256, at least 32 bytes, instead of a key set. `JWT_SECRET_KEY` is
    another name for it."""

    JWT_ISSUER: str | None = None
    """The `iss` that a token must have. By default the origin of `BETTER_AUTH_URL`; with a secret it is not looked at."""

    JWT_AUDIENCE: CommaSeparated = ()
    """The `aud` values of which a token must have one, comma-separated. By default the origin of `BETTER_AUTH_URL`;
    with a secret a token must have no `aud`."""

    JWT_ALGORITHM: CommaSeparated = ()
    """The algorithms that are accepted, comma-separated. By default those that the keys are for."""

    TASKWELL_CORS_ORIGINS: Origins = ()
    """The origins whose pages may call this service from a browser, comma-separated, such as `https://app.example` or
    `https://*.app.example`. None by default."""

    TASKWELL_LOG_LEVEL: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda text: str(text).lower())
    ] = "info"
    """How much is logged, to standard error. `info` has a line for each request."""

    TASKWELL_POOL_MIN: int = Field(default=5, ge=0, le=100)
    """Connections to PostgreSQL that each process opens at start."""

    TASKWELL_POOL_MAX: int = Field(default=20, ge=1, le=1000, validate_default=True)
    """Connections to PostgreSQL that each process has at most."""

    TASKWELL_PREPARED_STATEMENTS: Annotated[
        Literal["auto", "on", "off"], BeforeValidator(lambda text: str(text).lower())
    ] = "auto"
    """Whether PostgreSQL keeps our statements under names. `auto`: not behind a pooler, unless it is Neon's."""

    TASKWELL_DISPATCHER: Annotated[Literal["on", "off"], BeforeValidator(lambda text: str(text).lower())] = "on"
    """Whether requests that are in order take the short way to their route, past the framework's stack."""

    TASKWELL_MAX_IN_FLIGHT: int = Field(default=50, ge=1, le=10_000)
    """Requests that each process works on at once. What comes beyond them is refused: 503, to be tried again in a second."""

    TASKWELL_BODY_TIMEOUT_SECONDS: float = Field(default=10, gt=0, le=300)
    """Seconds in which a request's body must have arrived."""

    @field_validator("MIGRATION_DATABASE_URL")
    @classmethod
    def _is_of_the_same_kind(cls, url: DatabaseURL | None, info: ValidationInfo) -> DatabaseURL | None:
        served = info.data.get("DATABASE_URL", url)
        if url and not isinstance(url, type(served)):
            raise ValueError(_ANOTHER_KIND)
        return url

    @field_validator("TASKWELL_POOL_MAX")
    @classmethod
    def _pool_is_a_range(cls, maximum: int, info: ValidationInfo) -> int:
        if maximum < info.data.get("TASKWELL_POOL_MIN", 0):
            raise ValueError("is less than TASKWELL_POOL_MIN; raise it, or lower the other")
        return maximum

    @property
    def migration_url(self) -> DatabaseURL:
        """Where migrations run."""
        return self.MIGRATION_DATABASE_URL or direct(self.DATABASE_URL)

    @property
    def key_set_url(self) -> str | None:
        """The key set that tokens are verified with, unless a secret is."""
        return self.JWT_JWKS_URL or (self.BETTER_AUTH_URL.key_set_url if self.BETTER_AUTH_URL else None)

    @property
    def issuer(self) -> str | None:
        """The `iss` that a token must have."""
        return self.JWT_ISSUER or (self.BETTER_AUTH_URL.origin if self.BETTER_AUTH_URL else None)

    @property
    def audiences(self) -> tuple[str, ...]:
        """The `aud` values of which a token must have one."""
        return self.JWT_AUDIENCE or ((self.BETTER_AUTH_URL.origin,) if self.BETTER_AUTH_URL else ())

    @classmethod
    def read(cls, environment: Mapping[str, str], *, development: bool = False) -> Self:
        """The settings in `environment`, where an empty value is as good as none.

        Only with `development` is the secret accepted that `taskwell dev` made.

        Raises:
            SettingsError: they cannot be used.
        """
        values = _given(environment)
        reasons = [*_unknown(values), *_auth_mode(values, development=development)]
        aliased = {name: alias for alias, name in _ALIASES.items() if alias in values and name not in values}
        fields = {
            name: values[aliased.get(name, name)] for name in cls.model_fields if aliased.get(name, name) in values
        }
        try:
            settings = cls.model_validate(fields)
        except ValidationError as error:
            raise SettingsError("\n".join([*reasons, *_broken_rules(error, aliased)])) from None
        if reasons:
            raise SettingsError("\n".join(reasons))
        return settings


def read_migration_url(environment: Mapping[str, str]) -> DatabaseURL:
    """Where migrations run, for a command that needs nothing else: of the two URLs one is enough.

    Raises:
        SettingsError: both are missing, or they cannot be used.
    """
    given = _given(environment)
    served, url = (_url_in(given, name) for name in ("DATABASE_URL", "MIGRATION_DATABASE_URL"))
    if url and served and not isinstance(url, type(served)):
        raise SettingsError(f"MIGRATION_DATABASE_URL: {_ANOTHER_KIND}")
    if url:
        return url
    if served:
        return direct(served)
    raise SettingsError(f"DATABASE_URL: {_NO_DATABASE}")


def _url_in(given: Mapping[str, str], name: str) -> DatabaseURL | None:
    try:
        return parse_database_url(given[name]) if name in given else None
    except InvalidDatabaseURL as error:
        raise SettingsError(f"{name}: {error}") from None


def has_auth_mode(environment: Mapping[str, str]) -> bool:
    """Whether the environment says how tokens are verified."""
    return not _given(environment).keys().isdisjoint((*_SECRET_NAMES, *_KEY_SET_NAMES))


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if value.strip()}


def _unknown(values: Mapping[str, str]) -> list[str]:
    """A misspelt setting would silently leave its default in force."""
    ours = [name for name in Settings.model_fields if name.startswith("TASKWELL_")]
    reasons: list[str] = []
    for name in sorted(values):
        if name.upper().startswith("TASKWELL_") and name not in ours:
            close = difflib.get_close_matches(name.upper(), ours, 1, cutoff=0.8)
            reasons.append(f"{name}: is no setting; " + (f"did you mean {close[0]}?" if close else "remove it"))
    return reasons


def _auth_mode(values: Mapping[str, str], *, development: bool) -> list[str]:
    """Tokens are verified in exactly one way, and in production never by a secret that lies in a working tree."""
    secrets = [name for name in _SECRET_NAMES if name in values]
    key_set = next((name for name in _KEY_SET_NAMES if name in values), None)
    reasons = [
        f"{name}: is the development secret, which a file of the working tree holds; set that of your auth server"
        for name in secrets
        if DEVELOPMENT_SECRET_PREFIX in values[name] and not development
    ]
    if secrets and key_set:
        reasons.append(
            f"{key_set}: contradicts {secrets[0]}; tokens are verified in one way only, so unset one of them"
        )
    elif not key_set and not secrets:
        reasons.append(f"BETTER_AUTH_URL: {_NO_AUTH_MODE}")
    elif key_set and "BETTER_AUTH_URL" not in values:
        reasons += [
            f"{name}: is missing; without BETTER_AUTH_URL nothing says what a token's {claim} must be"
            for name, claim in (("JWT_ISSUER", "iss"), ("JWT_AUDIENCE", "aud"))
            if name not in values
        ]
    reasons += [
        f"{alias}: contradicts {name}, whose other name it is; unset one of them"
        for alias, name in _ALIASES.items()
        if alias in values and values.get(name, values[alias]) != values[alias]
    ]
    known = frozenset({"HS256"}) if secrets else ASYMMETRIC_ALGORITHMS
    if unknown := set(_comma_separated(values.get("JWT_ALGORITHM", ""))) - known:
        reasons.append(f"JWT_ALGORITHM: has {', '.join(sorted(unknown))}; here may stand {', '.join(sorted(known))}")
    return reasons


def _broken_rules(error: ValidationError, aliased: Mapping[str, str]) -> list[str]:
    """What pydantic found, as `NAME: what to do`, under the name that was used."""
    reasons: list[str] = []
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        name, *entry = part["loc"]
        message = part["msg"].removeprefix("Value error, ").replace("Input should", "must")
        if part["type"] == "missing":
            message = _NO_DATABASE
        used = aliased.get(str(name), name)
        reasons.append(f"{used}: " + (f"entry {int(entry[0]) + 1} " if entry else "") + message)
    return reasons
