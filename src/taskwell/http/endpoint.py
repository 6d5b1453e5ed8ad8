"""The endpoint engine serves the routes declared with `route_class=Endpoint`. Requests reach them in no other way.

A route is an ordinary FastAPI function, and FastAPI documents it. The engine stands in front of FastAPI and runs the
function itself. It works out what the function needs once, when the application is built. FastAPI does this for each
request, which costs four to six times as much as everything else in a request. Each request passes, in this order:
authentication, load shedding, reading and parsing the body, validation, the function, the response.

A route that needs more than the engine supports is an error when the application is built. The error names the route; see
`_unsupported`. See docs/adr/0008-one-endpoint-engine.md.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from inspect import iscoroutinefunction
from types import UnionType
from typing import Annotated, Any, Union, cast, get_args, get_origin
from urllib.parse import parse_qsl

import orjson
from fastapi._compat import ModelField, field_annotation_is_scalar, lenient_issubclass
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_return_annotation
from fastapi.params import Body
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from taskwell.errors import MethodNotAllowed, Problem
from taskwell.http.body import MAX_BODY_BYTES, BodyReader
from taskwell.http.error_responses import (
    PydanticError,
    error_response,
    invalid_request,
    repeated_parameter,
    unknown_parameter,
)
from taskwell.http.limits import InFlight

PRIVATE = [(b"cache-control", b"private, no-cache"), (b"vary", b"Authorization")]
"""Headers of every response that holds a user's data, unless the function sets them."""

Headers = list[tuple[bytes, bytes]]
Arguments = dict[str, Any]
Authenticate = Callable[[Request], Awaitable[None]]


class Endpoint(APIRoute):
    """The route class of the routes that the engine serves."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses to serve the route without the engine, because only the engine authenticates requests."""
        del scope, receive, send
        raise UnsupportedRouteError(f"{self.path}: reached without the endpoint engine")


class UnsupportedRouteError(TypeError):
    """A route is declared in a way that the engine does not support. The message names the route and the reason."""


