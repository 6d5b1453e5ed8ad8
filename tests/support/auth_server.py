"""A fake key set endpoint. Tests choose how it replies: well, badly, slowly or not at all."""

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Behaviour = Callable[[BaseHTTPRequestHandler], None]


def key_set(*keys: dict[str, Any]) -> Behaviour:
    """Replies with these keys."""
    return body(json.dumps({"keys": keys}).encode())


def body(content: bytes, status: int = 200, **headers: str) -> Behaviour:
    """Replies with `content`."""

    def reply(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(content)

    return reply


class AuthServer:
    """A server on a free port. `behaviour` writes the replies; `requests` and `user_agents` say what was requested."""

    def __init__(self, behaviour: Behaviour, address: str = "127.0.0.1") -> None:
        self.behaviour = behaviour
        self.requests: list[str] = []
        self.user_agents: list[str | None] = []
        self.over = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests.append(self.path)
                outer.user_agents.append(self.headers["User-Agent"])
                # The client closes the connection if a reply is too slow or too large.
                with suppress(OSError):
                    outer.behaviour(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
                pass

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def origin(self) -> str:
        """The origin, which is also the issuer and audience of its tokens."""
        return "http://{}:{}".format(*self._server.server_address)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
