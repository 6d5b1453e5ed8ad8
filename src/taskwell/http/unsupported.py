"""Which routes the endpoint engine does not support; see docs/adr/0008-one-endpoint-engine.md."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from inspect import iscoroutinefunction, signature
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin

from fastapi._compat import field_annotation_is_scalar, lenient_issubclass
from fastapi.datastructures import DefaultPlaceholder
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_typed_return_annotation
from fastapi.params import Body
from fastapi.routing import RouteContext
from pydantic import TypeAdapter
from starlette.responses import JSONResponse, Response

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


def reasons_against(route: RouteContext, *, takes_arguments: bool) -> Iterator[str]:
    """Yields each reason why the engine cannot serve `route` as FastAPI would."""
    dependant: Dependant = route.dependant
    yield from _unsupported_in(dependant)
    if not takes_arguments and signature(cast("Callable[..., Any]", route.endpoint)).parameters:
        yield "is public and takes arguments"
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
