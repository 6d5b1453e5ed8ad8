"""Bad input gets a clear 4xx in the shape of every error, and the response never repeats the values sent."""

import json
from urllib.parse import unquote

import httpx2
import pytest

from support.problem import assert_problem
from support.service import Client, Service

JSON = {"Content-Type": "application/json"}
LIMIT = 64 * 1024

MALFORMED = {
    "nothing": b"",
    "white space": b"  ",
    "no JSON": b"{title: 1}",
    "half an object": b'{"title": "canary"',
    "two documents": b'{"title": "a"} {}',
    "a trailing comma": b'{"title": "a",}',
    "NaN": b'{"title": NaN}',
    "Infinity": b'{"title": "a", "complete": -Infinity}',
    "a control character": b'{"title": "a\nb"}',
    "invalid UTF-8": b'{"title": "\xff\xfe"}',
    "an encoded surrogate": b'{"title": "\xed\xa0\x80"}',
    "overlong UTF-8": b'{"title": "\xc0\xaf"}',
    "a byte order mark": b'\xef\xbb\xbf{"title": "a"}',
    "UTF-16": '{"title": "a"}'.encode("utf-16"),
    "UTF-32": '{"title": "a"}'.encode("utf-32"),
    "NUL": b"\x00",
    "a form": b"title=canary",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_that_is_not_json_gets_400(alice: Client, method: str, body: bytes) -> None:
    path = "" if method == "POST" else 1
    response = alice.request(method, path, content=body, headers=JSON)
    assert_problem(response, 400, "VALIDATION_ERROR")
    assert "canary" not in response.text


def _title(value: object) -> bytes:
    return json.dumps({"title": value}).encode()


WRONG_SHAPE = {
    "an array": (b"[]", "body"),
    "an array of tasks": (b'[{"title": "a"}]', "body"),
    "a string": (b'"title"', "body"),
    "a number": (b"1", "body"),
    "null": (b"null", "body"),
    "an empty object": (b"{}", "title"),
    "no title": (b'{"complete": true}', "title"),
    "title null": (_title(None), "title"),
    "title a number": (_title(1), "title"),
    "title a list": (_title(["canary"]), "title"),
    "title an object": (_title({"canary": 1}), "title"),
    "title empty": (_title(""), "title"),
    "title white space": (_title(" \t\n\u2003\u00a0 "), "title"),
    "title of 201": (_title("x" * 201), "title"),
    "title of 201 emoji": (_title("🧀" * 201), "title"),
    "title of 201 with marks": (_title("e" + "\u0301" * 200), "title"),
    "title with NUL": (_title("ca\x00nary"), "title"),
    "title with a high surrogate": (b'{"title": "ca\\ud800nary"}', "title"),
    "title with a low surrogate": (b'{"title": "\\udc00"}', "title"),
    "title with swapped surrogates": (b'{"title": "\\udc00\\ud800"}', "title"),
    "description a number": (b'{"title": "a", "description": 1.5}', "description"),
    "description of 1001": (json.dumps({"title": "a", "description": "🧀" * 1001}).encode(), "description"),
    "description with NUL": (b'{"title": "a", "description": "\\u0000"}', "description"),
    "description with a surrogate": (b'{"title": "a", "description": "\\udfff"}', "description"),
    "complete yes": (b'{"title": "a", "complete": "yes"}', "complete"),
    "complete 1": (b'{"title": "a", "complete": 1}', "complete"),
    "complete 1.0": (b'{"title": "a", "complete": 1.0}', "complete"),
    "complete null": (b'{"title": "a", "complete": null}', "complete"),
    "complete true, as a string": (b'{"title": "a", "complete": "true"}', "complete"),
    "an unknown member": (b'{"title": "a", "completed": true}', "completed"),
    "a member of another case": (b'{"title": "a", "Complete": true}', "Complete"),
    "a name in letters of any script": ('{"title": "a", "größe": 1}'.encode(), "größe"),
    "a name that forges a line of the log": (b'{"title": "a", "a\\n2026 INFO": 1}', "a\\n2026 INFO"),
    "an empty name": (b'{"title": "a", "": true}', ""),
    "a name with a surrogate": (b'{"title": "a", "\\ud800": true}', "body"),
    "a name with NUL": (b'{"title": "a", "\\u0000": true}', "\\x00"),
    "a long name": (b'{"title": "a", "' + b"n" * 60_000 + b'": 1}', "n" * 64),
}


@pytest.mark.parametrize(("body", "member"), WRONG_SHAPE.values(), ids=WRONG_SHAPE.keys())
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_json_of_the_wrong_shape_gets_422_that_names_the_member(
    alice: Client, method: str, body: bytes, member: str
) -> None:
    response = alice.request(method, "" if method == "POST" else 1, content=body, headers=JSON)
    problem = assert_problem(response, 422, "VALIDATION_ERROR")
    assert member in [violation["loc"][-1] for violation in problem["errors"]]
    assert member in problem["detail"]
    assert "canary" not in response.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"title": null}', 422),
        (b'{"complete": null}', 422),
        (b'{"description": 5}', 422),
        (b'{"done": true}', 422),
        (b'{"title": " "}', 422),
        (b"[]", 422),
        (b"{}", 400),
        (b'{"id": 7, "user_id": "x", "created_at": null, "updated_at": {}}', 400),
    ],
)
def test_a_patch_is_validated_as_strictly(alice: Client, body: bytes, status: int) -> None:
    task = alice.create()
    response = alice.request("PATCH", task["id"], content=body, headers=JSON)
    assert_problem(response, status, "VALIDATION_ERROR")
    assert alice.request("GET", task["id"]).json() == task


