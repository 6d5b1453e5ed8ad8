"""The servers to compare, and how to start each of them. Each is one process."""

import http.client
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from statements import as_json
from users import Auth

PEERS = Path(__file__).with_name("peers")
FASTIFY = PEERS / "fastify"
PROGRAMS = Path(sys.executable).parent
START_SECONDS = 30


@dataclass(frozen=True)
class Server:
    """A server. `{port}` in its command is the port to listen on. The path `ready` responds 200 when the server is ready."""

    command: Sequence[str]
    ready: str = "/health"
    environment: dict[str, str] = field(default_factory=dict)
    is_taskwell: bool = False


@dataclass(frozen=True)
class Running:
    """A running server."""

    url: str
    pid: int
    ready_seconds: float


def taskwell(*options: str, **settings: str) -> Server:
    """Returns Taskwell as in production, with its access log written to a file."""
    command = [str(PROGRAMS / "taskwell"), "serve", "--port", "{port}", *options]
    return Server(command, "/health/ready", settings, is_taskwell=True)


def _uvicorn(application: str) -> Server:
    # No access log, which is a disadvantage for Taskwell.
    options = ["--app-dir", str(PEERS), "--port", "{port}", "--no-access-log"]
    return Server([str(PROGRAMS / "uvicorn"), application, *options])


def _fastify(**settings: str) -> Server:
    return Server(["node", str(FASTIFY / "server.mjs")], environment={"NODE_ENV": "production", **settings})


SERVERS = {
    "taskwell": taskwell(),
    "taskwell-sqlite": taskwell(),
    "tutorial": _uvicorn("tutorial:app"),
    "bare": _uvicorn("bare:app"),
    "fastify": _fastify(),
    # By default, @fastify/jwt does not cache tokens.
    "fastify-cache": _fastify(TOKEN_CACHE="on"),
}


@contextmanager
def start(server: Server, auth: Auth, database_url: str) -> Iterator[Running]:
    """Starts a server, yields it when it is ready, and stops it. Its output goes to a file."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, **server.environment}
    environment |= auth.taskwell if server.is_taskwell else {"PORT": str(port), "STATEMENTS": as_json(), **auth.peers}
    with tempfile.TemporaryFile() as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in server.command],
            env=environment,
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            if not _wait_until_ready(process, url + server.ready):
                log.seek(0)
                sys.exit(f"{server.command} does not start:\n{log.read().decode()}")
            yield Running(url, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        if _is_ready(url):
            return True
        time.sleep(0.005)
    return False


def _is_ready(url: str) -> bool:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=1)
    try:
        connection.request("GET", where.path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def install_fastify() -> None:
    """Installs Fastify and its dependencies from the lock file, if that has not been done."""
    if not (shutil.which("node") and shutil.which("npm")):
        sys.exit("the peer fastify needs Node 20 or newer with npm: install it, or omit fastify from --peers")
    installed = FASTIFY / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (FASTIFY / "package-lock.json").stat().st_mtime:
        return
    subprocess.run(["npm", "ci", "--ignore-scripts", "--silent"], cwd=FASTIFY, check=True)
