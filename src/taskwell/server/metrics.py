"""Serves the metrics in the format of Prometheus, at `/metrics` on a port of their own.

The process that starts the workers serves them, or the only process. A thread does, so that they can be had whatever
the service is busy with. It is imported only when metrics are on.
"""

import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket
from typing import cast

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from taskwell.telemetry.reports import Reports

CLIENT_SECONDS = 10
"""A client that sends or reads nothing for this long is let go."""

logger = logging.getLogger(__name__)


def serve_metrics(listener: socket, reports: Reports) -> None:
    """Serves `reports` on `listener`, in the background, until the process ends."""
    # `generate_latest` asks a registry only for what it collects.
    registry = cast("CollectorRegistry", reports)

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            text = encode(registry)
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
            logger.debug(format, *args)

    server = ThreadingHTTPServer(listener.getsockname()[:2], Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    threading.Thread(target=server.serve_forever, name="metrics-server", daemon=True).start()
