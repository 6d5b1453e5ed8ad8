"""The short way to a route, for requests that are in order.

Of what a request costs, most goes into the framework's stack: exit stacks, routing, and finding out for each request anew
what a function's arguments are. All of that is known when the service starts. This layer works it out once, from the same
routes, calls the same functions with the same validation, and answers the same bytes. Whatever is not in order goes the
framework's way, which words every error of the input; so does a route that needs more than is known here. With
`TASKWELL_DISPATCHER=off` everything goes that way; the tests run both and compare. See docs/adr/0008-the-short-way.md.
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import fields
from inspect import iscoroutinefunction
from typing import Annotated, Any, cast

import orjson
from fastapi.dependencies.models import Dependant
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from taskwell.errors import Problem
from taskwell.http.body import JSONRequest
from taskwell.http.error_responses import handle_problem
from taskwell.http.limits import InFlight
from taskwell.http.route import PRIVATE, GuardedRoute

Arguments = dict[str, Any]

# What a function may ask for here; and what FastAPI notes of it besides.
_PROVIDED = {"path_params", "query_params", "body_params", "dependencies", "request_param_name", "response_param_name"}
_NOTED = {"name", "call", "use_cache", "path", "scope"}


class Dispatcher:
    """Answers for those of `routes` of which everything is known, and leaves the rest to `app`."""

    def __init__(self, app: ASGIApp, routes: Iterable[object]) -> None:
        self._app = app
        self._endpoints: dict[re.Pattern[str], dict[str, _Endpoint]] = {}
        for route in routes:
            if isinstance(route, GuardedRoute) and _is_known(route.dependant):
                methods = self._endpoints.setdefault(route.path_regex, {})
                methods |= dict.fromkeys(route.methods or (), _Endpoint(route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._find(scope)
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = JSONRequest(scope, receive)
        try:
            answer = await endpoint.answer(request)
        except Problem as problem:
            await (await handle_problem(request, problem))(scope, receive, send)
            return
        if answer is None:
            await self._app(scope, _once_more(request, receive), send)
            return
        for message in answer:
            await send(message)

    def _find(self, scope: Scope) -> "_Endpoint | None":
        if scope["type"] == "http":
            for path, endpoints in self._endpoints.items():
                if match := path.match(scope["path"]):
                    if endpoint := endpoints.get(scope["method"]):
                        scope["path_params"] = endpoint.converted(match.groupdict())
                    return endpoint
        return None


def _once_more(request: JSONRequest, receive: Receive) -> Receive:
    """Receives the body anew, where it has been read."""
    body: bytes | None = getattr(request, "_body", None)
    if body is None:
        return receive
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


class _Endpoint:
    """A route, worked out."""

    def __init__(self, route: GuardedRoute) -> None:
        self._guard = route.guard
        self._call = _Call(route.dependant)
        self._dependencies = [(str(one.name), _Call(one)) for one in route.dependant.dependencies]
        self._reads_body = route.body_field is not None
        self._status = route.status_code or 200
        self._adds_headers = route.dependant.response_param_name is not None
        self._has_content = route.response_field is not None
        self._convert = {name: convertor.convert for name, convertor in route.param_convertors.items()}

    def converted(self, path_params: dict[str, str]) -> dict[str, Any]:
        return {name: self._convert[name](text) for name, text in path_params.items()}

    async def answer(self, request: JSONRequest) -> tuple[Message, Message] | None:
        """The route's answer, or None where something is not in order."""
        await self._guard(request)
        in_flight: InFlight = request.scope["state"]["in_flight"]
        in_flight.require_room()
        added = _NoHeaders() if self._adds_headers else None
        body = await request.json() if self._reads_body else None
        try:
            arguments = self._call.arguments(request, added, body)
            needed = [call.arguments(request, added, body) for _, call in self._dependencies]
        except ValueError:
            return None
        for (name, call), its_arguments in zip(self._dependencies, needed, strict=True):
            arguments[name] = await call.function(**its_arguments)
        result = await in_flight.run(self._call.function, **arguments)
        content, headers = b"", list[tuple[bytes, bytes]]()
        if self._has_content:
            content = orjson.dumps(result, option=orjson.OPT_UTC_Z)
            headers = [(b"content-length", b"%d" % len(content)), (b"content-type", b"application/json")]
        if added:
            headers += added.raw_headers
        headers += PRIVATE
        return (
            {"type": "http.response.start", "status": self._status, "headers": headers},
            {"type": "http.response.body", "body": content},
        )


class _NoHeaders(Response):
    """For the headers that a function adds; it begins with none."""

    def init_headers(self, headers: object = None) -> None:
        del headers
        self.raw_headers: list[tuple[bytes, bytes]] = []


class _Call:
    """A function, and where its arguments come from."""

    def __init__(self, dependant: Dependant) -> None:
        self.function = cast("Callable[..., Awaitable[Any]]", dependant.call)
        self._takes_request = dependant.request_param_name
        self._takes_response = dependant.response_param_name
        self._path = [(field.name, field.alias, _validator(field.field_info)) for field in dependant.path_params]
        self._query = {field.alias: (field.name, _validator(field.field_info)) for field in dependant.query_params}
        self._defaults = {field.name: field.get_default() for field in dependant.query_params}
        self._body = [(field.name, _validator(field.field_info)) for field in dependant.body_params]

    def arguments(self, request: JSONRequest, response: Response | None, body: object) -> Arguments:
        """What to call it with, the results of its dependencies apart.

        Raises:
            ValueError: something is not in order.
        """
        arguments = self._defaults.copy()
        for name, alias, validate in self._path:
            arguments[name] = validate(request.scope["path_params"][alias])
        if self._query and request.scope["query_string"]:
            self._take_query(request.scope, arguments)
        for name, validate in self._body:
            arguments[name] = validate(body)
        if self._takes_request:
            arguments[self._takes_request] = request
        if self._takes_response:
            arguments[self._takes_response] = response
        return arguments

    def _take_query(self, scope: Scope, arguments: Arguments) -> None:
        given = QueryParams(scope["query_string"]).multi_items()
        if len(dict(given)) < len(given):
            raise ValueError("a parameter is given twice")
        for alias, text in given:
            if alias in self._query:
                name, validate = self._query[alias]
                arguments[name] = validate(text)


def _validator(field: FieldInfo) -> Callable[[object], object]:
    """As FastAPI has it, which wraps it twice; it raises a `ValueError`."""
    wanted = Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
    return TypeAdapter[object](cast("Any", wanted)).validator.validate_python


def _is_known(dependant: Dependant) -> bool:
    """Whether a function, and each that it depends on, is asynchronous and asks for nothing but what is provided here."""
    if any(one.dependencies for one in dependant.dependencies) or any(
        getattr(dependant, one.name) for one in fields(dependant) if one.name not in _PROVIDED | _NOTED
    ):
        return False
    call = dependant.call
    is_asynchronous = iscoroutinefunction(call) or iscoroutinefunction(type(call).__call__)
    return is_asynchronous and len(dependant.body_params) <= 1 and all(map(_is_known, dependant.dependencies))
