"""The OpenAPI document, and functions to walk through it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.service import SECRET, Json
from taskwell.app import create_app
from taskwell.errors import PreconditionFailed, Problem
from taskwell.settings import Settings

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"

DOCUMENT: Json = create_app(
    Settings.read({"DATABASE_URL": "sqlite:///unused.db", "BETTER_AUTH_SECRET": SECRET})
).openapi()
SCHEMAS: Json = DOCUMENT["components"]["schemas"]


class Operation(NamedTuple):
    """An operation of the document: a method of a path, and its description."""

    method: str
    path: str
    spec: Json


class Content(NamedTuple):
    """The content of a request or response in one media type."""

    place: str
    status: int | None
    media_type: str
    spec: Json

    @property
    def examples(self) -> list[Any]:
        if "example" in self.spec:
            return [self.spec["example"]]
        return [example["value"] for example in self.spec["examples"].values()]


OPERATIONS = [
    Operation(method, path, spec) for path, methods in DOCUMENT["paths"].items() for method, spec in methods.items()
]
ON_TASKS = [operation for operation in OPERATIONS if operation.path.startswith("/api/")]


def responses() -> Iterator[tuple[Operation, int, Json]]:
    for operation in OPERATIONS:
        for status, response in operation.spec["responses"].items():
            yield operation, int(status), response


def contents() -> Iterator[Content]:
    for operation in OPERATIONS:
        for media_type, spec in operation.spec.get("requestBody", {}).get("content", {}).items():
            yield Content(operation.spec["operationId"], None, media_type, spec)
    for operation, status, response in responses():
        for media_type, spec in response.get("content", {}).items():
            yield Content(f"{operation.spec['operationId']} {status}", status, media_type, spec)


def problems(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """Yields the classes of problems that a response can have."""
    if hasattr(kind, "status"):
        yield kind
    for narrower in kind.__subclasses__():
        yield from problems(narrower)


def resolved(part: Json) -> Json:
    if "$ref" not in part:
        return part
    target: Json = DOCUMENT
    for name in part["$ref"].removeprefix("#/").split("/"):
        target = target[name]
    return target


def references(part: object) -> set[str]:
    return {*found("$ref", part)}


def objects(part: object) -> Iterator[Json]:
    """Yields all JSON objects in a part of the document."""
    if isinstance(part, dict):
        yield part
    for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from objects(value)


def found(name: str, part: object) -> Iterator[Any]:
    """Yields the values of that name, texts and numbers, from all JSON objects in a part of the document."""
    return (value[name] for value in objects(part) if isinstance(value.get(name), str | int))


def headers_of(problem: type[Problem]) -> set[str]:
    """Returns the names of the headers that the response to a problem has."""
    example = PreconditionFailed({}, '"57"') if problem is PreconditionFailed else problem("")
    # `Connection` is about the connection, not about the response.
    return set(example.headers) - {"Connection"}


def codes_of(response: Json) -> set[str]:
    """Returns the error codes in the examples of a response."""
    examples = response.get("content", {}).get("application/json", {}).get("examples", {}).values()
    return {example["value"]["error_code"] for example in examples}
