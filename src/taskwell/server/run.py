"""Serves the application over HTTP in one process. `taskwell.server.workers` runs several."""

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, cast

import uvicorn
from fastapi import FastAPI

from taskwell.app import create_app, database_from
from taskwell.database.urls import DatabaseURL, SQLiteURL
from taskwell.errors import NotMigrated, Problem
from taskwell.http.forwarded import TrustedProxies
from taskwell.migrations.check import check_schema, schema_revision
from taskwell.server.protocol import HTTPProtocol
from taskwell.settings import Settings
from taskwell.telemetry.trace_settings import traces_are_wanted

if TYPE_CHECKING:
    from taskwell.telemetry.reports import Reports
    from taskwell.telemetry.tracing import Tracing

STOP_SECONDS = 10
"""Time for requests in flight to finish when the process stops."""

CLOSE_SECONDS = 2
"""Connections that are still open after that have this long to send what is written."""

_LOOPBACK_OF_ALL = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not bound to

logger = logging.getLogger(__name__)


async def check_database(settings: Settings) -> None:
    """Refuses to serve from a database with another schema.

    If PostgreSQL cannot be reached, only warns: it may recover.

    Raises:
        NotMigrated: the database has another schema than this version's.
        DatabaseError: the SQLite file cannot be used.
    """
    url = settings.DATABASE_URL
    require_file(url)
    try:
        # One connection is enough for the check.
        async with database_from(settings.model_copy(update={"TASKWELL_POOL_MIN": 0})) as database:
            await check_schema(database.prepare(schema_revision))
    except NotMigrated:
        raise
    except Problem as problem:
        if isinstance(url, SQLiteURL):
            raise
        logger.warning("the database is not ready, starting anyway: %s", problem.cause)


def require_file(url: DatabaseURL) -> None:
    """Raises `NotMigrated` if the file of an SQLite database is missing. Opening it would create it."""
    if isinstance(url, SQLiteURL) and url.path.parent.is_dir() and not url.path.exists():
        raise NotMigrated(cause=f"there is no file {url.path}")


def listen(host: str, port: int, remedy: str = "choose another --host or --port") -> socket.socket:
    """Returns a listening socket. `::` listens on all addresses, IPv4 ones too.

    Raises:
        OSError: the address cannot be used; the message names it and says what to do.
    """
    is_ipv6 = ":" in host
    try:
        return socket.create_server(
            (host, port),
            family=socket.AF_INET6 if is_ipv6 else socket.AF_INET,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except (OSError, UnicodeError) as error:
        # `create_server` adds the address to the reason, in another form.
        reason = str(getattr(error, "strerror", error)).partition(" (")[0]
        raise OSError(f"cannot listen on {_address(host, port)}: {reason}; {remedy}") from None


@contextmanager
def metrics_of(settings: Settings, host: str) -> "Generator[Reports | None]":
    """Serves the metrics in the background, if the settings ask for them. Connect the workers to the reports.

    Raises:
        OSError: the port cannot be used.
    """
    if settings.TASKWELL_METRICS_PORT is None:
        yield None
        return
    # Not at the top, because without metrics the service does not import the client of Prometheus.
    from taskwell.server.metrics import serve_metrics  # noqa: PLC0415
    from taskwell.telemetry.reports import Reports  # noqa: PLC0415

    reports = Reports()
    with listen(host, settings.TASKWELL_METRICS_PORT, "choose another TASKWELL_METRICS_PORT") as listener:
        serve_metrics(listener, reports)
        logger.info("metrics at %s/metrics", url_of(listener))
        yield reports


def url_of(listener: socket.socket) -> str:
    """Returns the URL at which a browser on this machine reaches `listener`."""
    host: str
    host, port, *_ = listener.getsockname()
    return "http://" + _address(_LOOPBACK_OF_ALL.get(host, host), port)


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def serve(
    settings: Settings,
    listener: socket.socket,
    on_start: Callable[[], None],
    metrics_to: Connection | None = None,
) -> None:
    """Serves in this process until SIGTERM or Ctrl-C. Calls `on_start` once it accepts requests."""
    app = create_app(settings, metrics_to, _tracing())
    _allow_open_files()
    # The objects that exist now are permanent. Without this, the garbage collector examines them again and again, and
    # requests wait for 50 ms each time.
    gc.collect()
    gc.freeze()
    Server(app, settings, on_start).run([listener])


def _tracing() -> "Tracing | None":
    # OpenTelemetry reads the environment itself.
    if not traces_are_wanted(os.environ):
        return None
    try:
        # Not at the top, because it needs the extra.
        from taskwell.telemetry.tracing import Tracing  # noqa: PLC0415
    except ImportError:
        logger.warning("there are no traces, although OTEL_* asks for them: install taskwell[otel]")
        return None
    return Tracing()


def _allow_open_files() -> None:
    """Allows as many open files as the system permits. Many systems allow 1024 by default, and a stream takes one."""
    try:
        import resource  # noqa: PLC0415 - Windows has no such module, and no such limit
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS calls its limit unlimited, and then refuses that.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server(uvicorn.Server):
    """uvicorn's server, with our protocol. Stopping it loses no accepted request."""

    def __init__(self, app: FastAPI, settings: Settings, on_start: Callable[[], None] = lambda: None) -> None:
        proxies = TrustedProxies(settings.TASKWELL_FORWARDED_ALLOW_IPS)
        self._new_protocol = partial(HTTPProtocol, proxies)
        config = uvicorn.Config(
            app,
            # uvicorn calls it as it would call a class.
            http=cast("Any", self._new_protocol),
            ws="none",
            access_log=False,
            server_header=False,
            # The protocol finds the client's address: uvicorn's middleware does not check it, and ignores `Forwarded`.
            proxy_headers=False,
            # `taskwell.telemetry.logs` has configured logging.
            log_config=None,
            root_path=settings.TASKWELL_ROOT_PATH,
            timeout_keep_alive=settings.TASKWELL_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to accept connections on `sockets`."""
        await super().startup(sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts the connections that wait in the kernel, lets all requests finish, and closes."""
        for listener in sockets or ():
            await self._accept_backlog(listener)
        await super().shutdown(sockets)
        await self._close_connections()

    async def _close_connections(self) -> None:
        """Closes connections that are still open when the time for a stop is up, or they would outlive the event loop."""
        connections = self.server_state.connections
        for connection in list(connections):
            cast("HTTPProtocol", connection).close()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_SECONDS
        while connections and loop.time() < deadline:  # noqa: ASYNC110 - the set of connections has no event
            await asyncio.sleep(0.05)

    async def _accept_backlog(self, listener: socket.socket) -> None:
        """Accepts all connections in the backlog, because closing a listening socket resets them."""
        create_protocol = partial(self._new_protocol, self.config, self.server_state, self.lifespan.state)
        # Another reference, which stays open while the event loop closes its own.
        with listener.dup() as backlog:
            backlog.settimeout(0)
            for server in self.servers:
                server.close()
            while True:
                try:
                    connection, _ = backlog.accept()
                except BlockingIOError:
                    return
                await asyncio.get_running_loop().connect_accepted_socket(create_protocol, connection)
