"""A connection to PostgreSQL is as private as its URL says."""

import asyncio
import ipaddress
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from postgres import PostgresServer, find_system_binaries
from taskwell.database import postgres
from taskwell.database.urls import PostgresURL, parse_database_url
from taskwell.errors import DatabaseError


@dataclass
class Encrypted:
    """A server that speaks TLS under `127.0.0.1`, by a certificate that only the file `certificate` vouches for."""

    server: PostgresServer
    certificate: Path

    def encryption(self, host: str, parameters: str) -> str | None:
        """The connection's cipher, as the server tells it."""
        parameters = parameters.replace("OURS", str(self.certificate))
        url = parse_database_url(f"postgresql://taskwell@{host}:{self.server.port}/postgres?{parameters}")
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
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    binaries = find_system_binaries()
    if binaries is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no PostgreSQL of the system, with TLS")
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "server.crt", folder / "server.key"
    _certify(certificate, key)
    server = PostgresServer(binaries, ssl="on", ssl_cert_file=str(certificate), ssl_key_file=str(key))
    yield Encrypted(server, certificate)
    server.stop()


def _certify(certificate: Path, key: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a PostgreSQL of the tests")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.touch(mode=0o600)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


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
    ],
)
def test_a_certificate_that_nobody_vouches_for_is_refused(encrypted: Encrypted, host: str, parameters: str) -> None:
    with pytest.raises(DatabaseError) as refusal:
        encrypted.encryption(host, parameters)
    assert "certificate verify failed" in str(refusal.value.cause)
