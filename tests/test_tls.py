"""A connection to PostgreSQL is as private as its URL says."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.certificates import Authority
from support.servers import server_of
from taskwell.database import postgres
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.errors import DatabaseError


@dataclass
class Encrypted:
    """A server that speaks TLS under `127.0.0.1`, by a certificate that only the file OURS vouches for."""

    url: str

    def encryption(self, host: str, parameters: str) -> str | None:
        """The connection's cipher, as the server tells it."""
        there, _, authority = self.url.replace("127.0.0.1", host).partition("?sslmode=verify-full&sslrootcert=")
        url = parse_database_url(f"{there}?{parameters.replace('OURS', authority)}")
        assert isinstance(url, PostgresURL)
        return asyncio.run(_cipher(url))


async def _cipher(url: PostgresURL) -> str | None:
    connection = await postgres.connect(url)
    try:
        cipher: str | None = await connection.fetchval("SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        return cipher
    finally:
        await connection.close()


@pytest.fixture(scope="module")
def encrypted() -> Encrypted:
    return Encrypted(server_of("postgres-tls")["url"])


@pytest.mark.parametrize(
    ("host", "parameters"),
    [
        ("127.0.0.1", "sslmode=require"),
        ("127.0.0.1", "sslmode=prefer"),
        ("localhost", "sslmode=require"),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=OURS"),
        ("127.0.0.1", "sslmode=verify-full&sslrootcert=OURS"),
        ("localhost", "sslmode=verify-ca&sslrootcert=OURS"),
        ("127.0.0.1", "sslmode=require&channel_binding=require&sslrootcert=OURS"),
        ("127.0.0.1", "sslmode=require&sslaccept=strict&sslrootcert=OURS"),
        ("localhost", "sslmode=require&sslrootcert=OURS"),
        ("127.0.0.1", "sslrootcert=OURS"),
    ],
)
def test_what_asks_for_encryption_gets_it(encrypted: Encrypted, host: str, parameters: str) -> None:
    assert encrypted.encryption(host, parameters)


@pytest.mark.parametrize("parameters", ["", "sslmode=disable"])
def test_on_this_machine_there_is_none_unless_it_is_asked_for(encrypted: Encrypted, parameters: str) -> None:
    assert encrypted.encryption("127.0.0.1", parameters) is None


@pytest.mark.parametrize(
    ("host", "parameters"),
    [
        ("127.0.0.1", "sslmode=verify-ca"),
        ("127.0.0.1", "sslmode=verify-full"),
        ("127.0.0.1", "channel_binding=require"),
        ("127.0.0.1", "sslmode=require&channel_binding=require"),
        ("localhost", "sslmode=verify-full&sslrootcert=OURS"),
        ("127.0.0.1", "sslmode=require&sslrootcert=system"),
        ("127.0.0.1", "sslmode=require&sslaccept=strict"),
        ("127.0.0.1", "sslmode=require&sslrootcert=ANOTHERS"),
        ("127.0.0.1", "sslrootcert=ANOTHERS"),
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_refused(
    encrypted: Encrypted, host: str, parameters: str, tmp_path: Path
) -> None:
    (tmp_path / "another.crt").write_text(Authority().certificate)
    with pytest.raises(DatabaseError) as refusal:
        encrypted.encryption(host, parameters.replace("ANOTHERS", str(tmp_path / "another.crt")))
    assert "certificate verify failed" in str(refusal.value.cause)