class EndpointEngine:
    """Serves the routes of class `Endpoint` among `routes`, and passes all other requests on to `app`.

    `authenticate` runs first, for every method of a path. It raises a `Problem` to refuse a request.

    Raises:
        UnsupportedRouteError: a route cannot be served.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[BaseRoute],
        *,
        authenticate: Authenticate,
        in_flight: InFlight,
        bodies: BodyReader,
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._in_flight = in_flight
        self._bodies = bodies
        self._paths: dict[re.Pattern[str], _Path] = {}
        for route in iter_route_contexts(routes):
            if isinstance(route.original_route, Endpoint):
                path = self._paths.setdefault(route.path_regex, _Path(route))
                path.operations |= dict.fromkeys(route.methods or (), _Operation(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = self._match(scope)
        if path is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        response: Response | _JSON
        try:
            response = await self._respond(request, path)
        except (Problem, HTTPException) as error:
            response = error_response(request, error)
        # Outside of the limits, so a long stream does not count as a request in flight.
        await response(scope, receive, send)

    def _match(self, scope: Scope) -> "_Path | None":
        if scope["type"] == "http":
            for regex, path in self._paths.items():
                if match := regex.match(scope["path"]):
                    scope["path_params"] = {name: path.convert[name](text) for name, text in match.groupdict().items()}
                    return path
        return None

    async def _respond(self, request: Request, path: "_Path") -> "Response | _JSON":
        await self._authenticate(request)
        operation = path.operations.get(request.scope["method"])
        if operation is None:
            raise MethodNotAllowed(path.allowed_methods)
        self._in_flight.require_capacity()
        body: object = None
        if operation.max_body_bytes:
            body = await self._bodies.read_json(request.scope, request.receive, operation.max_body_bytes)
        call = operation.prepare(request, body)
        return call.response(await self._in_flight.run(call.run))


class _Path:
    """A path, and the operations on it by method."""

    def __init__(self, route: RouteContext) -> None:
        self.convert = {name: convertor.convert for name, convertor in route.param_convertors.items()}
        self.operations: dict[str, _Operation] = {}

    @property
    def allowed_methods(self) -> list[str]:
        methods = set(self.operations)
        return sorted(methods | {"HEAD"} if "GET" in methods else methods)


class _Operation:
    """One method of a path: the function, its dependencies, and the form of its response."""

    def __init__(self, route: RouteContext) -> None:
        dependant: Dependant = route.dependant
        for reason in _unsupported(route):
            raise UnsupportedRouteError(f"{'/'.join(sorted(route.methods or ()))} {route.path}: {reason}")
        self.function = _Function(dependant)
        self.dependencies = [(str(one.name), _Function(one)) for one in dependant.dependencies]
        self.max_body_bytes = (route.max_body_size or MAX_BODY_BYTES) if route.body_field else 0
        self.status = route.status_code or 200
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
    dependencies: "list[tuple[str, _Function, Arguments]]"
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
            return _JSON(status, headers + PRIVATE, content)
        headers += self.added.raw_headers
        return _JSON(self.added.status_code or status, headers + _missing(PRIVATE, headers), content)


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
        self.raw_headers: Headers = []


# --- the arguments of a function


class _Function:
    """A route's function or one of its dependencies, and where its arguments come from."""

    def __init__(self, dependant: Dependant) -> None:
        self.call = cast("Callable[..., Awaitable[Any]]", dependant.call)
        self._request_name = dependant.request_param_name
        self.response_name = dependant.response_param_name
        self._path = [_Parameter(field, "path") for field in dependant.path_params]
        self.query = [_Parameter(field, "query") for field in dependant.query_params]
        self._headers = [_Parameter(field, "header") for field in dependant.header_params]
        self._body = [_Parameter(field, "body") for field in dependant.body_params]

    def arguments(
        self,
        request: Request,
        query: Mapping[str, str],
        body: object,
        response: Response | None,
        errors: list[PydanticError],
    ) -> Arguments:
        """Returns the arguments that come from the request. Adds a validation error to `errors` for each invalid one."""
        arguments: Arguments = {}
        for parameter in self._path:
            parameter.take(request.scope["path_params"], arguments, errors)
        for parameter in self.query:
            parameter.take(query, arguments, errors)
        if self._headers:
            headers = _joined(request.scope["headers"])
            for parameter in self._headers:
                parameter.take(headers, arguments, errors)
        for parameter in self._body:
            parameter.validate_into(body, arguments, errors)
        if self._request_name:
            arguments[self._request_name] = request
        if self.response_name:
            arguments[self.response_name] = response
        return arguments


class _Parameter:
    """A parameter of a function, and its place in the request."""

    def __init__(self, field: ModelField, place: str) -> None:
        info = field.field_info
        self.alias = field.validation_alias or field.alias
        self._name = field.name
        self._loc: tuple[str, ...] = (place,) if place == "body" else (place, self.alias)
        self._required = info.is_required()
        self._default: object = info.default
        # FastAPI adds two wrappers, which take as long as the validation itself.
        annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        self._validate = TypeAdapter[object](cast("Any", annotation)).validator.validate_python

    def take(self, given: Mapping[str, str], arguments: Arguments, errors: list[PydanticError]) -> None:
        """Sets the argument from `given`, or to its default."""
        if self.alias in given:
            self.validate_into(given[self.alias], arguments, errors)
        elif self._required:
            errors.append({"type": "missing", "loc": self._loc, "msg": "Field required"})
        else:
            arguments[self._name] = self._default

    def validate_into(self, value: object, arguments: Arguments, errors: list[PydanticError]) -> None:
        """Sets the argument to `value`, validated."""
        try:
            arguments[self._name] = self._validate(value, from_attributes=True)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False, include_input=False)
            errors.extend({"type": one["type"], "loc": (*self._loc, *one["loc"]), "msg": one["msg"]} for one in found)


def _joined(headers: Headers) -> dict[str, str]:
    """Returns the headers by lower-case name; repeated ones are joined into a list (RFC 9110, section 5.3)."""
    joined: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        joined[name] = f"{joined[name]}, {value}" if name in joined else value
    return joined


# --- unsupported routes

