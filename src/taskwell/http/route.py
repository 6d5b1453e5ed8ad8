"""The route class of every resource: who asks comes first, then the body, then the function.

FastAPI by itself reads and parses the body before any dependency runs, so a stranger would learn what
is wrong with a body before being told to sign in. `get_route_handler` is FastAPI's documented place
to change that (https://fastapi.tiangolo.com/how-to/custom-request-and-route/).
"""

from collections.abc import Callable, Collection, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from taskwell.errors import UnprocessableRequest, Violation
from taskwell.http.body import JSONRequest
from taskwell.http.limits import InFlight

PRIVATE = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]
"""Headers of every answer that holds a user's data."""


class GuardedRoute(APIRoute):
    """A route that asks `guard` before it reads the body, and then reads the body strictly.

    A subclass says how; there is no route without a guard.
    """

    def guard(self, request: Request) -> Coroutine[object, object, None]:
        """Raises a `Problem` to refuse the request."""
        raise NotImplementedError

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        reads_body = self.body_field is not None

        parameters = {field.alias for field in self.dependant.query_params}

        async def guarded(request: Request) -> Response:
            await self.guard(request)
            in_flight: InFlight = request.state.in_flight
            in_flight.require_room()
            request = JSONRequest(request.scope, request.receive)
            _refuse_repetition(request, parameters)
            if reads_body:
                await request.json()
            response = await in_flight.run(handle, request)
            response.raw_headers += PRIVATE
            return response

        return guarded

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # A method that the path does not have is no way round the guard.
        if scope["method"] not in (self.methods or ()):
            await self.guard(Request(scope, receive))
        await super().handle(scope, receive, send)


def _refuse_repetition(request: Request, parameters: Collection[str]) -> None:
    """Of a parameter given twice one value would silently be passed over."""
    given = [name for name, _ in request.query_params.multi_items() if name in parameters]
    for name in given:
        if given.count(name) > 1:
            violation: Violation = {"loc": ["query", name], "msg": "must be given once", "type": "repeated"}
            raise UnprocessableRequest(f"query {name}: must be given once", [violation])
