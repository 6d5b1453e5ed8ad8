"""All settings. They are read once. The error names each setting that is missing, unsafe or contradictory.

The command line reads them. After that only the code that builds the application sees them.
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

from taskwell.auth.better_auth import (
    AuthServer,
    check_encryption,
    check_http_host,
    check_key_set_url,
    parse_auth_server_url,
)
from taskwell.auth.jwks import ASYMMETRIC_ALGORITHMS
from taskwell.database.urls import DatabaseURL, InvalidDatabaseURL, direct, parse_database_url
from taskwell.errors import SettingsError
from taskwell.http.forwarded import check_proxy
from taskwell.http.origins import check_origin
from taskwell.http.rates import Rate, check_redis_url, parse_rate
from taskwell.http.segments import check_root_path
from taskwell.settings_text import flaw_of_secret, flaw_of_url, flaw_of_value

DEVELOPMENT_SECRET_PREFIX = "taskwell-development-only-"  # noqa: S105 - a marker, not a secret

MIN_SECRET_BYTES = 32

# Lower-case letters and digits only. These appear in documentation and templates, so anybody can sign tokens with them.
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
_DATABASE_NAMES = ("DATABASE_URL", "MIGRATION_DATABASE_URL")
_ALIASES = {"JWT_SECRET_KEY": "BETTER_AUTH_SECRET", "BETTER_AUTH_PUBLIC_KEY_URL": "JWT_JWKS_URL"}

_NO_DATABASE = "is missing; set it to postgresql://user:password@host/database or sqlite:///taskwell.db"
_ANOTHER_KIND = "must name the same kind of database as DATABASE_URL; correct it or unset it"
_NO_AUTH_MODE = (
    "is missing; set it to the URL of your Better Auth server, such as https://app.example, "
    "or set BETTER_AUTH_SECRET to the secret that your auth server signs tokens with"
)


def _database_url(text: object) -> DatabaseURL:
    try:
        return parse_database_url(str(text))
    except InvalidDatabaseURL as error:
        raise ValueError(str(error)) from None


def _auth_server(url: object) -> AuthServer:
    return parse_auth_server_url(str(url))


def _strong(secret: SecretStr) -> SecretStr:
    value = secret.get_secret_value()
    remedy = "make one with `openssl rand -base64 32` and set it on the auth server too"
    if any(word in re.sub(r"[^a-z0-9]", "", value.lower()) for word in _PLACEHOLDERS):
        raise ValueError(f"is a well-known placeholder; {remedy}")
    if len(set(value)) < _MIN_DIFFERENT_CHARACTERS <= len(value):
        raise ValueError(f"repeats only a few characters; {remedy}")
    if len(value.encode()) < MIN_SECRET_BYTES:
        raise ValueError(f"is shorter than {MIN_SECRET_BYTES} bytes; {remedy}")
    return secret


def _one_issuer(issuer: str) -> str:
    if re.search(r"[\s,]", issuer):
        raise ValueError("must be a single issuer, without commas or white space")
    return issuer


def _entries(text: object) -> tuple[str, ...]:
    return tuple(part.strip() for part in str(text).split(",") if part.strip())


def _comma_separated(text: object) -> tuple[str, ...]:
    if not (entries := _entries(text)):
        raise ValueError("has only commas; write a value, or unset it")
    return entries


CommaSeparated = Annotated[tuple[str, ...], BeforeValidator(_comma_separated)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(check_origin)], ...], BeforeValidator(_comma_separated)]
Proxies = Annotated[tuple[Annotated[str, AfterValidator(check_proxy)], ...], BeforeValidator(_comma_separated)]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(check_http_host)], ...], BeforeValidator(_comma_separated)]


class Settings(BaseModel):
    """The settings. Each field has the name of its environment variable."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    DATABASE_URL: Annotated[DatabaseURL, BeforeValidator(_database_url)]
    """The database: `postgresql://user:password@host/database` or `sqlite:///taskwell.db`."""

    MIGRATION_DATABASE_URL: Annotated[DatabaseURL, BeforeValidator(_database_url)] | None = None
    """The URL that migrations use for the same database: without a pooler, as the role that owns the tables.
    The default is `DATABASE_URL`; for a Neon pooler, its direct host."""

    # Before the two URLs, whose validator reads it.
    TASKWELL_ALLOW_HTTP_KEY_SET: Hosts = ()
    """Comma-separated hosts on a private network from which the key set may be fetched over plain http."""

    BETTER_AUTH_URL: Annotated[AuthServer, BeforeValidator(_auth_server)] | None = None
    """The URL of Better Auth. Its key set verifies tokens. Their issuer and audience must be its origin."""

    JWT_JWKS_URL: Annotated[str, AfterValidator(check_key_set_url)] | None = None
    """The URL of the key set, if it is not Better Auth's default. `BETTER_AUTH_PUBLIC_KEY_URL` is an alias."""

    BETTER_AUTH_SECRET: Annotated[SecretStr, AfterValidator(_strong)] | None = None
    """The secret of HS256 tokens, at least 32 bytes. Use it instead of a key set. `JWT_SECRET_KEY` is an alias."""

    JWT_ISSUER: Annotated[str, AfterValidator(_one_issuer)] | None = None
    """The `iss` that a token must have. The default is the origin of `BETTER_AUTH_URL`; with a secret, any `iss`."""

    JWT_AUDIENCE: CommaSeparated = ()
    """Comma-separated `aud` values; a token must have one of them. The default is the origin of `BETTER_AUTH_URL`;
    with a secret, a token must have no `aud`."""

    JWT_ALGORITHM: CommaSeparated = ()
    """Comma-separated algorithms to accept. The default is all algorithms of the keys."""

    TASKWELL_CORS_ORIGINS: Origins = ()
    """Comma-separated origins whose pages may call this service from a browser, such as `https://app.example` or
    `https://*.app.example`. The default is none."""

    TASKWELL_LOG_LEVEL: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lambda text: str(text).lower())
    ] = "info"
    """The lowest level that is logged, to standard error. `info` logs a line for each request."""

    TASKWELL_LOG_FORMAT: Annotated[Literal["json", "text"], BeforeValidator(lambda text: str(text).lower())] | None = (
        None
    )
    """The format of the log. By default, `text` on a terminal and for `taskwell dev`, and otherwise `json`."""

    TASKWELL_METRICS_PORT: int | None = Field(default=None, ge=1, le=65_535)
    """The port at which Prometheus reads the metrics, at the address of `--host`. By default, there are none."""

    TASKWELL_POOL_MIN: int = Field(default=5, ge=0, le=100)
    """Number of PostgreSQL connections that each process opens at startup."""

    TASKWELL_POOL_MAX: int = Field(default=20, ge=1, le=1000, validate_default=True)
    """Maximum number of PostgreSQL connections in each process."""

    TASKWELL_PREPARED_STATEMENTS: Annotated[
        Literal["auto", "on", "off"], BeforeValidator(lambda text: str(text).lower())
    ] = "auto"
    """Whether the server caches prepared statements. `auto` means `on`, except behind a pooler other than Neon's."""

    TASKWELL_MAX_IN_FLIGHT: int = Field(default=50, ge=1, le=10_000)
    """Maximum number of requests that each process works on at once. More are shed with a 503."""

    TASKWELL_MAX_STREAMS: int = Field(default=2000, ge=1, le=100_000)
    """Maximum number of streams, such as exports, that each process keeps open. Another one gets a 503."""

    TASKWELL_MAX_STREAMS_PER_USER: int = Field(default=20, ge=1, le=10_000)
    """Maximum number of streams that each process keeps open for one user. Another one gets a 429."""

    TASKWELL_EVENTS_IDLE_SECONDS: int = Field(default=300, ge=1, le=86_400)
    """Time in seconds without a change after which a process stops asking the database for changes to send as events."""

    TASKWELL_REQUIRE_IF_MATCH: bool = False
    """Whether changing or deleting a task needs the header `If-Match`, so that nobody overwrites a change that they have not seen."""

    TASKWELL_TRASH_DAYS: int = Field(default=30, ge=1, le=3650)
    """Number of days after which the content of a deleted task may be erased. `taskwell purge` erases it."""

    TASKWELL_PURGE_INTERVAL_SECONDS: int | None = Field(default=None, ge=1, le=2_678_400)
    """Time in seconds after which each process erases old deleted tasks again. By default, it does not."""

    TASKWELL_RATE_LIMIT: Annotated[Rate, BeforeValidator(parse_rate)] | None = None
    """The number of requests that each user may send, such as `200/second`. Further requests get a 429. The default is
    no limit."""

    TASKWELL_AUTH_FAILURE_LIMIT: Annotated[Rate, BeforeValidator(parse_rate)] | None = None
    """The number of requests without a valid token that each client address may send, such as `10/minute`. More get a
    429. The default is no limit."""

    # After the limits, which its validator reads.
    TASKWELL_RATE_LIMIT_STORAGE: Annotated[SecretStr, AfterValidator(check_redis_url)] | None = None
    """The URL of a Redis in which all processes count together. By default, each process counts on its own."""

    TASKWELL_KEEP_ALIVE_SECONDS: int = Field(default=75, ge=1, le=3600)
    """Time in seconds after which an idle connection is closed. Must be longer than the load balancer's idle timeout."""

    TASKWELL_BODY_TIMEOUT_SECONDS: float = Field(default=10, gt=0, le=300)
    """Time limit in seconds for receiving a request's body."""

    TASKWELL_ROOT_PATH: Annotated[str, AfterValidator(check_root_path)] = ""
    """The prefix under which a reverse proxy serves this service, such as `/prefix`. The default is none."""

    TASKWELL_FORWARDED_ALLOW_IPS: Proxies = ()
    """Comma-separated addresses or networks of proxies whose `X-Forwarded-For` and `Forwarded` are trusted, or `*` for
    all. The default is nobody."""

    @field_validator("MIGRATION_DATABASE_URL")
    @classmethod
    def _is_the_same_kind_of_database(cls, url: DatabaseURL | None, info: ValidationInfo) -> DatabaseURL | None:
        served = info.data.get("DATABASE_URL", url)
        if url and not isinstance(url, type(served)):
            raise ValueError(_ANOTHER_KIND)
        return url

    @field_validator("BETTER_AUTH_URL", "JWT_JWKS_URL")
    @classmethod
    def _is_encrypted(cls, server: AuthServer | str | None, info: ValidationInfo) -> AuthServer | str | None:
        if server:
            url = server if isinstance(server, str) else server.key_set_url
            check_encryption(url, info.data.get("TASKWELL_ALLOW_HTTP_KEY_SET", ()))
        return server

    @field_validator("TASKWELL_POOL_MAX")
    @classmethod
    def _pool_is_a_range(cls, maximum: int, info: ValidationInfo) -> int:
        if maximum < info.data.get("TASKWELL_POOL_MIN", 0):
            raise ValueError("is less than TASKWELL_POOL_MIN; raise it, or lower TASKWELL_POOL_MIN")
        return maximum

    @field_validator("TASKWELL_RATE_LIMIT_STORAGE")
    @classmethod
    def _has_a_limit(cls, storage: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        names = ("TASKWELL_RATE_LIMIT", "TASKWELL_AUTH_FAILURE_LIMIT")
        # A limit that is not valid is missing here, and reported itself.
        if storage and all(info.data.get(name, name) is None for name in names):
            raise ValueError(f"has no effect without a limit; set {' or '.join(names)}, or unset it")
        return storage

    @property
    def migration_url(self) -> DatabaseURL:
        """The database URL that migrations use."""
        return self.MIGRATION_DATABASE_URL or direct(self.DATABASE_URL)

    @property
    def key_set_url(self) -> str | None:
        """The URL of the key set, or None if a secret verifies tokens."""
        return self.JWT_JWKS_URL or (self.BETTER_AUTH_URL.key_set_url if self.BETTER_AUTH_URL else None)

    @property
    def issuer(self) -> str | None:
        """The `iss` that a token must have, or None for any."""
        return self.JWT_ISSUER or (self.BETTER_AUTH_URL.origin if self.BETTER_AUTH_URL else None)

    @property
    def audiences(self) -> tuple[str, ...]:
        """The accepted `aud` values. If empty, a token must have no `aud`."""
        return self.JWT_AUDIENCE or ((self.BETTER_AUTH_URL.origin,) if self.BETTER_AUTH_URL else ())

    @classmethod
    def read(cls, environment: Mapping[str, str], *, development: bool = False) -> Self:
        """Reads the settings from `environment`.

        An empty value counts as missing. White space around a value is removed.

        The secret that `taskwell dev` creates is accepted only if `development` is true.

        Raises:
            SettingsError: The settings cannot be used.
        """
        values = _given(environment)
        flaws = _flaws(values)
        reasons = [*_unknown(values), *_auth_mode(values, development=development)]
        aliased = {name: alias for alias, name in _ALIASES.items() if alias in values and name not in values}
        fields = {
            name: values[aliased.get(name, name)] for name in cls.model_fields if aliased.get(name, name) in values
        }
        try:
            settings = cls.model_validate(fields)
        except ValidationError as error:
            reasons += _broken_rules(error, aliased)
        else:
            if not flaws and not reasons:
                return settings
        lines = [f"{name}: {flaw}" for name, flaw in flaws.items()]
        raise SettingsError("\n".join(lines + [reason for reason in reasons if reason.partition(":")[0] not in flaws]))


def read_migration_url(environment: Mapping[str, str]) -> DatabaseURL:
    """Returns the database URL for migrations. Either of the two URLs is enough; other settings are not read.

    Raises:
        SettingsError: Both URLs are missing, or one cannot be used.
    """
    given = _given(environment)
    served, url = (_url_in(given, name) for name in _DATABASE_NAMES)
    if url and served and not isinstance(url, type(served)):
        raise SettingsError(f"MIGRATION_DATABASE_URL: {_ANOTHER_KIND}")
    if url:
        return url
    if served:
        return direct(served)
    raise SettingsError(f"DATABASE_URL: {_NO_DATABASE}")


def _url_in(given: Mapping[str, str], name: str) -> DatabaseURL | None:
    if name not in given:
        return None
    if flaw := flaw_of_url(given[name]):
        raise SettingsError(f"{name}: {flaw}")
    try:
        return parse_database_url(given[name])
    except InvalidDatabaseURL as error:
        raise SettingsError(f"{name}: {error}") from None


def has_auth_mode(environment: Mapping[str, str]) -> bool:
    """Returns whether the environment sets a secret or a key set."""
    return not _given(environment).keys().isdisjoint((*_SECRET_NAMES, *_KEY_SET_NAMES))


def _given(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value if name in _SECRET_NAMES else value.strip() for name, value in environment.items() if value.strip()
    }


def _flaws(values: Mapping[str, str]) -> dict[str, str]:
    """Returns, for each of our settings whose text is wrong, the reason."""
    ours = [name for name in values if name in Settings.model_fields or name in _ALIASES]
    return {name: flaw for name in sorted(ours) if (flaw := _flaw(name, values[name]))}


def _flaw(name: str, value: str) -> str | None:
    if name in _SECRET_NAMES:
        return flaw_of_secret(value)
    return flaw_of_url(value) if name in _DATABASE_NAMES else flaw_of_value(value)


def _unknown(values: Mapping[str, str]) -> list[str]:
    """Rejects unknown names: a misspelt setting would silently keep its default."""
    ours = [name for name in Settings.model_fields if name.startswith("TASKWELL_")]
    reasons: list[str] = []
    for name in sorted(values):
        if name.upper().startswith("TASKWELL_") and name not in ours:
            close = difflib.get_close_matches(name.upper(), ours, 1, cutoff=0.8)
            reasons.append(f"{name}: is not a setting; " + (f"did you mean {close[0]}?" if close else "remove it"))
    return reasons


def _auth_mode(values: Mapping[str, str], *, development: bool) -> list[str]:
    """Returns the reasons why the way of verifying tokens cannot be used.

    Exactly one must be set, and production must not use the development secret.
    """
    secrets = [name for name in _SECRET_NAMES if name in values]
    key_set = next((name for name in _KEY_SET_NAMES if name in values), None)
    reasons = [
        f"{name}: is the development secret, which is stored in the working tree; set the secret of your auth server"
        for name in secrets
        if DEVELOPMENT_SECRET_PREFIX in values[name] and not development
    ]
    if secrets and key_set:
        reasons.append(
            f"{key_set}: contradicts {secrets[0]}; tokens are verified in only one way, so unset one of them"
        )
    elif not key_set and not secrets:
        reasons.append(f"BETTER_AUTH_URL: {_NO_AUTH_MODE}")
    elif key_set and "BETTER_AUTH_URL" not in values:
        reasons += [
            f"{name}: is missing; it is required without BETTER_AUTH_URL, to check the {claim} of tokens"
            for name, claim in (("JWT_ISSUER", "iss"), ("JWT_AUDIENCE", "aud"))
            if name not in values
        ]
    reasons += [
        f"{alias}: contradicts {name}, although it is an alias of it; unset one of them"
        for alias, name in _ALIASES.items()
        if alias in values and values.get(name, values[alias]) != values[alias]
    ]
    known = frozenset({"HS256"}) if secrets else ASYMMETRIC_ALGORITHMS
    if unknown := set(_entries(values.get("JWT_ALGORITHM", ""))) - known:
        reasons.append(f"JWT_ALGORITHM: cannot be {', '.join(sorted(unknown))}; use {', '.join(sorted(known))}")
    return reasons


def _broken_rules(error: ValidationError, aliased: Mapping[str, str]) -> list[str]:
    """Returns pydantic's errors as `NAME: remedy`, with the alias if the operator used it."""
    reasons: list[str] = []
    for part in error.errors(include_url=False, include_context=False, include_input=False):
        name, *entry = part["loc"]
        message = part["msg"].removeprefix("Value error, ").replace("Input should", "must")
        if part["type"] == "missing":
            message = _NO_DATABASE
        used = aliased.get(str(name), name)
        reasons.append(f"{used}: " + (f"entry {int(entry[0]) + 1} " if entry else "") + message)
    return reasons
