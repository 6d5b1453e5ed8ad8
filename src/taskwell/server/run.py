"""Serving the application over HTTP by uvicorn."""

import gc
import logging
import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from taskwell.app import create_app, database_from
from taskwell.database.urls import SQLiteURL
from taskwell.errors import NotMigrated, Problem
from taskwell.migrations.check import check_schema, schema_revision
from taskwell.server.protocol import HTTPProtocol
from taskwell.settings import Settings
from taskwell.telemetry.logs import configuration

OPTIONS: dict[str, Any] = {
    "http": HTTPProtocol,
    "ws": "none",
    "access_log": False,
    "server_header": False,
    # Nothing here asks where a request came from.
    "proxy_headers": False,
    # Longer than the 60 seconds after which most load balancers close an idle connection, so that the balancer does it first.
    "timeout_keep_alive": 75,
    # When the process is told to stop, requests in flight may finish.
    "timeout_graceful_shutdown": 10,
}

_LOOPBACK_OF_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to

logger = logging.getLogger(__name__)


async def check_database(settings: Settings) -> None:
    """Refuses a database whose schema is not this version's. A server that cannot be reached may yet come up.

    Raises:
        NotMigrated: the schema is another.
        DatabaseError: the file of an SQLite database cannot be opened.
    """
    url = settings.DATABASE_URL
    if isinstance(url, SQLiteURL) and url.path.parent.is_dir() and not url.path.exists():
        # To open it would create it.
        raise NotMigrated(cause=f"there is no file {url.path}")
    try:
        # One connection is enough to look.
        async with database_from(settings.model_copy(update={"TASKWELL_POOL_MIN": 0})) as database:
            await check_schema(database.prepare(schema_revision))
    except NotMigrated:
        raise
    except Problem as problem:
        if isinstance(url, SQLiteURL):
            raise
        logger.warning("the database is not ready, starting anyway: %s", problem.cause)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens, taken before anything is started or said.

    Raises:
        OSError: the address is not to be had; the message says which, and what to do.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, UnicodeError) as error:
        # After the reason, `create_server` puts the address in a form of its own.
        reason = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise OSError(f"cannot listen on {_address(host, port)}: {reason}; choose --host or --port") from None


def url_of(listener: socket.socket) -> str:
    """Where a browser on this machine finds what listens here."""
    host: str
    host, port, *_ = listener.getsockname()
    return "http://" + _address(_LOOPBACK_OF_ALL.get(host, host), port)


def serve(settings: Settings, listener: socket.socket, on_start: Callable[[], None]) -> None:
    """Serves in this process until told to stop; requests in flight are then given ten seconds to finish.

    `on_start` is called once it serves.
    """
    server = _AnnouncingServer(_config(_built(settings), settings))
    server.on_start = on_start
    server.run([listener])


def serve_with_workers(settings: Settings, listener: socket.socket, workers: int) -> None:
    """Serves in `workers` processes, each of which reads the settings for itself.

    Raises:
        OSError: they did not start; the log says why.
    """
    config = _config("taskwell.server.run:app_from_environment", settings, factory=True, workers=workers)
    supervisor = Multiprocess(config, [listener])
    supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise OSError("the workers did not start")


def app_from_environment() -> FastAPI:
    """The application of a worker process, which ends when the process that started it is gone, killed or not."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=[parent], daemon=True).start()
    return _built(Settings.read(os.environ))


def _end_after(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _built(settings: Settings) -> FastAPI:
    app = create_app(settings)
    # What is there now stays. Looked through again and again by the garbage collector, it makes requests wait for 50 ms.
    gc.collect()
    gc.freeze()
    return app


class _AnnouncingServer(uvicorn.Server):
    on_start: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_start()


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _config(app: FastAPI | str, settings: Settings, **options: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own options
    return uvicorn.Config(app, log_config=configuration(settings.TASKWELL_LOG_LEVEL), **OPTIONS, **options)