# The fields of FastAPI's `Dependant` that the engine supports or need not support. A function that uses another is refused.
_SUPPORTED = {
    *("path_params", "query_params", "header_params", "body_params", "dependencies", "name", "call"),
    *("request_param_name", "response_param_name", "use_cache", "path", "scope"),
}
_FILTERS = {
    "response_model_include": None,
    "response_model_exclude": None,
    "response_model_by_alias": True,
    "response_model_exclude_unset": False,
    "response_model_exclude_defaults": False,
    "response_model_exclude_none": False,
}


def _unsupported(route: RouteContext) -> Iterator[str]:
    """Yields each reason why the engine cannot serve `route` as FastAPI would."""
    dependant: Dependant = route.dependant
    yield from _unsupported_in(dependant)
    for dependency in dependant.dependencies:
        name = dependency.name
        if name is None:
            yield "has a dependency without a parameter (`dependencies=`)"
        if dependency.dependencies:
            yield f"its dependency `{name}` has dependencies of its own"
        if dependency.call in [other.call for other in dependant.dependencies if other is not dependency]:
            yield f"its dependency `{name}` is declared twice"
        if dependency.body_params:
            yield f"its dependency `{name}` reads the body"
        yield from (f"its dependency `{name}` {reason}" for reason in _unsupported_in(dependency))
    yield from _unsupported_body(route)
    yield from _unsupported_response(route)


def _unsupported_in(dependant: Dependant) -> Iterator[str]:
    if unknown := [
        one.name for one in fields(dependant) if one.name not in _SUPPORTED and getattr(dependant, one.name)
    ]:
        yield f"uses {', '.join(unknown)}"
    call = dependant.call
    if not iscoroutinefunction(call) and not iscoroutinefunction(type(call).__call__):
        yield "is not an `async def` without `yield`"
    for parameter in (*dependant.path_params, *dependant.query_params, *dependant.header_params):
        info = parameter.field_info
        if not field_annotation_is_scalar(info.annotation):
            yield f"its parameter `{parameter.name}` is not a single value"
        if info.default_factory or info.validate_default or not isinstance(info.validation_alias, str | None):
            yield f"its parameter `{parameter.name}` has a default factory, a validated default or several aliases"


def _unsupported_body(route: RouteContext) -> Iterator[str]:
    if route.body_field is None:
        return
    if type(route.body_field.field_info) is not Body:
        yield "reads a form or a file"
    elif len(route.dependant.body_params) > 1 or route._embed_body_fields:  # noqa: SLF001
        yield "has more than one body parameter, or an embedded one"
    if not route.body_field.field_info.is_required():
        yield "has an optional body"


def _unsupported_response(route: RouteContext) -> Iterator[str]:
    returned = _without_responses(get_typed_return_annotation(cast("Callable[..., Any]", route.endpoint)))
    if returned is Response:
        return
    for name, default in _FILTERS.items():
        if getattr(route, name) != default:
            yield f"has {name}"
    if route.response_field is None:
        if returned not in (None, type(None)):
            yield "returns a value that its response model does not describe"
    elif route.response_model != returned:
        yield "has a response_model that differs from its return type"
    elif _holds_models(TypeAdapter[object](route.response_model).core_schema):
        yield "returns a pydantic model; return a TypedDict"
    response_class = route.response_class
    if isinstance(response_class, DefaultPlaceholder):
        response_class = response_class.value
    if response_class is not (JSONResponse if route.response_field else Response):
        yield f"has the response class {response_class.__name__}"


def _without_responses(annotation: object) -> object:
    """Returns a function's return type without the responses in it, or `Response` if there is nothing else."""
    if not isinstance(annotation, UnionType) and get_origin(annotation) is not Union:
        return Response if lenient_issubclass(annotation, Response) else annotation
    others = tuple(part for part in get_args(annotation) if not lenient_issubclass(part, Response))
    return Union[others] if others else Response  # noqa: UP007


def _holds_models(schema: object) -> bool:
    """Returns whether a pydantic-core schema contains a model or a dataclass, which the engine cannot serialize."""
    if isinstance(schema, Mapping):
        parts = cast("Mapping[str, object]", schema)
        return parts.get("type") in ("model", "dataclass") or any(map(_holds_models, parts.values()))
    return isinstance(schema, list | tuple) and any(map(_holds_models, cast("Sequence[object]", schema)))