def test_the_error_for_an_empty_patch_says_what_is_missing(alice: Client) -> None:
    response = alice.request("PATCH", alice.create()["id"], json={})
    assert "at least one field must be provided" in assert_problem(response, 400, "VALIDATION_ERROR")["detail"]


def test_thousands_of_mistakes_get_a_small_response(alice: Client) -> None:
    response = alice.request("POST", json={f"m{number}": 1 for number in range(5000)})
    assert len(assert_problem(response, 422, "VALIDATION_ERROR")["errors"]) == 20
    assert len(response.content) < 10_000


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b"[" * 30_000 + b"]" * 30_000, b'{"a":' * 10_000 + b"1" + b"}" * 10_000]
)
def test_deep_nesting_is_a_client_error(alice: Client, body: bytes) -> None:
    response = alice.request("POST", content=body, headers=JSON)
    assert_problem(response, response.status_code, "VALIDATION_ERROR")
    assert response.status_code in (400, 422)


@pytest.mark.parametrize("digits", [20, 400, 60_000])
def test_a_number_of_any_length_is_a_client_error(alice: Client, digits: int) -> None:
    for body in (b'{"title": ' + b"9" * digits + b"}", b'{"title": 1e' + b"9" * digits + b"}"):
        assert_problem(alice.request("POST", content=body, headers=JSON), 422, "VALIDATION_ERROR")


@pytest.mark.parametrize("unit", ["x", "ß", "🧀", "\u0301"])
def test_lengths_count_code_points(alice: Client, unit: str) -> None:
    task = alice.create("a" + unit * 199, description=unit * 1000)
    assert (len(task["title"]), len(task["description"])) == (200, 1000)
    assert alice.request("GET", task["id"]).json() == task


def test_white_space_around_a_title_does_not_count(alice: Client) -> None:
    assert alice.create("\u2003 " + "x" * 200 + " \n")["title"] == "x" * 200


# --- the path


@pytest.mark.parametrize("task_id", ["0", "-1", "-0", "2147483648", "9223372036854775807", "9223372036854775808"])
def test_an_integer_that_cannot_be_an_id_gets_404(alice: Client, task_id: str) -> None:
    for method, body in (
        ("GET", None),
        ("DELETE", None),
        ("PUT", {"title": "a", "complete": True}),
        ("PATCH", {"title": "a"}),
    ):
        assert_problem(alice.request(method, task_id, json=body), 404, "NOT_FOUND")


