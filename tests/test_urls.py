"""Database URLs in the forms that people paste."""

from pathlib import Path

import pytest

from taskwell.database.urls import InvalidDatabaseURL, PostgresURL, SQLiteURL, direct, parse_database_url

PASSWORD = "hunter2"


def postgres(**members: object) -> PostgresURL:
    usual = {"host": "db.example", "port": 5432, "database": "tasks", "user": "app", "password": PASSWORD}
    return PostgresURL(**usual | {"sslmode": "require"} | members)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("postgresql://app:hunter2@db.example/tasks", {}),
        ("postgres://app:hunter2@db.example/tasks", {}),
        ("postgresql+asyncpg://app:hunter2@db.example/tasks", {}),
        ("PostgreSQL://app:hunter2@DB.example/tasks", {}),
        (" 'postgresql://app:hunter2@db.example/tasks'\n", {}),
        ('"postgresql://app:hunter2@db.example/tasks"', {}),
        ("postgresql://app:hunter2@db.example:6543/tasks", {"port": 6543}),
        ("postgresql://app@db.example/tasks", {"password": None}),
        ("postgresql://app:@db.example/tasks", {"password": ""}),
        ("postgresql://app:p%40s%2Fs%3A%23%25@db.example/tasks", {"password": "p@s/s:#%"}),
        ("postgresql://app:p@ss@db.example/tasks", {"password": "p@ss"}),
        ("postgresql://app:a:b+c%20d@db.example/tasks", {"password": "a:b+c d"}),
        ("postgresql://a%40b:hunter2@db.example/my%20tasks", {"user": "a@b", "database": "my tasks"}),
        ("postgresql://app:hunter2@localhost/tasks", {"host": "localhost", "sslmode": "disable"}),
        ("postgresql://app:hunter2@127.0.0.1/tasks", {"host": "127.0.0.1", "sslmode": "disable"}),
        ("postgresql://app:hunter2@[::1]:5433/tasks", {"host": "::1", "port": 5433, "sslmode": "disable"}),
        ("postgresql://app:hunter2@[2001:db8::1]/tasks", {"host": "2001:db8::1"}),
        ("postgresql://app:hunter2@localhost/tasks?sslmode=require", {"host": "localhost"}),
        (
            "postgresql://app:hunter2@ep-cool-night-1.eu-central-1.aws.neon.tech/tasks?sslmode=require&channel_binding=require",
            {"host": "ep-cool-night-1.eu-central-1.aws.neon.tech", "sslmode": "verify-full"},
        ),
        (
            "postgresql://app:hunter2@ep-cool-night-1-pooler.eu-central-1.aws.neon.tech/tasks?sslmode=require&options=endpoint%3Dep-cool-night-1",
            {"host": "ep-cool-night-1-pooler.eu-central-1.aws.neon.tech"},
        ),
        ("postgresql://app:hunter2@db.example/tasks?channel_binding=prefer", {}),
        ("postgresql://app:hunter2@db.example/tasks?channel_binding=disable&sslmode=prefer", {"sslmode": "prefer"}),
        ("postgresql://app:hunter2@db.example/tasks?connect_timeout=10&application_name=tasks", {}),
        (
            "postgresql://app:hunter2@db.example/tasks?schema=public&pgbouncer=true&connection_limit=1&pool_timeout=5",
            {"pgbouncer": True},
        ),
        ("psql 'postgresql://app:hunter2@db.example/tasks?sslmode=require&channel_binding=disable'", {}),
        ("postgresql+psycopg2://app:hunter2@db.example/tasks", {}),
        ("postgresql+psycopg://app:hunter2@db.example/tasks?gssencmode=disable&keepalives=1&keepalives_idle=30", {}),
        ("postgresql+asyncpg://app:hunter2@db.example/tasks?ssl=require", {}),
        ("postgresql+asyncpg://app:hunter2@db.example/tasks?ssl=verify-full", {"sslmode": "verify-full"}),
        ("postgresql://app:hunter2@db.example/tasks?ssl=true", {}),
        ("postgresql://app:hunter2@db.example/tasks?ssl=false", {"sslmode": "disable"}),
        ("postgresql://app:hunter2@db.example:6543/tasks?sslmode=require&supa=base-pooler.x", {"port": 6543}),
        ("postgresql://app:hunter2@db.example/tasks?uselibpqcompat=true&sslmode=require", {}),
        ("postgresql://app:hunter2@db.example/tasks?sslaccept=strict", {"sslmode": "verify-full"}),
        ("postgresql://app:hunter2@db.example/tasks?sslmode=require&sslaccept=strict", {"sslmode": "verify-full"}),
        ("postgresql://app:hunter2@db.example/tasks?sslmode=require&sslaccept=accept_invalid_certs", {}),
        ("postgresql://app:hunter2@localhost/tasks?sslaccept=strict", {"host": "localhost", "sslmode": "verify-full"}),
        ("postgresql+asyncpg://app:hunter2@db.example/tasks?prepared_statement_cache_size=0", {}),
        (
            "postgresql://app:hunter2@db.example/tasks?sslmode=verify-full&sslrootcert=system",
            {"sslmode": "verify-full"},
        ),
        (
            "postgresql://app:hunter2@db.example/tasks?sslmode=verify-ca&sslrootcert=/etc/ca.pem",
            {"sslmode": "verify-ca", "sslrootcert": "/etc/ca.pem"},
        ),
        (
            "postgresql://app:hunter2@db.example/tasks?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            {"sslmode": "verify-full", "sslrootcert": "/etc/ca.pem"},
        ),
        (
            "postgresql://app:hunter2@db.example/tasks?sslmode=require&sslrootcert=/etc/ca.pem",
            {"sslmode": "verify-ca", "sslrootcert": "/etc/ca.pem"},
        ),
        (
            "postgresql://app:hunter2@localhost/tasks?sslrootcert=/etc/ca.pem",
            {"host": "localhost", "sslmode": "verify-ca", "sslrootcert": "/etc/ca.pem"},
        ),
        ("postgresql://app:hunter2@db.example/tasks?sslmode=require&sslrootcert=system", {"sslmode": "verify-full"}),
        ("postgresql://app:hunter2@db.example/tasks?sslrootcert=system", {"sslmode": "verify-full"}),
        ("postgresql://app:hunter2@db.example./tasks", {"host": "db.example."}),
        (f"postgresql://app:hunter2@{'x' * 63}.example/tasks", {"host": f"{'x' * 63}.example"}),
        (
            "postgresql://app:hunter2@%2Fvar%2Frun%2FPostgreSQL/tasks",
            {"host": "/var/run/PostgreSQL", "sslmode": "disable"},
        ),
        ("postgresql://app:hunter2@%2Frun:5433/tasks", {"host": "/run", "port": 5433, "sslmode": "disable"}),
        (
            "postgresql://app:hunter2@/tasks?host=/cloudsql/project:region:instance",
            {"host": "/cloudsql/project:region:instance", "sslmode": "disable"},
        ),
        (
            "postgresql://app:hunter2@:5433/tasks?host=%2Frun&sslmode=require",
            {"host": "/run", "port": 5433, "sslmode": "require"},
        ),
        *[
            (f"postgresql://app:hunter2@db.example/tasks?sslmode={mode}", {"sslmode": mode})
            for mode in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
        ],
    ],
)
def test_a_postgresql_url_is_understood(text: str, members: dict[str, object]) -> None:
    assert parse_database_url(text) == postgres(**members)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:///taskwell.db", "taskwell.db"),
        ("sqlite:///./data/taskwell.db", "data/taskwell.db"),
        ("sqlite:////var/lib/taskwell.db", "/var/lib/taskwell.db"),
        ("SQLite:///my%20tasks.db", "my tasks.db"),
        ('"sqlite:///taskwell.db"', "taskwell.db"),
        ("sqlite:///what%3F.db", "what?.db"),
        ("sqlite+aiosqlite:///taskwell.db", "taskwell.db"),
    ],
)
def test_an_sqlite_url_names_a_file(text: str, path: str) -> None:
    assert parse_database_url(text) == SQLiteURL(Path(path))


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "must begin with postgresql:// or sqlite:///"),
        ("hunter2", "must begin with"),
        ("mysql://app:hunter2@db.example/tasks", "must begin with"),
        ("postgresql:app:hunter2@db.example/tasks", "must begin with"),
        ("https://app:hunter2@db.example/tasks", "must begin with"),
        ("postgresql://", "must be of the form"),
        ("postgresql://db.example/tasks", "must be of the form"),
        ("postgresql://:hunter2@db.example/tasks", "must be of the form"),
        ("postgresql://app:hunter2@/tasks", "must be of the form"),
        ("postgresql://app:hunter2@db.example", "must be of the form"),
        ("postgresql://app:hunter2@db.example/", "must be of the form"),
        ("postgresql://app:hunter2@db.example:x/tasks", "percent-encode"),
        ("postgresql://app:hunter2@db.example:99999/tasks", "percent-encode"),
        ("postgresql://app:hunter2@[::1/tasks", "percent-encode"),
        ("postgresql://app:hunter2#x@db.example/tasks", "percent-encode"),
        ("postgresql://app:hunter2/x@db.example/tasks", "percent-encode"),
        ("postgresql://app:hunter2?x@db.example/tasks", "percent-encode"),
        ("postgresql://app@corp:1/x?hunter2@db.example/tasks", "percent-encode"),
        ("postgresql://app:hunter2@db.example/tasks#x", "percent-encode"),
        ("postgresql://app:hunter2@db.example/tasks%00", "control character"),
        ("postgresql://app:hunter2@db.exam\nple/tasks", "control character"),
        ("postgresql://app:hunter2@db.example/tasks?sslmod=disable", "sslmod;"),
        ("postgresql://app:hunter2@db.example/tasks?ssl=true&sslkey=hunter2", ": sslkey;"),
        ("postgresql://app:hunter2@db.example/tasks?ssl=on", "one of disable, allow"),
        ("postgresql://app:hunter2@db.example/tasks?ssl=require&sslmode=require", ": ssl;"),
        ("postgresql://app:hunter2@db.example/tasks?pgbouncer=true&pgbouncer=true", "repeated parameters: pgbouncer"),
        ("postgresql://app:hunter2@one.example:5432,two.example:5432/tasks", "several hosts"),
        ("postgresql+pg8000://app:hunter2@db.example/tasks", "must begin with"),
        ("postgresql://app:hunter2@db.example/tasks?schema=hunter2", "schema;"),
        ("postgresql://app:hunter2@db.example/tasks?options=-csearch_path%3Dhunter2", "options;"),
        ("postgresql://app:hunter2@db.example/tasks?channel_binding=hunter2", "one of disable, prefer, require"),
        ("postgresql://app:hunter2@db.example/tasks?channel_binding=require&sslmode=disable", "which requires TLS"),
        ("postgresql://app@db.example/tasks?password=hunter2", "password;"),
        ("postgresql://app:hunter2@db.example/tasks?options=endpoint%3Dep-1%20-csearch_path%3Dx", "options;"),
        ("postgresql://app:hunter2@db.example/tasks?options=endpoint%3D", "options;"),
        (
            "postgresql://app:hunter2@db.example/tasks?sslmode=disable&sslaccept=strict",
            "sslaccept=strict, which requires",
        ),
        ("postgresql://app:hunter2@db.example/tasks?sslaccept=hunter2", "one of strict, accept_invalid_certs"),
        *[
            (
                f"postgresql://app:hunter2@db.example/tasks?sslmode={mode}&sslrootcert={root}",
                f"sslrootcert, which requires verified TLS, but also sslmode={mode};",
            )
            for mode in ("disable", "allow", "prefer")
            for root in ("/etc/ca.pem", "system")
        ],
        ("postgresql://app:hunter2@db..example/tasks", "has an invalid host"),
        ("postgresql://app:hunter2@.example/tasks", "has an invalid host"),
        (f"postgresql://app:hunter2@{'x' * 64}.example/tasks", "1 to 63 characters"),
        ("postgresql://app:hunter2@db%FF.example/tasks", "has an invalid host"),
        ("postgresql://app:hunter2@db.example/tasks?host=/tmp", ": host;"),
        ("postgresql://app:hunter2@/tasks?host=db.example", "must be of the form"),
        ("postgresql://app:hunter2@/tasks?host=/tmp&host=/run", "repeated parameters: host"),
        ("postgresql://:hunter2@/tasks?host=/tmp", "must be of the form"),
        ("postgresql://app:hunter2@db.example/tasks?sslmode=", "one of disable, allow"),
        ("postgresql://app:hunter2@db.example/tasks?sslmode=REQUIRE", "one of disable, allow"),
        ("postgresql://app:hunter2@db.example/tasks?sslmode=disable&sslmode=require", "repeated parameters: sslmode"),
        ("sqlite://", "must name a file"),
        ("sqlite:///", "must name a file"),
        ("sqlite://taskwell.db", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///taskwell.db?mode=ro", "must not have parameters"),
    ],
)
def test_an_unusable_url_is_refused_with_a_remedy_and_without_the_password(text: str, remedy: str) -> None:
    with pytest.raises(InvalidDatabaseURL) as refusal:
        parse_database_url(text)
    assert remedy in str(refusal.value)
    assert PASSWORD not in str(refusal.value)


def test_printing_a_url_does_not_reveal_the_password() -> None:
    assert PASSWORD not in f"{postgres()!r} {postgres()}"


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("ep-cool-night-1-pooler.eu-central-1.aws.neon.tech", "ep-cool-night-1.eu-central-1.aws.neon.tech"),
        ("ep-cool-night-1-pooler.c-2.us-east-2.aws.neon.tech", "ep-cool-night-1.c-2.us-east-2.aws.neon.tech"),
        ("ep-cool-night-1.eu-central-1.aws.neon.tech", "ep-cool-night-1.eu-central-1.aws.neon.tech"),
        ("aws-0-eu-central-1.pooler.supabase.com", "aws-0-eu-central-1.pooler.supabase.com"),
        ("db-pooler.example", "db-pooler.example"),
        ("localhost", "localhost"),
    ],
)
def test_the_direct_url_bypasses_neons_pooler_and_changes_nothing_else(host: str, known: str) -> None:
    assert direct(postgres(host=host)) == postgres(host=known)
    assert direct(SQLiteURL(Path(host))) == SQLiteURL(Path(host))
