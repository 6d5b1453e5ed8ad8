"""The endpoint engine serves the routes declared with `route_class=Endpoint`. Requests reach them in no other way.

A route is an ordinary FastAPI function, and FastAPI documents it. The engine stands in front of FastAPI and runs the
function itself. It works out what the function needs once, when the application is built. FastAPI does this for each
request, which costs four to six times as much as everything else in a request. Each request passes, in this order:
authentication, the rate limit, load shedding, reading and parsing the body, validation, the function, the response. A
request to a `Public` route passes only the last two.

A route that needs more than the engine supports is an error when the application is built. The error names the route;
see `taskwell.http.unsupported`. See docs/adr/0008-one-endpoint-engine.md.
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast
from urllib.parse import parse_qsl

import orjson
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from taskwell.auth.tokens import UserId
from taskwell.errors import MethodNotAllowed, Problem
from taskwell.http.arguments import Arguments, Function, Headers
from taskwell.http.body import MAX_BODY_BYTES, BodyReader
from taskwell.http.error_responses import (
    PydanticError,
    error_response,
    invalid_request,
    repeated_parameter,
    unknown_parameter,
)
from taskwell.http.limits import InFlight
from taskwell.http.rate_limits import RateLimits
from taskwell.http.unsupported import reasons_against
from taskwell.state import InState

PRIVATE = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]
"""Headers of every response that holds a user's data, unless the function sets them."""

_NO_PATHS: "dict[re.Pattern[str], _Path]" = {}

Authenticate = Callable[[Request], Awaitable[None]]


class Endpoint(APIRoute):
    """The route class of the routes that the engine serves."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses to serve the route without the engine, because only the engine authenticates requests."""
        del scope, receive, send
        raise UnsupportedRouteError(f"{self.path}: reached without the endpoint engine")


class Public(Endpoint):
    """The route class of routes for everybody, which take no arguments. They need no token, and no limit holds for them."""


class UnsupportedRouteError(TypeError):
    """A route is declared in a way that the engine does not support. The message names the route and the reason."""


class EndpointEngine:
    """Serves the routes of class `Endpoint` among `routes`, and passes all other requests on to `app`.

    `authenticate` runs first, for every method of a path. It raises a `Problem` to refuse a request. `on_write` is called
    with the owner when a request that may have written has ended.

    Raises:
        UnsupportedRouteError: a route cannot be served.
    """

    def __init__(  # noqa: PLR0913 - one for each thing that a request passes
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        *,
        authenticate: Authenticate,
        in_flight: InFlight,
        bodies: BodyReader,
        on_write: Callable[[UserId], None],
        rate_limits: RateLimits | None = None,
    ) -> None:
        self._app = app
        self._authenticate = partial(rate_limits.admit, authenticate) if rate_limits else authenticate
        self._rate_limits = rate_limits
        self._in_flight = in_flight
        self._bodies = bodies
        self._on_write = on_write
        # By the number of slashes, so that few patterns are tried for a request. No parameter contains a slash.
        self._paths: defaultdict[int, dict[re.Pattern[str], _Path]] = defaultdict(dict)
        self._templates_of_app: dict[re.Pattern[str], str] = {}
        for route in iter_route_contexts(routes):
            if isinstance(route.original_route, Endpoint):
                path = self._paths[str(route.path).count("/")].setdefault(route.path_regex, _Path(route))
                path.operations |= dict.fromkeys(route.methods or (), _Operation(route, is_public=path.is_public))
            else:
                self._templates_of_app[route.path_regex] = str(route.path_format)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._match(scope)
        if path is None:
            self._name_route(scope)
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        response: Response | _JSON
        try:
            response = await self._respond(request, path)
        except (Problem, HTTPException) as error:
            response = error_response(request, error)
        # Also after an error: if the database's reply was lost, the write may have happened.
        if scope["method"] != "GET" and (owner := scope["state"].get("owner")):
            self._on_write(owner)
        if self._rate_limits is not None:
            send = self._rate_limits.report(scope, send)
        # Outside of the limits, so a long stream does not count as a request in flight.
        await response(scope, receive, send)

    def _match(self, scope: Scope) -> "_Path | None":
        if scope["type"] == "http":
            for regex, path in self._paths.get(scope["path"].count("/"), _NO_PATHS).items():
                if match := regex.match(scope["path"]):
                    scope["state"]["route"] = path.template
                    scope["path_params"] = {name: path.convert[name](text) for name, text in match.groupdict().items()}
                    return path
        return None

    def _name_route(self, scope: Scope) -> None:
        """Notes the template of a route that `app` serves, for the log."""
        if scope["type"] == "http":
            for regex, template in self._templates_of_app.items():
                if regex.match(scope["path"]):
                    scope["state"]["route"] = template
                    return

    async def _respond(self, request: Request, path: "_Path") -> "Response | _JSON":
        if not path.is_public:
            await self._authenticate(request)
        operation = path.operations.get(request.scope["method"])
        if operation is None:
            raise MethodNotAllowed(path.allowed_methods)
        if path.is_public:
            # Without a look at the query, because monitors add parameters to get past caches.
            return _Call(operation, [], {}, None).response(await operation.function.call())
        self._in_flight.require_capacity()
        body: object = None
        if operation.max_body_bytes:
            body = await self._bodies.read_json(request.scope, request.receive, operation.max_body_bytes)
        call = operation.prepare(request, body)
        return call.response(await self._in_flight.run(call.run))


