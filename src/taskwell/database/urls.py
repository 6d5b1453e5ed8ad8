"""Database URLs as people paste them."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit

SSLMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

POSTGRES_PORT = 5432

_POSTGRES_SCHEMES = ("postgres", "postgresql", "postgresql+asyncpg")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_ENCODE_PASSWORD = "percent-encode what is no letter or digit in the password"  # noqa: S105 - advice


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
    text = text.strip().strip("'\"").strip()
    scheme, separator, rest = text.partition("://")
    if _CONTROL_CHARACTER.search(unquote(text)):
        raise InvalidDatabaseURL("holds a control character; remove it")
    if separator and scheme.lower() == "sqlite":
        return _sqlite(rest)
    if separator and scheme.lower() in _POSTGRES_SCHEMES:
        return _postgres(text)
    raise InvalidDatabaseURL("must begin with postgresql:// or sqlite:///")


def _sqlite(rest: str) -> SQLiteURL:
    """`sqlite:///relative` and `sqlite:////absolute`, as SQLAlchemy writes them."""
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or path.startswith(":memory:"):
        raise InvalidDatabaseURL("must name a file: sqlite:///taskwell.db or sqlite:////var/lib/taskwell.db")
    if "?" in rest:
        raise InvalidDatabaseURL("must have no parameters, as it names an SQLite file; remove what follows the ?")
    return SQLiteURL(Path(path))


def _postgres(text: str) -> PostgresURL:
    try:
        parts = urlsplit(text)
        port = parts.port or POSTGRES_PORT
    except ValueError:
        raise InvalidDatabaseURL(f"has a host or port that cannot be read; {_ENCODE_PASSWORD}") from None
    # What follows the host would be part of a password that holds a `/`, `?` or `#`, and must not be quoted below.
    if parts.fragment or "@" in parts.path + parts.query:
        raise InvalidDatabaseURL(f"has a # or an @ in the wrong place; {_ENCODE_PASSWORD}")
    database = unquote(parts.path.removeprefix("/"))
    if not parts.hostname or not parts.username or not database:
        raise InvalidDatabaseURL(f"must be of the form postgresql://user:password@host/database; {_ENCODE_PASSWORD}")
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
    given = parameters.get("sslmode", ["disable" if host in _LOOPBACK else "require"])
    modes: tuple[SSLMode, ...] = get_args(SSLMode)
    for mode in modes:
        if given == [mode]:
            return mode
    raise InvalidDatabaseURL(f"has an sslmode that is not known; it is one of {', '.join(modes)}")
