"""Settings: which values are accepted, and which are rejected by name and with a remedy."""

import re
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from support.service import SECRET
from taskwell.database.urls import parse_database_url
from taskwell.errors import SettingsError
from taskwell.http.rates import Rate
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
        ({"TASKWELL_TRASH_DAYS": "0"}, ["TASKWELL_TRASH_DAYS: must be greater than or equal to 1"]),
        ({"TASKWELL_TRASH_DAYS": "3651"}, ["TASKWELL_TRASH_DAYS: must be less than or equal to 3650"]),
        ({"TASKWELL_PURGE_INTERVAL_SECONDS": "0"}, ["TASKWELL_PURGE_INTERVAL_SECONDS: must be greater than or equal"]),
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
        ({}, "TASKWELL_TRASH_DAYS", 30),
        ({}, "TASKWELL_PURGE_INTERVAL_SECONDS", None),
        ({"TASKWELL_PURGE_INTERVAL_SECONDS": "86400"}, "TASKWELL_PURGE_INTERVAL_SECONDS", 86400),
        (
            {"TASKWELL_CORS_ORIGINS": "https://app.example,http://localhost:3000"},
            "TASKWELL_CORS_ORIGINS",
            ("https://app.example", "http://localhost:3000"),
        ),
        ({"SOMETHING_ELSE": "x", "PATH": "/bin"}, "JWT_ISSUER", None),
        ({}, "TASKWELL_RATE_LIMIT", None),
        ({"TASKWELL_RATE_LIMIT": "200/second"}, "TASKWELL_RATE_LIMIT", Rate(200, "second")),
        ({"TASKWELL_RATE_LIMIT": "5000/hour"}, "TASKWELL_RATE_LIMIT", Rate(5000, "hour")),
        ({"TASKWELL_AUTH_FAILURE_LIMIT": "10/minute"}, "TASKWELL_AUTH_FAILURE_LIMIT", Rate(10, "minute")),
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
        ({"JWT_JWKS_URL": "https://app.example/\x01"}, "JWT_JWKS_URL: has an invisible character"),
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


@pytest.mark.parametrize("name", ["TASKWELL_RATE_LIMIT", "TASKWELL_AUTH_FAILURE_LIMIT"])
@pytest.mark.parametrize(
    "rate",
    [
        "200", "200/", "/second", "0/second", "-1/second", "1.5/second", "200/seconds", "200/Second", "200 per second",
        "200/2second", "200/second;5000/hour", "1000000000/day", "many/hour", "10/week", "\u0661/second",
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_rate_is_rejected(name: str, rate: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | {name: rate, "TASKWELL_RATE_LIMIT_STORAGE": "redis://localhost"})
    assert str(rejection.value) == (
        f"{name}: is not a rate; write a number and second, minute, hour or day, such as 200/second"
    )


STORAGE = "TASKWELL_RATE_LIMIT_STORAGE"


@pytest.mark.parametrize("limit", ["TASKWELL_RATE_LIMIT", "TASKWELL_AUTH_FAILURE_LIMIT"])
@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost", "redis://localhost/", "rediss://user:hunter2@redis.example:6380/15", "redis://[::1]:6379",
        "redis://:p%40ss@10.0.0.5:6379/0", "rediss://redis.example?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none",
    ],
)  # fmt: skip
def test_a_limit_may_count_in_a_redis(limit: str, url: str) -> None:
    settings = Settings.read(GOOD | {limit: "1/second", STORAGE: f" {url}\n"})
    assert SecretStr(url) == settings.TASKWELL_RATE_LIMIT_STORAGE
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("localhost:6379", "is not a URL such as redis://user:password@host:6379/0; percent-encode the password"),
        ("memcached://hunter2@localhost", "must begin with redis://, or with rediss:// for TLS"),
        ("async+redis://localhost", "must begin with redis://"),
        ("redis+sentinel://localhost", "must begin with redis://"),
        ("unix:///run/redis", "is not a URL"),
        ("redis://", "is not a URL"),
        ("redis://:hunter2@", "is not a URL"),
        ("redis://:hunt/er2@localhost", "is not a URL"),
        ("redis://:hunt#er2@localhost", "is not a URL"),
        ("redis://localhost:port", "is not a URL"),
        ("redis://localhost:66666", "is not a URL"),
        ("redis://[::1", "is not a URL"),
        ("redis://:hunter2\uff1a@localhost", "is not a URL"),
        ("redis://localhost?hunter2@redis.example", "has a parameter other than"),
        ("redis://localhost/zero", "is not a URL"),
        ("redis://localhost/0#a", "is not a URL"),
        ("redis://localhost?socket_timeout=9", "has a parameter other than ssl_ca_certs and ssl_cert_reqs; remove it"),
        ("rediss://localhost?ssl_cert_req=none", "has a parameter other than"),
        ("rediss://localhost?ssl_cert_reqs=no", "has an unusable ssl_cert_reqs"),
        ("rediss://localhost?ssl_ca_certs=", "has an unusable ssl_ca_certs"),
        ("rediss://localhost?ssl_cert_reqs=none&ssl_cert_reqs=required", "has an unusable ssl_cert_reqs"),
        ("redis://localhost # of production", "has a comment after the value"),
    ],
)
def test_a_storage_that_is_not_a_redis_is_rejected(url: str, reason: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | {"TASKWELL_RATE_LIMIT": "1/second", STORAGE: url})
    assert str(rejection.value).startswith(f"{STORAGE}: {reason}")
    assert "\n" not in str(rejection.value)
    assert not re.search("hunt/?#?er2", str(rejection.value))