class _Path:
    """A path, and the operations on it by method."""

    def __init__(self, route: RouteContext) -> None:
        self.template = str(route.path_format)
        self.is_public = isinstance(route.original_route, Public)
        self.convert = {name: convertor.convert for name, convertor in route.param_convertors.items()}
        self.operations: dict[str, _Operation] = {}

    @property
    def allowed_methods(self) -> list[str]:
        methods = set(self.operations)
        return sorted(methods | {"HEAD"} if "GET" in methods else methods)


class _Operation:
    """One method of a path: the function, its dependencies, and the form of its response."""

    def __init__(self, route: RouteContext, *, is_public: bool) -> None:
        dependant: Dependant = route.dependant
        for reason in reasons_against(route, takes_arguments=not is_public):
            raise UnsupportedRouteError(f"{'/'.join(sorted(route.methods or ()))} {route.path}: {reason}")
        self.function = Function(dependant)
        self.from_state: list[tuple[str, str]] = []
        self.dependencies: list[tuple[str, Function]] = []
        for one in dependant.dependencies:
            if isinstance(cast("object", one.call), InState):
                self.from_state.append((str(one.name), cast("InState", one.call).state_name))
            else:
                self.dependencies.append((str(one.name), Function(one)))
        self.max_body_bytes = (route.max_body_size or MAX_BODY_BYTES) if route.body_field else 0
        self.status = route.status_code or 200
        self.headers = [] if is_public else PRIVATE
        self.has_content = route.response_field is not None
        functions = [self.function, *[function for _, function in self.dependencies]]
        self.takes_response = any(function.response_name for function in functions)
        self._query_names = list(dict.fromkeys(one.alias for function in functions for one in function.query))

    def prepare(self, request: Request, body: object) -> "_Call":
        """Validates everything that the functions take from the request.

        Raises:
            InvalidRequest: the input is invalid. An unknown or repeated query parameter is reported alone; otherwise,
                all errors are reported together.
        """
        query = self._query(request.scope["query_string"]) if request.scope["query_string"] else {}
        errors: list[PydanticError] = []
        response = _AddedHeaders() if self.takes_response else None
        dependencies = [
            (name, function, function.arguments(request, query, body, response, errors))
            for name, function in self.dependencies
        ]
        arguments = self.function.arguments(request, query, body, response, errors)
        for name, key in self.from_state:
            arguments[name] = request.scope["state"][key]
        if errors:
            raise invalid_request(errors)
        return _Call(self, dependencies, arguments, response)

    def _query(self, query_string: bytes) -> dict[str, str]:
        """Parses the query string as Starlette does, but rejects a repeated or unknown name instead of ignoring it."""
        given = parse_qsl(query_string.decode("latin-1"), keep_blank_values=True)
        query = dict(given)
        for name in query:
            if name not in self._query_names:
                raise unknown_parameter(name, self._query_names)
        if len(query) < len(given):
            names = [name for name, _ in given]
            raise repeated_parameter(next(name for name in names if names.count(name) > 1))
        return query


@dataclass(slots=True)
class _Call:
    """A validated request, ready to run."""

    operation: _Operation
    dependencies: "list[tuple[str, Function, Arguments]]"
    arguments: Arguments
    added: "_AddedHeaders | None"

    async def run(self) -> object:
        """Calls the dependencies and then the function."""
        for name, dependency, arguments in self.dependencies:
            self.arguments[name] = await dependency.call(**arguments)
        return await self.operation.function.call(**self.arguments)

    def response(self, result: object) -> "Response | _JSON":
        """Turns what the function returned into a response. A returned `Response` stays as it is, as with FastAPI."""
        if isinstance(result, Response):
            result.raw_headers += _missing(PRIVATE, result.raw_headers)
            return result
        headers: Headers = []
        content = b""
        if self.operation.has_content:
            content = orjson.dumps(result, option=orjson.OPT_UTC_Z)
            headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
        status = self.operation.status
        if self.added is None:
            return _JSON(status, headers + self.operation.headers, content)
        return _JSON(self.added.status_code or status, headers + self.added.raw_headers, content)


def _missing(defaults: Headers, headers: Headers) -> Headers:
    present = {name for name, _ in headers}
    return [(name, value) for name, value in defaults if name not in present]


@dataclass(slots=True)
class _JSON:
    """A response that Starlette's `JSONResponse` would take six times as long to build."""

    status: int
    headers: Headers
    content: bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.content})


class _AddedHeaders(Response):
    """The `response` parameter of a function: collects headers, and a status code that replaces the route's."""

    def __init__(self) -> None:
        self.status_code: int | None = None  # type: ignore[assignment]
        # The function can replace them.
        self.raw_headers: Headers = PRIVATE.copy()


def add_header(response: Response, name: bytes, value: str) -> None:
    """Adds a header that the response does not have yet. `name` is in lower case.

    Starlette's `response.headers` takes four times as long, because it looks for the header first.
    """
    response.raw_headers.append((name, value.encode()))