@pytest.mark.parametrize("digits", [20, 21, 22, 5000])
def test_an_integer_of_any_length_gets_404(alice: Client, digits: int) -> None:
    assert_problem(alice.request("GET", "1" * digits), 404, "NOT_FOUND")
    assert_problem(alice.request("GET", "-" + "1" * digits), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    "task_id",
    [
        "abc",
        "1.0",
        "1e3",
        "%2B5",
        "+5",
        "1_000",
        "0x1",
        "%20" + "5",
        "5%20",
        "٣",
        "1%00",
        "%FF",
        "1%0A",
        "--1",
        "-",
        "007",
        "true",
        "1,5",
        "%C2%B2",
    ],
)
def test_a_task_id_that_is_not_an_integer_gets_422(alice: Client, task_id: str) -> None:
    for method, body in (("GET", None), ("DELETE", None), ("PATCH", {"title": "a"})):
        problem = assert_problem(alice.request(method, f"{alice.home}/{task_id}", json=body), 422, "VALIDATION_ERROR")
        assert problem["errors"][0]["loc"] == ["path", "task_id"]


def test_an_invalid_body_is_reported_before_a_missing_task(alice: Client) -> None:
    assert_problem(alice.request("PUT", 0, json={}), 422, "VALIDATION_ERROR")
    assert_problem(alice.request("PATCH", 2**63, json={}), 400, "VALIDATION_ERROR")


def test_a_percent_encoded_id_is_the_same_id(alice: Client) -> None:
    task = alice.create()
    encoded = "".join(f"%{ord(digit):02x}" for digit in str(task["id"]))
    assert alice.request("GET", f"{alice.home}/{encoded}").json() == task


@pytest.mark.parametrize(
    "user", ["%2F", "%00", "%FF", "%ED%A0%80", "ü", "a@b.example", "x" * 256, "%", "%zz", "..%2F..", "%0d%0aX: y"]
)
@pytest.mark.parametrize("rest", ["", "/1"])
def test_any_other_user_in_the_path_gets_403(alice: Client, user: str, rest: str) -> None:
    assert_problem(alice.request("GET", f"/api/{user}/tasks{rest}"), 403, "AUTH_FORBIDDEN")


def test_a_percent_encoded_user_is_the_same_user(service: Service, alice: Client) -> None:
    task = alice.create()
    encoded = "".join(f"%{ord(letter):02X}" for letter in alice.user)
    assert alice.request("GET", f"/api/{encoded}/tasks/{task['id']}").json() == task