def test_a_storage_without_a_limit_is_rejected() -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | {STORAGE: "redis://localhost"})
    assert str(rejection.value) == (
        f"{STORAGE}: has no effect without a limit; set TASKWELL_RATE_LIMIT or TASKWELL_AUTH_FAILURE_LIMIT, or unset it"
    )


def test_a_storage_without_its_client_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(SettingsError, match=rf"\A{STORAGE}: needs the client of Redis; install it: pip install"):
        Settings.read(GOOD | {"TASKWELL_RATE_LIMIT": "1/second", STORAGE: "redis://localhost"})


QUOTES = ['"{}"', "'{}'", "`{}`", "\u201c{}\u201d", "\u2018{}\u2019"]
VARIABLES = [
    "${SECRET_OF_PRODUCTION_FROM_THE_VAULT}",
    "$(SECRET_OF_PRODUCTION_FROM_THE_VAULT)",
    "{{ secrets.TASKWELL }}",
]
FLAWED_SECRETS = {
    "is in quotes; remove them": [quotes.format(SECRET) for quotes in QUOTES],
    "begins or ends with white space or a line break; remove it": [
        f"{SECRET}\n", f"{SECRET}\r\n", f"{SECRET} ", f" {SECRET}", f"\t{SECRET}", f"{SECRET}\u00a0", f'"{SECRET}"\n',
    ],
    "has an invisible character; type": [
        f"\ufeff{SECRET}", f"{SECRET}\u200b", f"{SECRET[:9]}\n{SECRET[9:]}", f"{SECRET}\x00", f"{SECRET}\udce9",
        f"{SECRET[:9]}\u00ad{SECRET[9:]}",
    ],
    "has a comment after the value; remove the comment": [f"{SECRET} # of production", f"{SECRET}\t#1"],
    "contains a variable such as ${NAME}, which is not replaced here": [*VARIABLES, f"{SECRET}${{X}}"],
}  # fmt: skip


@pytest.mark.parametrize("name", ["BETTER_AUTH_SECRET", "JWT_SECRET_KEY"])
@pytest.mark.parametrize(
    ("reason", "secret"), [(reason, secret) for reason, secrets in FLAWED_SECRETS.items() for secret in secrets]
)
def test_a_secret_that_was_changed_on_its_way_is_rejected(name: str, reason: str, secret: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | WITHOUT_SECRET | {name: secret})
    assert str(rejection.value).startswith(f"{name}: {reason}")
    assert "\n" not in str(rejection.value)
    assert secret not in str(rejection.value)
    assert SECRET not in str(rejection.value)


@pytest.mark.parametrize(
    "secret",
    [
        "correct horse battery staple of nothing else",
        "p\u00e4ssw\u00f6rter-sind-auch-geheimnisse",
        f'{SECRET}"',
        f"{SECRET}#1$2",
    ],
)
def test_an_unusual_secret_is_used_as_it_is(secret: str) -> None:
    assert SecretStr(secret) == Settings.read(GOOD | {"BETTER_AUTH_SECRET": secret}).BETTER_AUTH_SECRET


