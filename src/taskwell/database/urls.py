"""Database URLs as people paste them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

_POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
SSLMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class InvalidDatabaseURL(ValueError):
    """The URL cannot be used; the message says what to change and never holds the password."""


@dataclass(frozen=True, slots=True)
class PostgresURL:
    """Where a PostgreSQL database is and how to get in."""

    host: str
    port: int
    database: str
    user: str
    password: str | None = field(repr=False)
    sslmode: SSLMode


@dataclass(frozen=True, slots=True)
class SQLiteURL:
    """The file of an SQLite database."""

    path: Path


DatabaseURL = PostgresURL | SQLiteURL


def parse_database_url(text: str) -> DatabaseURL:
    """What `text` means.

    A server that is not on this machine is reached by TLS unless the URL says otherwise. An unknown parameter is
    refused: a typo in `sslmode` must not mean plain text.

    Raises:
        InvalidDatabaseURL: it is not the URL of a database this service can use.
    """
    text = text.strip().strip("'\"")
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "sqlite":
        return _sqlite(rest)
    if separator and scheme in _POSTGRES_SCHEMES:
        return _postgres(text)
    raise InvalidDatabaseURL("must begin with postgresql:// or sqlite:///")


def _sqlite(rest: str) -> SQLiteURL:
    """`sqlite:///relative` and `sqlite:////absolute`, as SQLAlchemy writes them."""
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or path.startswith(":memory:"):
        raise InvalidDatabaseURL("must name a file: sqlite:///taskwell.db or sqlite:////var/lib/taskwell.db")
    if "?" in path:
        raise InvalidDatabaseURL("an SQLite URL takes no parameters")
    return SQLiteURL(Path(path))


def _postgres(text: str) -> PostgresURL:
    try:
        parts = urlsplit(text)
        port = parts.port or 5432
    except ValueError:
        raise InvalidDatabaseURL("has a host or port that cannot be read; percent-encode the password") from None
    database = unquote(parts.path.removeprefix("/"))
    if not parts.hostname or not parts.username or not database:
        raise InvalidDatabaseURL("must be of the form postgresql://user:password@host/database")
    return PostgresURL(
        host=unquote(parts.hostname),
        port=port,
        database=database,
        user=unquote(parts.username),
        password=unquote(parts.password) if parts.password is not None else None,
        sslmode=_sslmode(parse_qs(parts.query, keep_blank_values=True), parts.hostname),
    )


def _sslmode(parameters: dict[str, list[str]], host: str) -> SSLMode:
    unknown = sorted(parameters.keys() - {"sslmode"})
    if unknown:
        raise InvalidDatabaseURL(f"has parameters that are not known: {', '.join(unknown)}; remove them")
    (mode,) = parameters.get("sslmode", ["disable" if host in _LOOPBACK else "require"])
    modes: tuple[SSLMode, ...] = get_args(SSLMode)
    if mode not in modes:
        raise InvalidDatabaseURL(f"sslmode must be one of {', '.join(modes)}")
    return mode
