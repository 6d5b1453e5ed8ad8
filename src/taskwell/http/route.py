"""The route class of every resource: who asks comes first, then the body, then the function.

FastAPI by itself reads and parses the body before any dependency runs, so a stranger would learn what
is wrong with a body before being told to sign in. `get_route_handler` is FastAPI's documented place
to change that (https://fastapi.tiangolo.com/how-to/custom-request-and-route/).
"""

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from taskwell.http.body import JSONRequest


class GuardedRoute(APIRoute):
    """A route that asks `guard` before it reads the body, and then reads the body strictly.

    A subclass says how; there is no route without a guard.
    """

    async def guard(self, request: Request) -> None:
        """Raises a `Problem` to refuse the request."""
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        reads_body = self.body_field is not None

        async def guarded(request: Request) -> Response:
            await self.guard(request)
            request = JSONRequest(request.scope, request.receive)
            if reads_body:
                await request.json()
            response = await handle(request)
            response.headers["Cache-Control"] = "private, no-cache"
            response.headers["Vary"] = "Authorization"
            return response

        return guarded