VALUES = {
    "BETTER_AUTH_URL": "https://app.example",
    "JWT_JWKS_URL": "https://app.example/k",
    "BETTER_AUTH_PUBLIC_KEY_URL": "https://app.example/k",
    "JWT_ISSUER": "https://app.example",
    "JWT_AUDIENCE": "https://app.example,tasks",
    "JWT_ALGORITHM": "EdDSA,ES256",
    "TASKWELL_ALLOW_HTTP_KEY_SET": "auth,10.0.0.5",
    "TASKWELL_CORS_ORIGINS": "https://app.example,http://localhost:3000",
    "TASKWELL_LOG_LEVEL": "warning",
    "TASKWELL_POOL_MIN": "2",
    "TASKWELL_POOL_MAX": "30",
    "TASKWELL_PREPARED_STATEMENTS": "on",
    "TASKWELL_MAX_IN_FLIGHT": "7",
    "TASKWELL_RATE_LIMIT": "200/second",
    "TASKWELL_AUTH_FAILURE_LIMIT": "10/minute",
    "TASKWELL_BODY_TIMEOUT_SECONDS": "2.5",
    "TASKWELL_ROOT_PATH": "/prefix",
    "TASKWELL_FORWARDED_ALLOW_IPS": "10.0.0.5,10.1.0.0/16",
}
LISTS = (
    *("JWT_AUDIENCE", "JWT_ALGORITHM", "TASKWELL_ALLOW_HTTP_KEY_SET", "TASKWELL_CORS_ORIGINS"),
    "TASKWELL_FORWARDED_ALLOW_IPS",
)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("around", [" {}", "{} ", "\t{}", "{}\n", "{}\r\n", " {} \n"])
def test_white_space_around_a_value_is_removed(name: str, around: str) -> None:
    plain, padded = (
        Settings.read(GOOD | WITHOUT_SECRET | {"BETTER_AUTH_URL": "https://other.example"} | {name: value})
        for value in (VALUES[name], around.format(VALUES[name]))
    )
    assert padded == plain


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize(
    ("reason", "around"),
    [
        *(("is in quotes; remove them", quotes) for quotes in QUOTES),
        ("is in quotes", ' "{}"\n'),
        ("has a comment after the value", "{} # of production"),
        ("has an invisible character; remove it", "\ufeff{}"),
        ("has an invisible character; remove it", "{}\u200b"),
        ("has an invisible character; remove it", "{}\x00"),
        ("has an invisible character; remove it", "{}\udce9"),
        ("contains a variable such as ${NAME}", "{}${{SUFFIX}}"),
        ("contains a variable such as ${NAME}", "{}$(SUFFIX)"),
    ],
)
def test_a_value_that_was_changed_on_its_way_is_rejected(name: str, reason: str, around: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | SITE | {name: around.format(VALUES[name])})
    lines = [line for line in str(rejection.value).splitlines() if line.startswith(f"{name}:")]
    assert [line.startswith(f"{name}: {reason}") for line in lines] == [True]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_with_quotes_or_without_a_value_is_rejected(name: str) -> None:
    first = VALUES[name].split(",", maxsplit=1)[0]
    quoted = f'"{first}"'
    for value, reason in {
        f"{quoted},{quoted}": "is in quotes",
        f"{first}, {quoted}": "is in quotes",
        f"[{quoted}]": "is a JSON list; write the values with commas",
        ",": "has only commas; write a value",
        " , ,": "has only commas",
    }.items():
        with pytest.raises(SettingsError) as rejection:
            Settings.read(GOOD | SITE | {name: value})
        assert str(rejection.value).startswith(f"{name}: {reason}")


@pytest.mark.parametrize("issuer", ["https://a.example,https://b.example", "https://a.example https://b.example"])
def test_several_issuers_are_rejected(issuer: str) -> None:
    with pytest.raises(SettingsError, match=r"\AJWT_ISSUER: must be a single issuer"):
        Settings.read(GOOD | SITE | {"JWT_ISSUER": issuer})


@pytest.mark.parametrize("url", ["https://app.example/api/auth/jwks", "https://app.example/jwks/"])
def test_the_url_of_a_key_set_is_not_a_base_url(url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"\ABETTER_AUTH_URL: is the URL of a key set; write Better Auth's base URL"
    ):
        Settings.read(GOOD | SITE | {"BETTER_AUTH_URL": url})


