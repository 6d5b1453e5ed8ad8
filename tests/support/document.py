"""The OpenAPI document, as the tests walk it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from support.service import SECRET, Json
from taskwell.app import create_app
from taskwell.errors import Problem
from taskwell.settings import Settings

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"

DOCUMENT: Json = create_app(
    Settings.read({"DATABASE_URL": "sqlite:///unused.db", "BETTER_AUTH_SECRET": SECRET})
).openapi()
SCHEMAS: Json = DOCUMENT["components"]["schemas"]


class Operation(NamedTuple):
    """A method of a path."""

    method: str
    path: str
    says: Json


class Content(NamedTuple):
    """One media type of one answer or request."""

    place: str
    status: int | None
    media_type: str
    says: Json

    @property
    def examples(self) -> list[Any]:
        if "example" in self.says:
            return [self.says["example"]]
        return [example["value"] for example in self.says["examples"].values()]


OPERATIONS = [
    Operation(method, path, says) for path, methods in DOCUMENT["paths"].items() for method, says in methods.items()
]
ON_TASKS = [operation for operation in OPERATIONS if operation.path.startswith("/api/")]


def answers() -> Iterator[tuple[Operation, int, Json]]:
    for operation in OPERATIONS:
        for status, answer in operation.says["responses"].items():
            yield operation, int(status), answer


def contents() -> Iterator[Content]:
    for operation in OPERATIONS:
        for media_type, says in operation.says.get("requestBody", {}).get("content", {}).items():
            yield Content(operation.says["operationId"], None, media_type, says)
    for operation, status, answer in answers():
        for media_type, says in answer.get("content", {}).items():
            yield Content(f"{operation.says['operationId']} {status}", status, media_type, says)


def problems(kind: type[Problem] = Problem) -> Iterator[type[Problem]]:
    """The classes that an answer can be made of."""
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
    if isinstance(part, dict):
        own = {part["$ref"]} if isinstance(part.get("$ref"), str) else set()
        return own.union(*(references(value) for value in part.values()))
    return set().union(*(references(value) for value in part)) if isinstance(part, list) else set()


def headers_of(problem: type[Problem]) -> set[str]:
    """What an answer made of it sends."""
    # Of the connection, and so no part of the message.
    return set(problem("").headers) - {"Connection"}


def codes_of(answer: Json) -> set[str]:
    """The error codes that an answer shows."""
    examples = answer.get("content", {}).get("application/json", {}).get("examples", {}).values()
    return {example["value"]["error_code"] for example in examples}
