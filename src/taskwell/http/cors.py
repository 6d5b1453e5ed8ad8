"""Cross-origin requests (CORS): pages of the configured origins may call the API from a browser."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from taskwell.errors import MalformedRequest
from taskwell.http.error_responses import problem_response

_PREFLIGHT = "access-control-request-method"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_HEADERS = ("Authorization", "Content-Type", "X-Request-ID")
_RESPONSE_HEADERS = ("Allow", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")


class CORS(CORSMiddleware):
    """Starlette's middleware with this API's methods and headers. A refused preflight gets the API's error body."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if scope.get("method") != "OPTIONS" or "origin" not in headers or _PREFLIGHT not in headers:
            await super().__call__(scope, receive, send)
            return
        response = self.preflight_response(headers)
        if response.status_code >= 400:  # noqa: PLR2004 - RFC 9110, section 15.5
            refusal = problem_response(scope, MalformedRequest(f"{bytes(response.body).decode()}."))
            refusal.headers["Vary"] = response.headers["Vary"]
            response = refusal
        await response(scope, receive, send)
