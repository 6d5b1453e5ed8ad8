"""Parses database URLs in the forms that people paste."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, get_args
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

SSLMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

SSL_MODES: tuple[SSLMode, ...] = get_args(SSLMode)

POSTGRES_PORT = 5432

# Parameters for libpq, Prisma, SQLAlchemy, node-postgres and Supabase. They mean nothing here, because this service has its
# own timeouts and pool.
_IGNORED = frozenset(
    {
        "application_name",
        "connect_timeout",
        "connection_limit",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "pgbouncer",
        "pool_timeout",
        "prepared_statement_cache_size",
        "statement_cache_size",
        "supa",
        "uselibpqcompat",
    }
)

_UNDERSTOOD = frozenset({"sslmode", "sslrootcert", "channel_binding", "sslaccept"})

# The driver after the + is chosen for another program, so it is ignored.
_POSTGRES_SCHEME = re.compile(r"postgres(ql)?(\+(asyncpg|psycopg|psycopg2))?", re.IGNORECASE)
_SQLITE_SCHEME = re.compile(r"sqlite(\+(aiosqlite|pysqlite))?", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_NEONS_OPTIONS = re.compile(r"endpoint=[\w-]+")
_ENCODE_PASSWORD = "percent-encode every character of the password that is not a letter or a digit"  # noqa: S105 - advice
_FORM = f"must be of the form postgresql://user:password@host/database; {_ENCODE_PASSWORD}"


class InvalidDatabaseURL(ValueError):
    """The URL cannot be used. The message says what to change and never contains the password."""


@dataclass(frozen=True, slots=True)
class PostgresURL:
    """The address of a PostgreSQL database, and how to log in."""

    host: str
    """A host name, an IP address, or the folder of a Unix socket, which begins with a slash."""
    port: int
    database: str
    user: str
    password: str | None = field(repr=False)
    sslmode: SSLMode
    sslrootcert: str | None = None
    pgbouncer: bool = False
    """Whether the URL says, as Prisma's do, that it leads to a pooler in transaction mode."""

    @property
    def is_neons(self) -> bool:
        """Whether the host belongs to Neon, whose proxy stands in front of every database."""
        return self.host.endswith(".neon.tech")


@dataclass(frozen=True, slots=True)
class SQLiteURL:
    """The file of an SQLite database."""

    path: Path


DatabaseURL = PostgresURL | SQLiteURL


def parse_database_url(text: str) -> DatabaseURL:
    """Parses a database URL.

    Connections to another machine use TLS unless the URL says otherwise. Unknown parameters are refused, because a
    typo in `sslmode` must not lead to an unencrypted connection.

    Raises:
        InvalidDatabaseURL: this service cannot use the URL.
    """
    # Neon's console offers a complete command: psql 'postgresql://…'
    text = text.strip().removeprefix("psql ").strip().strip("'\"").strip()
    scheme, separator, rest = text.partition("://")
    if _CONTROL_CHARACTER.search(unquote(text)):
        raise InvalidDatabaseURL("contains a control character; remove it")
    if separator and _SQLITE_SCHEME.fullmatch(scheme):
        return _sqlite(rest)
    if separator and _POSTGRES_SCHEME.fullmatch(scheme):
        return _postgres(text)
    raise InvalidDatabaseURL("must begin with postgresql:// or sqlite:///")


def direct(url: DatabaseURL) -> DatabaseURL:
    """Returns the URL of the same database without Neon's pooler. For other hosts, the direct address is unknown.

    https://neon.com/docs/connect/connection-pooling
    """
    if not isinstance(url, PostgresURL) or not url.is_neons:
        return url
    endpoint, region = url.host.split(".", 1)
    return replace(url, host=f"{endpoint.removesuffix('-pooler')}.{region}")


def _sqlite(rest: str) -> SQLiteURL:
    """Parses `sqlite:///relative` and `sqlite:////absolute`, the forms of SQLAlchemy."""
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or path.startswith(":memory:"):
        raise InvalidDatabaseURL("must name a file: sqlite:///taskwell.db or sqlite:////var/lib/taskwell.db")
    if "?" in rest:
        raise InvalidDatabaseURL(
            "must not have parameters, because it names an SQLite file; remove the ? and everything after it"
        )
    return SQLiteURL(Path(path))


