"""The OpenAPI document is complete, and its examples are right."""

import json
import re
from typing import Any

import jsonschema_rs
import pytest
from pydantic import TypeAdapter, ValidationError

from support.document import (
    DOCUMENT,
    ON_TASKS,
    OPERATIONS,
    SCHEMAS,
    SNAPSHOT,
    Operation,
    codes_of,
    contents,
    found,
    headers_of,
    objects,
    problems,
    references,
    resolved,
    responses,
)
from support.service import Client, sign
from taskwell.errors import MethodNotAllowed
from taskwell.http.problem_body import reason_phrase
from taskwell.http.problem_types import PROBLEM_TYPES, type_path
from taskwell.tasks.schemas import Title


def test_the_committed_document_is_current() -> None:
    committed = json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.exists() else None
    assert committed == DOCUMENT, "docs/openapi.json is out of date; run: make openapi"


def test_the_names_in_generated_clients_do_not_change() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {operation.spec["operationId"] for operation in ON_TASKS} == {
        "list_tasks",
        "create_task",
        "get_task",
        "replace_task",
        "patch_task",
        "delete_task",
        "list_trash",
        "restore_task",
        "list_changes",
        "stream_events",
        "apply_batch",
        "erase_user",
        "export_tasks",
    }
    assert {name for name in SCHEMAS if name.startswith("Task")} == {
        "TaskCreate",
        "TaskUpdate",
        "TaskPatch",
        "TaskResponse",
        "TaskListResponse",
    }