# --- the query


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=1001", "limit=-1", "limit=abc", "limit=", "limit=1.0", "limit=%2B5", "limit=9999999999999999999999",
        "limit=1e2", "limit=%00", "limit=٣", "offset=-1", "offset=2147483648", "offset=x", "offset=9223372036854775808",
        "complete=yes", "complete=1", "complete=True", "complete=", "complete=null", "complete=%FF",
    ],
)  # fmt: skip
def test_a_query_parameter_out_of_range_gets_422(alice: Client, query: str) -> None:
    problem = assert_problem(alice.request("GET", f"{alice.home}?{query}"), 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize("query", ["limit=5&limit=6", "limit=5000&limit=5", "complete=true&complete=true"])
def test_a_query_parameter_given_twice_gets_422(alice: Client, query: str) -> None:
    problem = assert_problem(alice.request("GET", f"{alice.home}?{query}"), 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", query.partition("=")[0]]


@pytest.mark.parametrize("query", ["limit=1", "limit=1000", "offset=2147483647", "complete=true", "&&", ""])
def test_every_value_in_its_range_is_accepted(alice: Client, query: str) -> None:
    assert alice.request("GET", f"{alice.home}?{query}").status_code == 200


@pytest.mark.parametrize("query", ["completed=true", "sort_by=title", "Limit=1", "%FF=%FE", "&&=", "a" * 5000])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_an_unknown_query_parameter_is_named_not_ignored(alice: Client, method: str, query: str) -> None:
    on_a_task = method in {"PUT", "PATCH", "DELETE"}
    path = f"{alice.home}/{alice.create()['id']}" if on_a_task else alice.home
    body = {"title": "a", "complete": True} if method not in {"GET", "DELETE"} else None
    problem = assert_problem(alice.request(method, f"{path}?{query}", json=body), 422, "VALIDATION_ERROR")
    name = unquote(query.strip("&").partition("=")[0], errors="replace")[:64]
    assert problem["errors"][0]["loc"] == ["query", name]
    parameters = "complete, q, sort, limit, offset and cursor" if method == "GET" else "none"
    assert problem["detail"] == f"query {name}: is not a parameter of this endpoint, which has {parameters}"
    assert alice.titles() == (["Buy milk"] if on_a_task else [])


# --- size and media type


def _padded(size: int) -> bytes:
    return json.dumps({"title": "a"}).encode().ljust(size)


def test_the_largest_body_is_64_kib(alice: Client) -> None:
    assert alice.request("POST", content=_padded(LIMIT), headers=JSON).status_code == 201
    assert_problem(alice.request("POST", content=_padded(LIMIT + 1), headers=JSON), 413, "PAYLOAD_TOO_LARGE")
    chunks = (_padded(LIMIT + 1)[start : start + 1000] for start in range(0, LIMIT + 1, 1000))
    assert_problem(alice.request("POST", content=chunks, headers=JSON), 413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    "media_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/merge-patch+json", "application/vnd.api+json"],
)
def test_json_may_be_declared_in_several_ways(alice: Client, media_type: str) -> None:
    task = alice.create()
    response = alice.request("PATCH", task["id"], content=b'{"complete": true}', headers={"Content-Type": media_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain",
        "text/json",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
        "",
        "application/json+xml",
        "application/+json",
        "application/json/x+json",
        "application/json,text/plain+json",
    ],
)
def test_a_body_with_another_media_type_gets_415(alice: Client, media_type: str) -> None:
    response = alice.request("POST", content=b'{"title": "a"}', headers={"Content-Type": media_type})
    assert_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("encoding", ["gzip", "br", "x"])
def test_a_compressed_body_gets_415(alice: Client, encoding: str) -> None:
    response = alice.request("POST", content=b'{"title": "a"}', headers=JSON | {"Content-Encoding": encoding})
    assert_problem(response, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_a_body_without_a_media_type_gets_415(alice: Client) -> None:
    assert_problem(alice.request("POST", content=b'{"title": "a"}'), 415, "UNSUPPORTED_MEDIA_TYPE")


# --- routes and methods


@pytest.mark.parametrize(
    "path",
    [
        "/api",
        "/api/",
        "/api//tasks",
        "/api/x/y",
        "/api/x/tasks/1/2",
        "/nowhere",
        "/health/x",
        "/docs/assets/x",
        "/docs/assets/../../pyproject.toml",
        "/docs/assets/%2e%2e/core.py",
        "/%00",
        "/%FF",
    ],
)
def test_an_unknown_route_gets_404(alice: Client, path: str) -> None:
    target = {"target": path.encode()}
    assert_problem(alice.http.request("GET", "/", extensions=target), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/{user}/tasks", "GET, HEAD, POST"),
        ("/api/{user}/tasks/1", "DELETE, GET, HEAD, PATCH, PUT"),
        ("/", "GET, HEAD"),
        ("/health", "GET, HEAD"),
        ("/health/ready", "GET, HEAD"),
        ("/openapi.json", "GET, HEAD"),
        ("/docs", "GET, HEAD"),
        ("/problems", "GET, HEAD"),
        ("/problems/not-found", "GET, HEAD"),
        ("/docs/assets/swagger-ui.css", "GET, HEAD"),
    ],
)
@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PROPFIND", "DELETE", "POST", "PATCH"])
def test_an_unsupported_method_gets_405_that_names_the_supported_ones(
    alice: Client, path: str, allow: str, method: str
) -> None:
    if method in allow:
        return
    response = alice.request(method, path.format(user=alice.user))
    assert_problem(response, 405, "METHOD_NOT_ALLOWED")
    assert response.headers["allow"] == allow


@pytest.mark.parametrize("byte_range", ["bytes=abc", "bytes=99999999999-", "bytes=0-9", "lines=1-2"])
def test_an_asset_is_sent_whole_despite_a_range(service: Service, byte_range: str) -> None:
    response = service.http.get("/docs/assets/favicon.png", headers={"Range": byte_range})
    assert response.status_code == 200
    assert len(response.content) == int(response.headers["content-length"])


def test_a_connection_stays_usable_after_bad_requests(service: Service, alice: Client) -> None:
    with httpx2.Client(base_url=service.url, verify=False, limits=httpx2.Limits(max_connections=1)) as http:
        client = Client(http, alice.user)
        for body in MALFORMED.values():
            client.request("POST", content=body, headers=JSON)
        assert client.create()