def _postgres(text: str) -> PostgresURL:
    if "," in text.rpartition("@")[2].partition("/")[0]:
        raise InvalidDatabaseURL(
            "names several hosts; use a single host that always leads to the server that accepts writes"
        )
    try:
        parts = urlsplit(text)
        port = parts.port or POSTGRES_PORT
    except ValueError:
        raise InvalidDatabaseURL(f"has an invalid host or port; {_ENCODE_PASSWORD}") from None
    # If the password contains a `/`, `?` or `#`, its rest looks like a path or a query. Messages below quote parameter
    # names, so such a URL is refused here.
    if parts.fragment or "@" in parts.path + parts.query:
        raise InvalidDatabaseURL(f"has a # or an @ in the wrong place; {_ENCODE_PASSWORD}")
    database = unquote(parts.path.removeprefix("/"))
    if not parts.username or not database:
        raise InvalidDatabaseURL(_FORM)
    # A `host` parameter would contradict a host in front of the path.
    parameters = _parameters(parts.query, _UNDERSTOOD if parts.hostname else _UNDERSTOOD | {"host"})
    host = _host(parts, parameters)
    return PostgresURL(
        host=host,
        port=port,
        database=database,
        user=unquote(parts.username),
        password=unquote(parts.password) if parts.password is not None else None,
        pgbouncer="pgbouncer=true" in parts.query.split("&"),
        **_tls(parameters, host),
    )


def _host(parts: SplitResult, parameters: dict[str, str]) -> str:
    # urlsplit converts the host to lower case, but the name of a socket's folder is case-sensitive.
    folder = unquote(parts.netloc.rpartition("@")[2].partition(":")[0]) or parameters.get("host", "")
    if folder.startswith("/"):
        return folder
    if not parts.hostname:
        raise InvalidDatabaseURL(_FORM)
    host = unquote(parts.hostname)
    try:
        # The resolver does the same, and its UnicodeError is not a network failure.
        host.encode("idna")
    except UnicodeError:
        raise InvalidDatabaseURL(
            "has an invalid host; each part between its dots must have 1 to 63 characters"
        ) from None
    return host


class _TLS(TypedDict):
    sslmode: SSLMode
    sslrootcert: str | None


def _parameters(query: str, understood: frozenset[str]) -> dict[str, str]:
    """Returns the parameters that matter here, each with its only value."""
    given = parse_qs(query, keep_blank_values=True)
    if repeated := sorted(name for name, values in given.items() if len(values) > 1):
        raise InvalidDatabaseURL(f"has repeated parameters: {', '.join(repeated)}; keep one of each")
    parameters = {name: value for name, (value,) in given.items() if not _is_ignored(name, value)}
    # asyncpg and the tools built on it call sslmode `ssl`.
    if "sslmode" not in parameters and "ssl" in parameters:
        parameters["sslmode"] = {"true": "require", "false": "disable"}.get(parameters["ssl"], parameters["ssl"])
        del parameters["ssl"]
    if unknown := sorted(parameters.keys() - understood):
        raise InvalidDatabaseURL(f"has unknown parameters: {', '.join(unknown)}; correct or remove them")
    return parameters


def _is_ignored(name: str, value: str) -> bool:
    """Returns whether other drivers need the parameter and this service does not."""
    if name == "options":
        return bool(_NEONS_OPTIONS.fullmatch(value))
    return name in _IGNORED or (name, value) == ("schema", "public")


def _tls(parameters: dict[str, str], host: str) -> _TLS:
    is_local = host in _LOOPBACK or host.startswith("/")
    sslmode: SSLMode = _one_of(SSL_MODES, "sslmode", parameters.get("sslmode", "disable" if is_local else "require"))
    root = parameters.get("sslrootcert")
    # libpq has the same rule: a certificate authority is named in order to verify certificates.
    if root is not None and parameters.get("sslmode", "require") == "require":
        sslmode = "verify-full" if root == "system" else "verify-ca"
    if root is not None and sslmode in ("disable", "allow", "prefer"):
        raise InvalidDatabaseURL(
            f"has sslrootcert, which requires verified TLS, but also sslmode={sslmode}; remove one of them"
        )
    binding = _one_of(("disable", "prefer", "require"), "channel_binding", parameters.get("channel_binding", "prefer"))
    accept = _one_of(
        ("strict", "accept_invalid_certs"), "sslaccept", parameters.get("sslaccept", "accept_invalid_certs")
    )
    # Channel binding proves that there is nobody in the middle. The driver does not support it, but a verified certificate
    # proves the same.
    if binding == "require" or accept == "strict":
        if parameters.get("sslmode") == "disable":
            demand = "channel_binding=require" if binding == "require" else "sslaccept=strict"
            raise InvalidDatabaseURL(f"has {demand}, which requires TLS, but also sslmode=disable; remove one of them")
        sslmode = "verify-full"
    return {"sslmode": sslmode, "sslrootcert": None if root == "system" else root}


Choice = TypeVar("Choice", bound=str)


def _one_of(choices: tuple[Choice, ...], name: str, given: str) -> Choice:
    for choice in choices:
        if choice == given:
            return choice
    raise InvalidDatabaseURL(f"has an invalid {name}; it must be one of {', '.join(choices)}")
