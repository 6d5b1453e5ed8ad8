"""The OpenAPI document: what it says is complete, and its examples are true."""

import json
import re

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
    answers,
    codes_of,
    contents,
    headers_of,
    problems,
    references,
    resolved,
)
from support.service import Client
from taskwell.errors import MethodNotAllowed
from taskwell.tasks.schemas import Title


def test_the_committed_document_is_the_services() -> None:
    committed = json.loads(SNAPSHOT.read_text(encoding="utf-8")) if SNAPSHOT.exists() else None
    assert committed == DOCUMENT, "docs/openapi.json is not what the service says; run: make openapi"


def test_generated_clients_find_the_names_they_know() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert {operation.says["operationId"] for operation in ON_TASKS} == {
        "list_tasks",
        "create_task",
        "get_task",
        "replace_task",
        "patch_task",
        "delete_task",
    }
    assert {name for name in SCHEMAS if name.startswith("Task")} == {
        "TaskCreate",
        "TaskUpdate",
        "TaskPatch",
        "TaskResponse",
        "TaskListResponse",
    }


def test_no_schema_or_header_is_unused_and_none_is_missing() -> None:
    pointers = {
        f"#/components/{kind}/{name}" for kind in ("schemas", "headers") for name in DOCUMENT["components"][kind]
    }
    assert references(DOCUMENT) == pointers


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.says["operationId"])
def test_an_operation_says_who_may_call_it(operation: Operation) -> None:
    assert operation.says.get("security", []) == ([{"bearer": []}] if operation in ON_TASKS else [])
    assert operation.says["description"]
    scheme = DOCUMENT["components"]["securitySchemes"]["bearer"]
    assert (scheme["type"], scheme["scheme"], scheme["bearerFormat"]) == ("http", "bearer", "JWT")


def test_every_body_has_a_schema_and_an_example_that_fits_it() -> None:
    for content in contents():
        assert content.says["schema"], content.place
        assert content.examples, content.place
        schema = {**content.says["schema"], "components": DOCUMENT["components"]}
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        for example in content.examples:
            assert not [error.message for error in validator.iter_errors(example)], (content.place, example)


def test_every_failure_is_the_one_body_in_both_forms() -> None:
    for operation, status, answer in answers():
        if status >= 400:
            forms = {media_type: says["schema"] for media_type, says in answer["content"].items()}
            assert forms == {
                "application/json": {"$ref": "#/components/schemas/Problem"},
                "application/problem+json": {"$ref": "#/components/schemas/ProblemDetails"},
            }, (operation, status)
        else:
            assert list(answer.get("content", {})) == ([] if status == 204 else ["application/json"])


def test_every_failure_is_documented_where_it_can_happen() -> None:
    documented = {(status, code) for _, status, answer in answers() for code in codes_of(answer)}
    # A method that no operation has is no operation's answer.
    assert documented == {(problem.status, problem.code) for problem in problems()} - {
        (MethodNotAllowed.status, MethodNotAllowed.code)
    }
    assert set(SCHEMAS["Problem"]["properties"]["error_code"]["enum"]) == {problem.code for problem in problems()}


def test_every_answer_names_its_headers() -> None:
    for operation, status, answer in answers():
        sent = [
            headers_of(problem)
            for problem in problems()
            if problem.status == status and problem.code in codes_of(answer)
        ]
        sent = sent or [{"Location"} if status == 201 else set()]
        documented = {name: resolved(header) for name, header in answer["headers"].items()}
        required = {name for name, header in documented.items() if header.get("required")}
        assert documented.keys() == {"X-Request-ID"}.union(*sent), (operation.path, status)
        assert required == {"X-Request-ID"} | sent[0].intersection(*sent), (operation.path, status)


def test_every_header_has_an_example_that_fits_it() -> None:
    for _, _, answer in answers():
        for name, reference in answer["headers"].items():
            header = resolved(reference)
            assert header["description"], name
            assert jsonschema_rs.is_valid(header["schema"], header["example"]), name


def test_every_parameter_says_its_rule_in_words_that_clients_know() -> None:
    for operation in OPERATIONS:
        for parameter in operation.says.get("parameters", []):
            schema = parameter["schema"]
            assert parameter["description"], parameter
            # Anything else, as pydantic's own `ge`, no reader of JSON Schema understands.
            assert schema.keys() <= {
                *("type", "format", "title", "description", "default", "examples"),
                *("minimum", "maximum", "minLength", "maxLength"),
            }, parameter
            if schema["type"] == "integer":
                assert {"minimum", "maximum"} <= schema.keys(), parameter
            if schema["type"] == "string":
                assert {"minLength", "maxLength"} <= schema.keys(), parameter


@pytest.mark.parametrize("name", ["TaskCreate", "TaskUpdate", "TaskPatch"])
def test_a_request_may_hold_what_was_read_and_nothing_unknown(name: str) -> None:
    schema = SCHEMAS[name]
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == SCHEMAS["TaskResponse"]["properties"].keys()
    # `readOnly` would tell some clients to refuse to send the member, which this service allows.
    assert "readOnly" not in json.dumps(schema)
    # A default would tell some generators that the member is always there.
    assert "default" not in json.dumps(schema)


def test_the_pattern_of_a_title_is_exactly_the_services_rule() -> None:
    pattern, rule = re.compile(SCHEMAS["TaskCreate"]["properties"]["title"]["pattern"]), TypeAdapter(Title)

    def accepts(title: str) -> bool:
        try:
            rule.validate_python(title)
        except ValidationError:
            return False
        return True

    characters = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x10000), 0x1F9C0)]
    titles = [*characters, " \u0000", "a\u0000", "\u0000a", "\t \u3000\n", " a b \n", "\u200b "]
    assert [title for title in titles if bool(pattern.search(title)) != accepts(title)] == []


@pytest.mark.parametrize("operation", ON_TASKS, ids=lambda operation: operation.says["operationId"])
def test_every_example_of_a_request_is_accepted(operation: Operation, alice: Client) -> None:
    success = min(operation.says["responses"])
    bodies = [
        example
        for content in contents()
        if content.place == operation.says["operationId"]
        for example in content.examples
    ]
    for body in bodies or [None]:
        path = operation.path.format(user_id=alice.user, task_id=alice.create()["id"])
        answer = alice.request(operation.method.upper(), path, json=body)
        assert str(answer.status_code) == success, answer.text
