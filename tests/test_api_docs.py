"""The examples of docs/api.md are what a client can send and receive, and its code works."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import jsonschema_rs
import pytest

from support.browser import SCENARIOS
from support.document import DOCUMENT
from support.documents import blocks
from support.npm import require_packages
from support.service import Client, Json, running, sign

PAGE = "docs/api.md"
SECONDS = 30


@pytest.fixture
def alice(new_database_url: Callable[[str], str]) -> Iterator[Client]:
    """The first user of a new service, so that the ids of her tasks begin with 1."""
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service.client("alice")


def example(member: str) -> Json:
    """Returns the JSON example that begins with this member."""
    (found,) = [code for code in blocks(PAGE, "json") if code.startswith(f'{{"{member}"')]
    decoded: Json = json.loads(found)
    return decoded


@pytest.mark.parametrize(
    ("beginning", "schema"),
    [
        ('{"id": 1,', "TaskResponse"),
        ('{"operations": ', "BatchRequest"),
        ('{"tasks": [{"id": 1, "user_id": "user_abc123"', "TrashResponse"),
        ('{"tasks": [{"id": 1, "user_id": "alice"', "ChangesResponse"),
        ('{"detail": "operations 3', "Problem"),
        ('{"detail": "title: ', "Problem"),
    ],
)
def test_an_example_has_the_form_that_the_openapi_document_describes(beginning: str, schema: str) -> None:
    (found,) = [code for code in blocks(PAGE, "json") if code.startswith(beginning)]
    reference = {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    validator = jsonschema_rs.Draft202012Validator(reference, validate_formats=True)
    assert not [error.message for error in validator.iter_errors(json.loads(found))]


def test_the_batch_gets_the_documented_results(alice: Client) -> None:
    for title in ("Buy milk", "Buy eggs", "Buy cheese"):
        alice.create(title)
    batch = example("operations")
    batch["operations"][1]["if_match"] = alice.request("GET", 1).headers["etag"]
    results = alice.request("POST", "batch", json=batch).json()["results"]

    documented = example("results")["results"]
    assert [each["status"] for each in results] == [each["status"] for each in documented]
    for result, expected in zip(results, documented, strict=True):
        names = (expected["task"] or {}).keys() & {"id", "title"}
        assert {name: result["task"][name] for name in names} == {name: expected["task"][name] for name in names}


def test_a_batch_that_names_a_missing_task_gets_the_documented_error(alice: Client) -> None:
    operations = [{"op": "create", "task": {"title": "a"}}] * 3 + [{"op": "delete", "id": 9}]
    problem = alice.request("POST", "batch", json={"operations": operations}).json()
    documented = json.loads(next(code for code in blocks(PAGE, "json") if "operations 3 id" in code))
    for name in ("detail", "error_code", "errors"):
        assert problem[name] == documented[name]


def run_with(client: Client, beginning: str, script: str) -> Any:
    """Runs the code of the page that begins this way, then `script`, in Node. Returns what it prints as JSON."""
    require_packages(SCENARIOS)
    (code,) = [code for code in blocks(PAGE, "js") if code.startswith(beginning)]
    api = """
        const [origin, token] = process.argv.slice(1)
        const api = (path, options) =>
          fetch(origin + path, { ...options, headers: { ...options?.headers, Authorization: `Bearer ${token}` } })
    """
    command = ["node", "--input-type=module", "--eval", f"{api}\n{code}\n{script}"]
    arguments = [str(client.http.base_url), sign(client.user)]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_changes_at_the_same_time_lose_nothing(alice: Client) -> None:
    alice.create()
    seen = run_with(
        alice,
        "async function change(",
        """
        const mark = (letter) => change("/api/alice/tasks/1", (task) => ({ description: (task.description ?? "") + letter }))
        const responses = await Promise.all([..."abcdef"].map(mark))
        console.log(JSON.stringify(responses.map((response) => response.status)))
        """,
    )
    assert seen == [200] * 6
    assert sorted(alice.request("GET", 1).json()["description"]) == sorted("abcdef")


def test_a_copy_follows_changes_deletions_and_an_erasure(alice: Client) -> None:
    for title in ("a", "b"):
        alice.create(title)
    seen = run_with(
        alice,
        "async function update(",
        """
        const copy = { tasks: new Map() }
        const titles = async () => (await update(copy), [...copy.tasks.values()].map(({ title }) => title))
        const create = (title) => api("/api/alice/tasks", { method: "POST", body: JSON.stringify({ title }),
          headers: { "Content-Type": "application/json" } })
        const seen = [await titles()]
        await api("/api/alice/tasks/1", { method: "DELETE" })
        await create("c")
        seen.push(await titles())
        await api("/api/alice?confirm=alice", { method: "DELETE" })
        await create("d")
        seen.push(await titles())
        console.log(JSON.stringify(seen))
        """,
    )
    assert seen == [["a", "b"], ["b", "c"], ["d"]]
