"""Database URLs as people paste them."""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypedDict, TypeVar, get_args
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

SSLMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]

SSL_MODES: tuple[SSLMode, ...] = get_args(SSLMode)

POSTGRES_PORT = 5432

# What libpq, Prisma, SQLAlchemy, node-postgres and Supabase are told and what has no meaning here: this service has its own deadlines and pool.
_OF_OTHERS = frozenset(
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

# The driver behind the + is another program's choice.
_POSTGRES_SCHEME = re.compile(r"postgres(ql)?(\+(asyncpg|psycopg|psycopg2))?", re.IGNORECASE)
_SQLITE_SCHEME = re.compile(r"sqlite(\+(aiosqlite|pysqlite))?", re.IGNORECASE)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CONTROL_CHARACTER = re.compile("[\x00-\x1f\x7f]")
_NEONS_OPTIONS = re.compile(r"endpoint=[\w-]+")
_ENCODE_PASSWORD = "percent-encode what is no letter or digit in the password"  # noqa: S105 - advice
_FORM = f"must be of the form postgresql://user:password@host/database; {_ENCODE_PASSWORD}"


class InvalidDatabaseURL(ValueError):
    """The URL cannot be used; the message says what to change and never holds the password."""


@dataclass(frozen=True, slots=True)
class PostgresURL:
    """Where a PostgreSQL database is and how to get in."""

    host: str
    """Its name or address, or the folder of its Unix socket, which begins with a slash."""
    port: int
    database: str
    user: str
    password: str | None = field(repr=False)
    sslmode: SSLMode
    sslrootcert: str | None = None
    pgbouncer: bool = False
    """Whether the URL says, as Prisma's do, that a pooler is there that pools by transaction."""

    @property
    def is_neons(self) -> bool:
        """Whether the host is one of Neon's, behind a proxy of theirs."""
        return self.host.endswith(".neon.tech")


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
    # Neon's console offers a whole command: psql 'postgresql://…'
    text = text.strip().removeprefix("psql ").strip().strip("'\"").strip()
    scheme, separator, rest = text.partition("://")
    if _CONTROL_CHARACTER.search(unquote(text)):
        raise InvalidDatabaseURL("holds a control character; remove it")
    if separator and _SQLITE_SCHEME.fullmatch(scheme):
        return _sqlite(rest)
    if separator and _POSTGRES_SCHEME.fullmatch(scheme):
        return _postgres(text)
    raise InvalidDatabaseURL("must begin with postgresql:// or sqlite:///")


def direct(url: DatabaseURL) -> DatabaseURL:
    """The same database past Neon's pooler; nobody knows the way past another host's.

    https://neon.com/docs/connect/connection-pooling
    """
    if not isinstance(url, PostgresURL) or not url.is_neons:
        return url
    endpoint, region = url.host.split(".", 1)
    return replace(url, host=f"{endpoint.removesuffix('-pooler')}.{region}")


def _sqlite(rest: str) -> SQLiteURL:
    """`sqlite:///relative` and `sqlite:////absolute`, as SQLAlchemy writes them."""
    path = unquote(rest.removeprefix("/"))
    if not rest.startswith("/") or not path or path.startswith(":memory:"):
        raise InvalidDatabaseURL("must name a file: sqlite:///taskwell.db or sqlite:////var/lib/taskwell.db")
    if "?" in rest:
        raise InvalidDatabaseURL("must have no parameters, as it names an SQLite file; remove what follows the ?")
    return SQLiteURL(Path(path))


def _postgres(text: str) -> PostgresURL:
    if "," in text.rpartition("@")[2].partition("/")[0]:
        raise InvalidDatabaseURL("names several hosts; name one, which always leads to the server that takes writes")
    try:
        parts = urlsplit(text)
        port = parts.port or POSTGRES_PORT
    except ValueError:
        raise InvalidDatabaseURL(f"has a host or port that cannot be read; {_ENCODE_PASSWORD}") from None
    # What follows the host would be part of a password that holds a `/`, `?` or `#`, and must not be quoted below.
    if parts.fragment or "@" in parts.path + parts.query:
        raise InvalidDatabaseURL(f"has a # or an @ in the wrong place; {_ENCODE_PASSWORD}")
    database = unquote(parts.path.removeprefix("/"))
    if not parts.username or not database:
        raise InvalidDatabaseURL(_FORM)
    # Beside a host, another one would contradict it.
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
    # urlsplit writes a host in small letters; in the name of a socket's folder they are not the same.
    folder = unquote(parts.netloc.rpartition("@")[2].partition(":")[0]) or parameters.get("host", "")
    if folder.startswith("/"):
        return folder
    if not parts.hostname:
        raise InvalidDatabaseURL(_FORM)
    host = unquote(parts.hostname)
    try:
        # As the resolver does, whose UnicodeError is no failure of a network.
        host.encode("idna")
    except UnicodeError:
        raise InvalidDatabaseURL("has a host that cannot be one; between its dots are 1 to 63 characters") from None
    return host


class _TLS(TypedDict):
    sslmode: SSLMode
    sslrootcert: str | None


def _parameters(query: str, understood: frozenset[str]) -> dict[str, str]:
    """Each parameter's one value, without those that have no meaning here."""
    given = parse_qs(query, keep_blank_values=True)
    if several := sorted(name for name, values in given.items() if len(values) > 1):
        raise InvalidDatabaseURL(f"has parameters more than once: {', '.join(several)}; keep one of each")
    parameters = {name: value for name, (value,) in given.items() if not _is_of_others(name, value)}
    # What asyncpg itself calls it, and others do with it.
    if "sslmode" not in parameters and "ssl" in parameters:
        parameters["sslmode"] = {"true": "require", "false": "disable"}.get(parameters["ssl"], parameters["ssl"])
        del parameters["ssl"]
    if unknown := sorted(parameters.keys() - understood):
        raise InvalidDatabaseURL(f"has parameters that are not known: {', '.join(unknown)}; remove them")
    return parameters


def _is_of_others(name: str, value: str) -> bool:
    """Whether a parameter is one that other drivers need, and that changes nothing here."""
    if name == "options":
        return bool(_NEONS_OPTIONS.fullmatch(value))
    return name in _OF_OTHERS or (name, value) == ("schema", "public")


def _tls(parameters: dict[str, str], host: str) -> _TLS:
    on_this_machine = host in _LOOPBACK or host.startswith("/")
    sslmode: SSLMode = _one_of(
        SSL_MODES, "sslmode", parameters.get("sslmode", "disable" if on_this_machine else "require")
    )
    root = parameters.get("sslrootcert")
    # libpq's rule, too: who names an authority wants it asked.
    if root is not None and parameters.get("sslmode", "require") == "require":
        sslmode = "verify-full" if root == "system" else "verify-ca"
    if root is not None and sslmode in ("disable", "allow", "prefer"):
        raise InvalidDatabaseURL(f"has sslrootcert, which needs verified TLS, and sslmode={sslmode}; remove one")
    binding = _one_of(("disable", "prefer", "require"), "channel_binding", parameters.get("channel_binding", "prefer"))
    accept = _one_of(
        ("strict", "accept_invalid_certs"), "sslaccept", parameters.get("sslaccept", "accept_invalid_certs")
    )
    # Channel binding proves that nobody stands between. The driver does not have it; a verified certificate proves it too.
    if binding == "require" or accept == "strict":
        if parameters.get("sslmode") == "disable":
            demand = "channel_binding=require" if binding == "require" else "sslaccept=strict"
            raise InvalidDatabaseURL(f"has {demand}, which needs TLS, and sslmode=disable; remove one")
        sslmode = "verify-full"
    return {"sslmode": sslmode, "sslrootcert": None if root == "system" else root}


Choice = TypeVar("Choice", bound=str)


def _one_of(choices: tuple[Choice, ...], name: str, given: str) -> Choice:
    for choice in choices:
        if choice == given:
            return choice
    raise InvalidDatabaseURL(f"has a {name} that is not known; it is one of {', '.join(choices)}")
