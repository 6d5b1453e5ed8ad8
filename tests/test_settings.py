"""Settings: which values are accepted, and which are rejected by name and with a remedy."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from support.service import SECRET
from taskwell.database.urls import parse_database_url
from taskwell.errors import SettingsError
from taskwell.settings import DEVELOPMENT_SECRET_PREFIX, Settings, read_migration_url

ROOT = Path(__file__).parents[1]
GOOD = {"DATABASE_URL": "postgresql://app:hunter2@db.example/tasks", "BETTER_AUTH_SECRET": SECRET}
WITHOUT_SECRET = {"BETTER_AUTH_SECRET": ""}
ALIASES = {"JWT_SECRET_KEY", "BETTER_AUTH_PUBLIC_KEY_URL"}


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"DATABASE_URL": ""}, ["DATABASE_URL: is missing; set it to postgresql://"]),
        ({"DATABASE_URL": " \t"}, ["DATABASE_URL: is missing"]),
        ({"DATABASE_URL": "mysql://app:hunter2@db/tasks"}, ["DATABASE_URL: must begin with postgresql://"]),
        ({"DATABASE_URL": "postgresql://a:hunter2@b/c?sslmod=x"}, ["DATABASE_URL: has unknown parameters"]),
        (WITHOUT_SECRET, ["BETTER_AUTH_URL: is missing; set it to the URL of your Better Auth server"]),
        ({"BETTER_AUTH_SECRET": "hunter2"}, ["BETTER_AUTH_SECRET: is shorter than 32 bytes; make one with"]),
        ({"BETTER_AUTH_SECRET": SECRET[:31]}, ["BETTER_AUTH_SECRET: is shorter than 32 bytes"]),
        ({"BETTER_AUTH_SECRET": "change-me" * 5}, ["BETTER_AUTH_SECRET: is a well-known placeholder; make one with"]),
        ({"BETTER_AUTH_SECRET": "changethis"}, ["BETTER_AUTH_SECRET: is a well-known placeholder"]),
        ({"BETTER_AUTH_SECRET": "Your_Secret_Key_" * 3}, ["BETTER_AUTH_SECRET: is a well-known placeholder"]),
        (
            {"BETTER_AUTH_SECRET": "better-auth-secret-12345678901234567890"},
            ["BETTER_AUTH_SECRET: is a well-known placeholder"],
        ),
        ({"BETTER_AUTH_SECRET": "x" * 64}, ["BETTER_AUTH_SECRET: repeats only a few characters; make one with"]),
        (
            {"BETTER_AUTH_SECRET": DEVELOPMENT_SECRET_PREFIX + SECRET},
            ["BETTER_AUTH_SECRET: is the development secret, which is stored in the working tree; set the"],
        ),
        (
            WITHOUT_SECRET | {"JWT_SECRET_KEY": DEVELOPMENT_SECRET_PREFIX + SECRET},
            ["JWT_SECRET_KEY: is the development secret"],
        ),
        (WITHOUT_SECRET | {"JWT_SECRET_KEY": "hunter2"}, ["JWT_SECRET_KEY: is shorter than 32 bytes"]),
        ({"JWT_SECRET_KEY": SECRET + "hunter2"}, ["JWT_SECRET_KEY: contradicts BETTER_AUTH_SECRET"]),
        ({"BETTER_AUTH_URL": "https://app.example"}, ["BETTER_AUTH_URL: contradicts BETTER_AUTH_SECRET"]),
        (
            WITHOUT_SECRET | {"JWT_SECRET_KEY": SECRET, "JWT_JWKS_URL": "https://app.example"},
            ["JWT_JWKS_URL: contradicts JWT_SECRET_KEY"],
        ),
        ({"TASKWELL_POOL_MAZ": "7"}, ["TASKWELL_POOL_MAZ: is not a setting; did you mean TASKWELL_POOL_MAX?"]),
        ({"taskwell_pool_max": "7"}, ["taskwell_pool_max: is not a setting; did you mean TASKWELL_POOL_MAX?"]),
        ({"TASKWELL_COLOUR": "hunter2"}, ["TASKWELL_COLOUR: is not a setting; remove it"]),
        ({"TASKWELL_POOL_MAX": "many"}, ["TASKWELL_POOL_MAX: must be a valid integer"]),
        ({"TASKWELL_POOL_MAX": "0"}, ["TASKWELL_POOL_MAX: must be greater than or equal to 1"]),
        ({"TASKWELL_POOL_MAX": "4"}, ["TASKWELL_POOL_MAX: is less than TASKWELL_POOL_MIN; raise it, or lower"]),
        ({"TASKWELL_POOL_MIN": "21"}, ["TASKWELL_POOL_MAX: is less than TASKWELL_POOL_MIN"]),
        ({"TASKWELL_POOL_MIN": "-1"}, ["TASKWELL_POOL_MIN: must be greater than or equal to 0"]),
        ({"TASKWELL_LOG_LEVEL": "loud"}, ["TASKWELL_LOG_LEVEL: must be 'debug', 'info', 'warning' or 'error'"]),
        ({"TASKWELL_BODY_TIMEOUT_SECONDS": "0"}, ["TASKWELL_BODY_TIMEOUT_SECONDS: must be greater than 0"]),
        ({"TASKWELL_BODY_TIMEOUT_SECONDS": "nan"}, ["TASKWELL_BODY_TIMEOUT_SECONDS: must be"]),
        ({"TASKWELL_BODY_TIMEOUT_SECONDS": "inf"}, ["TASKWELL_BODY_TIMEOUT_SECONDS: must be"]),
        (
            {"TASKWELL_CORS_ORIGINS": "*"},
            ["TASKWELL_CORS_ORIGINS: entry 1 is not an origin; write the scheme and host"],
        ),
        (
            {"TASKWELL_CORS_ORIGINS": "https://app.example, https://u:hunter2@app.example"},
            ["TASKWELL_CORS_ORIGINS: entry 2 is not an origin"],
        ),
        ({"TASKWELL_CORS_ORIGINS": "https://App.example"}, ["TASKWELL_CORS_ORIGINS: entry 1 is not an origin"]),
        ({"TASKWELL_CORS_ORIGINS": "https://app.example:443"}, ["TASKWELL_CORS_ORIGINS: entry 1 is not an origin"]),
        ({"TASKWELL_CORS_ORIGINS": "http://app.example:80"}, ["TASKWELL_CORS_ORIGINS: entry 1 is not an origin"]),
        ({"TASKWELL_CORS_ORIGINS": "https://app.example/"}, ["TASKWELL_CORS_ORIGINS: entry 1 is not an origin"]),
        (
            {
                "DATABASE_URL": "",
                "BETTER_AUTH_SECRET": "hunter2",
                "TASKWELL_DATABASE_URL": "postgresql://a:hunter2@b/c",
                "TASKWELL_POOL_MIN": "30",
                "TASKWELL_LOG_LEVEL": "loud",
            },
            [
                "TASKWELL_DATABASE_URL: is not a setting",
                "DATABASE_URL: is missing",
                "BETTER_AUTH_SECRET: is shorter",
                "TASKWELL_LOG_LEVEL: must be",
                "TASKWELL_POOL_MAX: is less",
            ],
        ),
        (
            {"DATABASE_URL": "", "BETTER_AUTH_SECRET": ""},
            ["BETTER_AUTH_URL: is missing", "DATABASE_URL: is missing"],
        ),
    ],
    ids=str,
)
def test_all_unusable_settings_are_rejected_at_once_by_name(changes: dict[str, str], reasons: list[str]) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.read(GOOD | changes)
    lines = str(refusal.value).splitlines()
    assert [line for line, reason in zip(lines, reasons, strict=True) if not line.startswith(reason)] == []
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({}, "TASKWELL_POOL_MAX", 20),
        ({"TASKWELL_POOL_MAX": " "}, "TASKWELL_POOL_MAX", 20),
        ({"TASKWELL_POOL_MIN": "0", "TASKWELL_POOL_MAX": "1"}, "TASKWELL_POOL_MAX", 1),
        ({"TASKWELL_LOG_LEVEL": "DEBUG"}, "TASKWELL_LOG_LEVEL", "debug"),
        ({"TASKWELL_BODY_TIMEOUT_SECONDS": "2.5"}, "TASKWELL_BODY_TIMEOUT_SECONDS", 2.5),
        ({"JWT_AUDIENCE": "a, b,"}, "JWT_AUDIENCE", ("a", "b")),
        (
            {"TASKWELL_CORS_ORIGINS": "https://app.example,http://localhost:3000"},
            "TASKWELL_CORS_ORIGINS",
            ("https://app.example", "http://localhost:3000"),
        ),
        ({"SOMETHING_ELSE": "x", "PATH": "/bin"}, "JWT_ISSUER", None),
    ],
    ids=str,
)
def test_usable_settings_are_accepted(changes: dict[str, str], name: str, value: object) -> None:
    assert getattr(Settings.read(GOOD | changes), name) == value


@pytest.mark.parametrize(
    "secrets", [{"JWT_SECRET_KEY": SECRET} | WITHOUT_SECRET, {"JWT_SECRET_KEY": SECRET, "BETTER_AUTH_SECRET": SECRET}]
)
def test_the_secret_has_an_alias(secrets: dict[str, str]) -> None:
    assert SecretStr(SECRET) == Settings.read(GOOD | secrets).BETTER_AUTH_SECRET


SITE = WITHOUT_SECRET | {"BETTER_AUTH_URL": "https://app.example"}
BETTER_AUTH = ("https://app.example/api/auth/jwks", "https://app.example", ("https://app.example",))


@pytest.mark.parametrize(
    ("changes", "key_set_url", "issuer", "audiences"),
    [
        ({}, *BETTER_AUTH),
        ({"BETTER_AUTH_URL": "https://app.example/"}, *BETTER_AUTH),
        ({"BETTER_AUTH_URL": "https://App.Example:443"}, *BETTER_AUTH),
        ({"BETTER_AUTH_URL": "https://app.example/api/auth"}, *BETTER_AUTH),
        ({"BETTER_AUTH_URL": "https://app.example/login/"}, "https://app.example/login/jwks", *BETTER_AUTH[1:]),
        (
            {"BETTER_AUTH_URL": "http://localhost:3000"},
            "http://localhost:3000/api/auth/jwks",
            "http://localhost:3000",
            ("http://localhost:3000",),
        ),
        (
            {"BETTER_AUTH_URL": "http://localhost:80"},
            "http://localhost/api/auth/jwks",
            "http://localhost",
            ("http://localhost",),
        ),
        (
            {"BETTER_AUTH_URL": "http://[::1]:3000"},
            "http://[::1]:3000/api/auth/jwks",
            "http://[::1]:3000",
            ("http://[::1]:3000",),
        ),
        ({"JWT_JWKS_URL": "https://keys.example/k"}, "https://keys.example/k", *BETTER_AUTH[1:]),
        ({"BETTER_AUTH_PUBLIC_KEY_URL": "https://keys.example/k"}, "https://keys.example/k", *BETTER_AUTH[1:]),
        ({"JWT_ISSUER": "me", "JWT_AUDIENCE": "a,b"}, BETTER_AUTH[0], "me", ("a", "b")),
        (
            {"BETTER_AUTH_URL": "", "JWT_JWKS_URL": "https://k.example", "JWT_ISSUER": "me", "JWT_AUDIENCE": "a"},
            "https://k.example",
            "me",
            ("a",),
        ),
    ],
    ids=str,
)
def test_the_url_of_better_auth_determines_key_set_issuer_and_audience(
    changes: dict[str, str], key_set_url: str, issuer: str, audiences: tuple[str, ...]
) -> None:
    settings = Settings.read(GOOD | SITE | changes)
    assert (settings.key_set_url, settings.issuer, settings.audiences) == (key_set_url, issuer, audiences)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"BETTER_AUTH_URL": "http://app.example"}, "BETTER_AUTH_URL: must begin with https://"),
        ({"BETTER_AUTH_URL": "app.example"}, "BETTER_AUTH_URL: is not a URL"),
        ({"BETTER_AUTH_URL": "https://"}, "BETTER_AUTH_URL: is not a URL"),
        ({"BETTER_AUTH_URL": "https://app.example:port"}, "BETTER_AUTH_URL: is not a URL"),
        ({"BETTER_AUTH_URL": "https://u:hunter2@app.example"}, "BETTER_AUTH_URL: is not a URL"),
        ({"JWT_JWKS_URL": "https://:hunter2@app.example"}, "JWT_JWKS_URL: is not a URL"),
        ({"JWT_JWKS_URL": "https://app.example/\x01"}, "JWT_JWKS_URL: is not a URL"),
        ({"JWT_JWKS_URL": "https://app.example\\@b.example"}, "JWT_JWKS_URL: is not a URL"),
        ({"JWT_JWKS_URL": "https://app.example/a b"}, "JWT_JWKS_URL: is not a URL"),
        ({"BETTER_AUTH_URL": "https://app.example?a=b"}, "BETTER_AUTH_URL: has a query"),
        ({"BETTER_AUTH_URL": "https://app.example/#a"}, "BETTER_AUTH_URL: is not a URL"),
        ({"BETTER_AUTH_URL": "ftp://app.example"}, "BETTER_AUTH_URL: is not a URL"),
        ({"JWT_JWKS_URL": "file:///etc/passwd"}, "JWT_JWKS_URL: is not a URL"),
        ({"BETTER_AUTH_PUBLIC_KEY_URL": "http://k.example"}, "BETTER_AUTH_PUBLIC_KEY_URL: must begin with https://"),
        (
            {"JWT_JWKS_URL": "https://a.example", "BETTER_AUTH_PUBLIC_KEY_URL": "https://b.example"},
            "BETTER_AUTH_PUBLIC_KEY_URL: contradicts JWT_JWKS_URL",
        ),
        (
            {"BETTER_AUTH_URL": "", "JWT_JWKS_URL": "https://k.example", "JWT_AUDIENCE": "a"},
            "JWT_ISSUER: is missing; it is required without",
        ),
        (
            {"BETTER_AUTH_URL": "", "JWT_JWKS_URL": "https://k.example", "JWT_ISSUER": "a"},
            "JWT_AUDIENCE: is missing; it is required without",
        ),
        ({"JWT_ALGORITHM": "HS256"}, "JWT_ALGORITHM: cannot be HS256; use ES256"),
        ({"JWT_ALGORITHM": "EdDSA,none"}, "JWT_ALGORITHM: cannot be none; use"),
        (
            {"BETTER_AUTH_URL": "", "BETTER_AUTH_SECRET": SECRET, "JWT_ALGORITHM": "ES256"},
            "JWT_ALGORITHM: cannot be ES256",
        ),
    ],
    ids=str,
)
def test_an_unsafe_auth_server_is_rejected(changes: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        Settings.read(GOOD | SITE | changes)
    assert str(refusal.value).startswith(reason)
    assert "hunter2" not in str(refusal.value)


def test_the_development_secret_is_accepted_only_in_development() -> None:
    secret = DEVELOPMENT_SECRET_PREFIX + SECRET
    settings = Settings.read(GOOD | {"BETTER_AUTH_SECRET": secret}, development=True)
    assert SecretStr(secret) == settings.BETTER_AUTH_SECRET


def test_printing_settings_reveals_no_secret() -> None:
    settings = Settings.read(GOOD)
    assert SECRET not in f"{settings!r} {settings}"
    assert "hunter2" not in f"{settings!r} {settings}"


NEON = "postgresql://app:hunter2@ep-cool-night-1{}.eu-central-1.aws.neon.tech/tasks"
OTHER = "postgresql://owner:hunter2@direct.example/tasks"


@pytest.mark.parametrize(
    ("database_url", "migration_url", "expected"),
    [
        (NEON.format("-pooler"), "", NEON.format("")),
        (NEON.format("-pooler"), OTHER, OTHER),
        (NEON.format(""), NEON.format("-pooler"), NEON.format("-pooler")),
        (GOOD["DATABASE_URL"], " ", GOOD["DATABASE_URL"]),
        ("sqlite:///taskwell.db", "", "sqlite:///taskwell.db"),
    ],
)
def test_migrations_use_their_own_url_or_bypass_the_pooler(
    database_url: str, migration_url: str, expected: str
) -> None:
    given = GOOD | {"DATABASE_URL": database_url, "MIGRATION_DATABASE_URL": migration_url}
    assert Settings.read(given).migration_url == read_migration_url(given) == parse_database_url(expected)
    assert parse_database_url(database_url) == Settings.read(given).DATABASE_URL


def test_either_url_is_enough_for_migrations() -> None:
    assert read_migration_url({"MIGRATION_DATABASE_URL": OTHER}) == parse_database_url(OTHER)
    assert read_migration_url({"DATABASE_URL": OTHER}) == parse_database_url(OTHER)


@pytest.mark.parametrize(
    ("urls", "reason"),
    [
        ({"DATABASE_URL": ""}, "DATABASE_URL: is missing"),
        ({"DATABASE_URL": "mysql://a:hunter2@b/c"}, "DATABASE_URL: must begin with"),
        ({"DATABASE_URL": "mysql://a:hunter2@b/c", "MIGRATION_DATABASE_URL": OTHER}, "DATABASE_URL: must begin with"),
        ({"MIGRATION_DATABASE_URL": "mysql://a:hunter2@b/c"}, "MIGRATION_DATABASE_URL: must begin with"),
        (
            {"MIGRATION_DATABASE_URL": "sqlite:///x.db"},
            "MIGRATION_DATABASE_URL: must name the same kind of database as",
        ),
        (
            {"DATABASE_URL": "sqlite:///x.db", "MIGRATION_DATABASE_URL": OTHER},
            "MIGRATION_DATABASE_URL: must name the same kind of database as DATABASE_URL; correct it or unset it",
        ),
    ],
)
def test_every_command_rejects_a_database_url_with_the_same_message(urls: dict[str, str], reason: str) -> None:
    for read in (Settings.read, read_migration_url):
        with pytest.raises(SettingsError) as refusal:
            read(GOOD | urls)
        assert str(refusal.value).startswith(reason)
        assert "\n" not in str(refusal.value)
        assert "hunter2" not in str(refusal.value)


def test_every_setting_is_documented_with_its_default() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.+) \|$", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    assert {name: default for name, default, _ in rows if name not in ALIASES} == {
        name: _as_documented(field.default) for name, field in Settings.model_fields.items()
    }
    assert {name for name, _, _ in rows} >= ALIASES


def _as_documented(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    return f"`{default}`" if default not in (None, ()) else "none"


def test_the_example_names_every_setting_and_needs_to_be_filled_in() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = {found[1] for line in lines if (found := re.match(r"#?([A-Z_]+)=", line))}
    assert named == set(Settings.model_fields)
    active = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    with pytest.raises(SettingsError, match=r"\ABETTER_AUTH_URL: is missing[^\n]*\Z"):
        Settings.read(active)