def test_every_schema_and_header_is_used_and_defined() -> None:
    pointers = {
        f"#/components/{kind}/{name}" for kind in ("schemas", "headers") for name in DOCUMENT["components"][kind]
    }
    assert references(DOCUMENT) == pointers


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.spec["operationId"])
def test_every_operation_says_if_it_needs_a_token(operation: Operation) -> None:
    assert operation.spec["security"] == ([{"bearer": []}] if operation in ON_TASKS else [])
    assert operation.spec["description"]
    scheme = DOCUMENT["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


def test_every_body_has_a_schema_and_an_example_that_fits_it() -> None:
    for content in contents():
        assert content.spec["schema"], content.place
        assert content.examples, content.place
        schema = {**content.spec["schema"], "components": DOCUMENT["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        for example in content.examples:
            assert not [error.message for error in validator.iter_errors(example)], (content.place, example)


def test_every_error_has_the_same_body_in_both_media_types() -> None:
    for operation, status, response in responses():
        if status >= 400:
            forms = {media_type: spec["schema"] for media_type, spec in response["content"].items()}
            assert forms == {
                "application/json": {"$ref": "#/components/schemas/Problem"},
                "application/problem+json": {"$ref": "#/components/schemas/ProblemDetails"},
            }, (operation, status)
        else:
            documented = list(response.get("content", {}))
            assert documented == ([] if status in (204, 304) else _media_types(operation))


def _media_types(operation: Operation) -> list[str]:
    streams = {"export_tasks": ["application/x-ndjson", "text/csv"], "stream_events": ["text/event-stream"]}
    return streams.get(operation.spec["operationId"], ["application/json"])


def test_the_document_does_not_depend_on_the_version_of_python() -> None:
    # The names of RFC 9110, section 15, and RFC 6585. Python renamed 413 and 422 in version 3.13.
    names = {
        400: "Bad Request",
        401: "Unauthorized",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        408: "Request Timeout",
        410: "Gone",
        412: "Precondition Failed",
        413: "Content Too Large",
        415: "Unsupported Media Type",
        422: "Unprocessable Content",
        428: "Precondition Required",
        429: "Too Many Requests",
        500: "Internal Server Error",
        503: "Service Unavailable",
    }
    for problem in problems():
        assert reason_phrase(problem.status) == names[problem.status]


def test_every_example_of_problem_details_leads_to_the_page_of_its_code() -> None:
    for content in contents():
        if content.media_type == "application/problem+json":
            for example in content.examples:
                assert example["status"] == content.status
                assert example["title"] == PROBLEM_TYPES[example["error_code"]].title
                assert example["type"] == type_path(example["error_code"])


def test_every_kind_of_error_is_documented() -> None:
    documented = {(status, code) for _, status, response in responses() for code in codes_of(response)}
    # The document describes the methods that exist, so none of them responds with 405.
    assert documented == {(problem.status, problem.code) for problem in problems()} - {
        (MethodNotAllowed.status, MethodNotAllowed.code)
    }
    assert set(SCHEMAS["Problem"]["properties"]["error_code"]["enum"]) == {problem.code for problem in problems()}


# The headers of each success that are always sent, and those that depend on the request.
_ON_CHANGE = {200: {"ETag", "Taskwell-Revision"}}
SENT_ON_SUCCESS: dict[str, dict[int, set[str]]] = {
    "list_tasks": {200: {"ETag"}, 304: {"ETag"}},
    "create_task": {201: {"Location", "ETag", "Taskwell-Revision"}},
    "get_task": {200: {"ETag"}, 304: {"ETag"}},
    "replace_task": _ON_CHANGE,
    "patch_task": _ON_CHANGE,
    "delete_task": {204: {"Taskwell-Revision"}},
    "restore_task": _ON_CHANGE,
    "apply_batch": {200: {"Taskwell-Revision"}},
    "export_tasks": {200: {"Content-Disposition"}},
}
# Operations with a second cause of a 429: too many open streams. It has no other headers.
STREAMS = {"export_tasks", "stream_events"}
OPTIONAL = {"Link", "Idempotency-Replayed", "RateLimit", "RateLimit-Policy"}


def test_every_response_documents_its_headers() -> None:
    for operation, status, response in responses():
        sent = [
            headers_of(problem)
            for problem in problems()
            if problem.status == status and problem.code in codes_of(response)
        ]
        if status == 429 and operation.spec["operationId"] in STREAMS:
            sent.append({"Retry-After"})
        sent = sent or [SENT_ON_SUCCESS.get(operation.spec["operationId"], {}).get(status, set())]
        documented = {name: resolved(header) for name, header in response["headers"].items()}
        required = {name for name, header in documented.items() if header.get("required")}
        assert documented.keys() - OPTIONAL == {"X-Request-ID"}.union(*sent) - OPTIONAL, (operation.path, status)
        assert required == {"X-Request-ID"} | sent[0].intersection(*sent), (operation.path, status)


def test_every_header_has_an_example_that_fits_it() -> None:
    for _, _, response in responses():
        for name, reference in response["headers"].items():
            header = resolved(reference)
            assert header["description"], name
            assert jsonschema_rs.is_valid(header["schema"], header["example"]), name


def test_every_parameter_has_a_range_in_the_words_of_json_schema() -> None:
    for operation in OPERATIONS:
        for parameter in operation.spec.get("parameters", []):
            schema = parameter["schema"]
            assert parameter["description"], parameter
            # Pydantic's own words, such as `ge`, mean nothing to readers of JSON Schema.
            assert schema.keys() <= {
                *("type", "format", "title", "description", "default", "examples", "enum"),
                *("minimum", "maximum", "minLength", "maxLength", "pattern"),
            }, parameter
            if schema["type"] == "integer":
                assert {"minimum", "maximum"} <= schema.keys(), parameter
            if schema["type"] == "string" and "enum" not in schema:
                assert {"minLength", "maxLength"} <= schema.keys() | ({"minLength"} if "pattern" in schema else set())


@pytest.mark.parametrize("name", ["TaskCreate", "TaskUpdate", "TaskPatch"])
def test_a_request_may_have_the_members_of_a_response_and_no_others(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == SCHEMAS["TaskResponse"]["properties"].keys()
    # Some generated clients refuse to send a member that is `readOnly`. The service accepts it.
    assert "readOnly" not in json.dumps(schema)
    # Some generators treat a member with a default as one that is always present.
    assert "default" not in json.dumps(schema)


def test_the_schema_of_a_title_matches_exactly_what_the_service_accepts() -> None:
    schema, rule = SCHEMAS["TaskCreate"]["properties"]["title"], TypeAdapter(Title)
    validator = jsonschema_rs.Draft202012Validator(schema)

    def accepts(title: str) -> bool:
        try:
            rule.validate_python(title)
        except ValidationError:
            return False
        return True

    characters = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x10000), 0x1F9C0)]
    titles = [*characters, "", " \u0000", "a\u0000", "\u0000a", "\t \u3000\n", " a b \n", "a\nb", "\u200b "]
    assert [title for title in titles if validator.is_valid(title) != accepts(title)] == []


def test_a_patch_needs_a_writable_member() -> None:
    validator = jsonschema_rs.Draft202012Validator(SCHEMAS["TaskPatch"])
    assert not validator.is_valid({})
    assert not validator.is_valid({"id": 1, "user_id": "user_abc123"})
    for member in ({"title": "Buy milk"}, {"description": None}, {"complete": False}):
        assert validator.is_valid(member)
        assert validator.is_valid({"id": 1, **member})


def test_swagger_ui_does_not_show_a_schema_as_never() -> None:
    # It does so if the schema in `not` has no type.
    for schema in objects(DOCUMENT):
        assert schema.get("not", {"type": ""}).keys() >= {"type"}, schema


def test_every_regex_dialect_understands_the_patterns() -> None:
    """Generated clients check `pattern` with their language's regexes; some match only at the start of the text."""
    patterns = {*found("pattern", DOCUMENT)} - {SCHEMAS["TaskCreate"]["properties"]["title"]["not"]["pattern"]}
    assert patterns
    for pattern in patterns:
        assert re.fullmatch(r"\^.+\$", pattern), pattern
        assert not re.search(r"\\(?!x[0-9a-f]{2}|\.)", pattern), pattern


def test_responses_have_no_rule_that_clients_check_differently() -> None:
    # Some clients count the UTF-16 code units of text, and match patterns against parsed dates.
    names = ("TaskResponse", "TaskListResponse", "VersionedTask", "TrashedTask", "ChangesResponse")
    for schema in map(SCHEMAS.get, names):
        assert not {*found("pattern", schema), *found("maxLength", schema), *found("minLength", schema)}


def test_every_integer_and_list_has_limits() -> None:
    for schema in objects(DOCUMENT):
        if schema.get("type") == "integer":
            assert isinstance(schema["minimum"], int), schema
            assert isinstance(schema["maximum"], int), schema
            assert schema["format"] == ("int32" if schema["maximum"] < 2**31 else "int64"), schema
        if schema.get("type") == "array":
            assert schema["maxItems"], schema


def test_every_text_in_a_request_has_a_limit() -> None:
    for name in ("TaskCreate", "TaskUpdate", "TaskPatch"):
        for schema in objects(SCHEMAS[name]["properties"]):
            if schema.get("type") == "string":
                assert schema.keys() >= {"maxLength"} or schema == SCHEMAS[name]["properties"]["title"]["not"]


def test_the_document_says_where_the_service_is_and_under_what_licence() -> None:
    assert DOCUMENT["servers"] == [{"url": "/"}]
    assert DOCUMENT["info"]["license"] == {"name": "MIT", "identifier": "MIT"}


def test_every_tag_is_described() -> None:
    assert {tag["name"] for tag in DOCUMENT["tags"]} == {
        tag for operation in OPERATIONS for tag in operation.spec["tags"]
    }
    assert all(tag["description"] for tag in DOCUMENT["tags"])


def _on_own_tasks(body: Any, client: Client) -> Any:
    """The body, with tasks of this user in the operations of a batch."""
    if body is None or "operations" not in body:
        return body
    own = [one | {"id": client.create()["id"]} if "id" in one else one for one in body["operations"]]
    return {"operations": [one | {"if_match": "*"} if "if_match" in one else one for one in own]}


@pytest.mark.parametrize("operation", ON_TASKS, ids=lambda operation: operation.spec["operationId"])
def test_every_example_of_a_request_is_accepted(operation: Operation, alice: Client) -> None:
    success = min(operation.spec["responses"])
    bodies = [
        example
        for content in contents()
        if content.place == operation.spec["operationId"]
        for example in content.examples
    ]
    confirmation = {"confirm": alice.user} if operation.spec["operationId"] == "erase_user" else {}
    for body in bodies or [None]:
        path = operation.path.format(user_id=alice.user, task_id=alice.create()["id"])
        headers = {"Authorization": f"Bearer {sign(alice.user)}"}
        request = {"json": _on_own_tasks(body, alice), "params": confirmation, "headers": headers}
        # Without reading the response: a stream of events does not end.
        with alice.http.stream(operation.method, path, **request) as response:
            assert str(response.status_code) == success
