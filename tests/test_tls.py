"""A connection to PostgreSQL is encrypted and verified as its URL says."""

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
    """A TLS server on 127.0.0.1. In its parameters, OURS stands for the file of its certificate authority."""

    url: str

    def encryption(self, host: str, parameters: str) -> str | None:
        """Returns the cipher of a connection according to the server, or None without TLS."""
        address, _, authority = self.url.replace("127.0.0.1", host).partition("?sslmode=verify-full&sslrootcert=")
        url = parse_database_url(f"{address}?{parameters.replace('OURS', authority)}")
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
def test_a_url_that_asks_for_encryption_gets_it(encrypted: Encrypted, host: str, parameters: str) -> None:
    assert encrypted.encryption(host, parameters)


@pytest.mark.parametrize("parameters", ["", "sslmode=disable"])
def test_on_this_machine_a_connection_is_encrypted_only_on_request(encrypted: Encrypted, parameters: str) -> None:
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
def test_an_untrusted_certificate_is_refused(encrypted: Encrypted, host: str, parameters: str, tmp_path: Path) -> None:
    (tmp_path / "another.crt").write_text(Authority().certificate)
    with pytest.raises(DatabaseError) as refusal:
        encrypted.encryption(host, parameters.replace("ANOTHERS", str(tmp_path / "another.crt")))
    assert "certificate verify failed" in str(refusal.value.cause)
