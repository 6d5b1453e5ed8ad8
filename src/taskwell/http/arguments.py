"""Where a function's arguments come from in a request, and their validation.

FastAPI declares the parameters; see `taskwell.http.endpoint`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any, cast

from fastapi._compat import ModelField
from fastapi.dependencies.models import Dependant
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from taskwell.http.error_responses import PydanticError

Headers = list[tuple[bytes, bytes]]
Arguments = dict[str, Any]


class Function:
    """A route's function or one of its dependencies, and where its arguments come from."""

    def __init__(self, dependant: Dependant) -> None:
        self.call = cast("Callable[..., Awaitable[Any]]", dependant.call)
        self._request_name = dependant.request_param_name
        self.response_name = dependant.response_param_name
        self._path = [Parameter(field, "path") for field in dependant.path_params]
        self.query = [Parameter(field, "query") for field in dependant.query_params]
        self._headers = [Parameter(field, "header") for field in dependant.header_params]
        self._header_names = {parameter.alias.lower().encode() for parameter in self._headers}
        self._body = [Parameter(field, "body") for field in dependant.body_params]

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
            headers = self._joined_headers(request.scope["headers"])
            for parameter in self._headers:
                parameter.take(headers, arguments, errors)
        for parameter in self._body:
            parameter.validate_into(body, arguments, errors)
        if self._request_name:
            arguments[self._request_name] = request
        if self.response_name:
            arguments[self.response_name] = response
        return arguments

    def _joined_headers(self, headers: Headers) -> dict[str, str]:
        """Returns the headers that are parameters. Repeated ones are joined into a list (RFC 9110, section 5.3).

        White space around a value is not part of it (section 5.5), but the parser keeps trailing white space.
        """
        joined: dict[str, str] = {}
        for raw_name, raw_value in headers:
            if raw_name in self._header_names:
                name, value = raw_name.decode("latin-1"), raw_value.strip(b" \t").decode("latin-1")
                joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined


class Parameter:
    """A parameter of a function, and its place in the request."""

    def __init__(self, field: ModelField, place: str) -> None:
        info = field.field_info
        self.alias = field.validation_alias or field.alias
        self._given_as = self.alias.lower() if place == "header" else self.alias
        self._name = field.name
        self._loc: tuple[str, ...] = (place,) if place == "body" else (place, self.alias)
        self._required = info.is_required()
        self._default: object = info.default
        # FastAPI adds two wrappers, which take as long as the validation itself.
        annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        self._validate = TypeAdapter[object](cast("Any", annotation)).validator.validate_python

    def take(self, given: Mapping[str, str], arguments: Arguments, errors: list[PydanticError]) -> None:
        """Sets the argument from `given`, or to its default."""
        if self._given_as in given:
            self.validate_into(given[self._given_as], arguments, errors)
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