@pytest.mark.parametrize("name", ["DATABASE_URL", "MIGRATION_DATABASE_URL"])
def test_a_database_url_may_be_in_quotes_but_not_have_a_comment_or_a_variable(name: str) -> None:
    url = GOOD["DATABASE_URL"]
    for accepted in (f'"{url}"', f"'{url}'", f" {url}\n"):
        for read in (Settings.read, read_migration_url):
            assert read(GOOD | {name: accepted}) == read(GOOD | {name: url})
    for rejected, reason in {
        f"{url} # of production": "has a comment after the value",
        "postgresql://app:${PASSWORD}@db.example/tasks": "contains a variable",
    }.items():
        for read in (Settings.read, read_migration_url):
            with pytest.raises(SettingsError) as rejection:
                read(GOOD | {name: rejected})
            assert str(rejection.value).startswith(f"{name}: {reason}")
            assert "\n" not in str(rejection.value)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("http://auth.railway.internal:3000/jwks", "auth.railway.internal"),
        ("http://auth:3000/jwks", "other, AUTH"),
        ("http://better_auth/jwks", "better_auth"),
        ("http://AUTH.default.svc.cluster.local/jwks", "auth.default.svc.cluster.local"),
        ("http://192.168.1.5:3000/jwks", "192.168.1.5"),
        ("http://[fd12::5]:3000/jwks", "fd12::5"),
    ],
)
def test_plain_http_is_allowed_for_a_named_host(url: str, hosts: str) -> None:
    named = GOOD | WITHOUT_SECRET | {"JWT_ISSUER": "me", "JWT_AUDIENCE": "a", "TASKWELL_ALLOW_HTTP_KEY_SET": hosts}
    assert Settings.read(named | {"JWT_JWKS_URL": url}).key_set_url == url
    base_url = url.removesuffix("/jwks")
    settings = Settings.read(named | {"BETTER_AUTH_URL": base_url})
    assert settings.key_set_url == f"{base_url.lower()}/api/auth/jwks"


@pytest.mark.parametrize(
    "hosts",
    [
        "", "auth", "railway.internal", "x.auth.railway.internal", "auth.railway.internal.example", "http",
        "auth.railway.internals", "10.0.0.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["JWT_JWKS_URL", "BETTER_AUTH_PUBLIC_KEY_URL", "BETTER_AUTH_URL"])
def test_plain_http_is_rejected_for_every_other_host(name: str, hosts: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | SITE | {name: "http://auth.railway.internal", "TASKWELL_ALLOW_HTTP_KEY_SET": hosts})
    assert str(rejection.value).startswith(f"{name}: must begin with https://")
    assert "TASKWELL_ALLOW_HTTP_KEY_SET" in str(rejection.value)


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [
        ("http://auth:3000", "entry 1 is not a host; write only its name"),
        ("auth:3000", "entry 1 is not a host"),
        ("auth/path", "entry 1 is not a host"),
        ("auth, *.railway.internal", "entry 2 is not a host"),
        ("*", "entry 1 is not a host"),
        (".internal", "entry 1 is not a host"),
        ("10.0.0.0/8", "entry 1 is not a host"),
        ("[fd12::5]", "is a JSON list"),
        ("8.8.8.8", "entry 1 is not a private address; use https for it"),
        ("169.254.169.254", "entry 1 is not a private address"),
        ("2606:4700::1111", "entry 1 is not a private address"),
        ("10.0.0", "entry 1 is not a host"),
        ("1.2.3.4.5", "entry 1 is not a host"),
        ("::x", "entry 1 is not a host"),
    ],
)
def test_an_entry_that_is_not_one_private_host_is_rejected(hosts: str, reason: str) -> None:
    with pytest.raises(SettingsError) as rejection:
        Settings.read(GOOD | SITE | {"TASKWELL_ALLOW_HTTP_KEY_SET": hosts})
    assert str(rejection.value).startswith(f"TASKWELL_ALLOW_HTTP_KEY_SET: {reason}")


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
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default not in (None, (), "") else "none"


def test_the_example_names_every_setting_and_needs_to_be_filled_in() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    named = {found[1] for line in lines if (found := re.match(r"#?([A-Z_]+)=", line))}
    assert named == set(Settings.model_fields)
    active = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    with pytest.raises(SettingsError, match=r"\ABETTER_AUTH_URL: is missing[^\n]*\Z"):
        Settings.read(active)
