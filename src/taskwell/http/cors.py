"""Cross-origin requests (CORS): pages of the configured origins may call the API from a browser."""

from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from taskwell.errors import MalformedRequest
from taskwell.http.error_responses import problem_response
from taskwell.http.origins import origin_matcher

_PREFLIGHT = "access-control-request-method"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_HEADERS = (
    *("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID", "X-Request-ID"),
    # Browser libraries of OpenTelemetry and Sentry add these to every request. The browser sends none that is not allowed.
    *("traceparent", "tracestate", "baggage", "sentry-trace"),
)
_RESPONSE_HEADERS = (
    *("Allow", "Content-Disposition", "ETag", "Idempotency-Replayed", "Link", "Location", "RateLimit"),
    *("RateLimit-Policy", "Retry-After", "Taskwell-Revision", "WWW-Authenticate", "X-Request-ID"),
)


class CORS(CORSMiddleware):
    """Starlette's middleware with this API's origins, methods and headers. A refused preflight gets the API's error body.

    Allowed origins may send credentials, although the API reads no cookies: many front ends fetch everything with
    `credentials: "include"`, and the browser refuses such a request unless the response allows it.
    """

    def __init__(self, app: ASGIApp, origins: Iterable[str]) -> None:
        super().__init__(
            app,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_RESPONSE_HEADERS,
            # When a page from a public address calls a private one, some browsers ask for this in the preflight. Without
            # it, the call fails. https://wicg.github.io/private-network-access/
            allow_private_network=True,
        )
        self._is_allowed = origin_matcher(origins)

    def is_allowed_origin(self, origin: str) -> bool:
        return self._is_allowed(origin)

    @staticmethod
    def allow_explicit_origin(headers: MutableHeaders, origin: str) -> None:
        # Starlette's own `allow_credentials` would send this header to every other origin too.
        CORSMiddleware.allow_explicit_origin(headers, origin)
        headers["Access-Control-Allow-Credentials"] = "true"

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
        else:
            response.headers["Access-Control-Allow-Credentials"] = "true"
        await response(scope, receive, send)
