"""Runs the programs of compose.yaml without a container engine: with its settings, and in its order.

The programs are this machine's. Each address of the containers' network becomes a port of the loopback interface.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
import yaml

from support.better_auth import EXAMPLE
from support.certificates import Authority
from support.daemon import Daemon
from support.dockerfile import build
from support.documents import ROOT
from support.npm import require_packages
from support.pgbouncer import find_program
from support.ports import free_port
from support.postgres import PostgresServer, find_system_binaries
from support.process import WAIT_SECONDS, run, serving

TEXT = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / "compose.yaml").read_text(encoding="utf-8"))
"""compose.yaml with the defaults of its variables."""


class Pooler(Daemon):
    """The pooler, with its two files."""

    READY = b"process up"
    END = signal.SIGTERM

    def __init__(self, configuration: str, users: str) -> None:
        super().__init__()
        configuration = configuration.replace("/pgbouncer/users", str(self._write("users", users)))
        configuration = configuration.replace("6432", str(self.port))
        self._start(str(find_program()), str(self._write("pgbouncer.ini", configuration)))


@dataclass(frozen=True)
class System:
    """The running system: its addresses in place of the file's, and the URL of Taskwell's database as its service."""

    addresses: Mapping[str, str]
    database_url: str

    def inside(self, text: str) -> str:
        """Returns the text with the file's addresses replaced by those of the system."""
        return _replaced(text, self.addresses)


@contextmanager
def system(folder: Path) -> Iterator[System]:
    """Runs the system. Without PostgreSQL, PgBouncer and Node the test is skipped; in CI it fails."""
    require_packages(EXAMPLE)
    binaries = find_system_binaries()
    if not (binaries and find_program()):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no PostgreSQL with TLS, or no PgBouncer")
    with ExitStack() as running:
        postgres = PostgresServer(binaries, Authority())
        running.callback(postgres.stop)
        postgres.wait_until_ready()
        better_auth = f"localhost:{free_port()}"
        addresses = {
            "postgres:5432": f"127.0.0.1:{postgres.port}",
            "host=postgres port=5432": f"host=127.0.0.1 port={postgres.port}",
            "localhost:3000": better_auth,
            "better-auth:3000": better_auth,
        }
        services = _services(addresses)
        programs = {"PATH": f"{binaries}:{os.environ['PATH']}", "PGPORT": str(postgres.port)}
        _wait_until_healthy(services["postgres"], programs)
        _create_roles(postgres, services["postgres"], programs)

        configs = _read(addresses)["configs"]
        pooler = Pooler(configs["pooler"]["content"], configs["pooler-users"]["content"])
        running.callback(pooler.stop)
        addresses |= {"pooler:6432": f"127.0.0.1:{pooler.port}", "127.0.0.1/6432": f"127.0.0.1/{pooler.port}"}
        services = _services(addresses)
        _wait_until_healthy(services["pooler"], programs)

        migrated = run(folder, *services["migrate"]["command"], **services["migrate"]["environment"])
        assert migrated.returncode == 0, migrated.stderr
        running.enter_context(_better_auth(services["better-auth"], better_auth, folder))
        server = running.enter_context(serving(folder, **services["taskwell"]["environment"]))
        addresses["localhost:8000"] = urlsplit(server.url).netloc
        yield System(addresses, services["taskwell"]["environment"]["DATABASE_URL"])


def _replaced(text: str, addresses: Mapping[str, str]) -> str:
    for written, actual in addresses.items():
        text = text.replace(written, actual)
    return text


def _read(addresses: Mapping[str, str]) -> dict[str, Any]:
    return cast("dict[str, Any]", yaml.safe_load(_replaced(TEXT, addresses)))


def _services(addresses: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    return cast("dict[str, dict[str, Any]]", _read(addresses)["services"])


def _wait_until_healthy(service: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    _, *check = service["healthcheck"]["test"]
    deadline = time.monotonic() + WAIT_SECONDS
    while (done := subprocess.run(check, env=environment, capture_output=True, check=False)).returncode:
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.05)


def _create_roles(postgres: PostgresServer, service: Mapping[str, Any], programs: Mapping[str, str]) -> None:
    """Runs the script as the entry point of the image does."""
    done = subprocess.run(
        ["psql", "--no-psqlrc", "--variable=ON_ERROR_STOP=1", postgres.url],
        input=_read({})["configs"]["roles"]["content"],
        env=programs | service["environment"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@contextmanager
def _better_auth(service: Mapping[str, Any], address: str, folder: Path) -> Iterator[None]:
    """Builds the image of the example, and runs it."""
    image = build((EXAMPLE / "Dockerfile").read_text(encoding="utf-8"), EXAMPLE, folder / "better-auth")
    environment = image.environment | service["environment"] | {"PORT": address.rpartition(":")[2]}
    process = subprocess.Popen(image.command(), cwd=image.folder, env=environment)
    try:
        _wait_until_healthy(service, environment)
        yield
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)
