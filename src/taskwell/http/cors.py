"""Which pages may call from a browser: those of the configured origins, told in the one shape when they may not."""

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from taskwell.errors import MalformedRequest
from taskwell.http.error_responses import problem_response

_PREFLIGHT = "access-control-request-method"
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_REQUEST_HEADERS = ("Authorization", "Content-Type", "X-Request-ID")
_ANSWER_HEADERS = ("Allow", "Location", "Retry-After", "WWW-Authenticate", "X-Request-ID")


class CORS(CORSMiddleware):
    """Starlette's, for this API's methods and headers. A refused preflight has the body of every other error."""

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=_METHODS,
            allow_headers=_REQUEST_HEADERS,
            expose_headers=_ANSWER_HEADERS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if scope.get("method") != "OPTIONS" or "origin" not in headers or _PREFLIGHT not in headers:
            await super().__call__(scope, receive, send)
            return
        answer = self.preflight_response(headers)
        if answer.status_code >= 400:  # noqa: PLR2004 - RFC 9110, section 15.5
            refused = problem_response(scope, MalformedRequest(f"{bytes(answer.body).decode()}."))
            refused.headers["Vary"] = answer.headers["Vary"]
            answer = refused
        await answer(scope, receive, send)
