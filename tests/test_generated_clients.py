"""Python clients that are generated from the OpenAPI document can use every operation of the service."""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from support.document import SNAPSHOT
from support.service import Service, running, sign

PROGRAMS = Path(sys.executable).parent
# 150 characters, but 300 UTF-16 code units.
TITLE = "\U0001f9c0" * 150


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    """One service is enough: the responses are the same on every database."""
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        yield service


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for a generated package `taskwell_client`. The package can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "taskwell_client"]:
        del sys.modules[name]


def generate(program: str, *arguments: str | Path) -> None:
    # openapi-python-client formats its output with ruff.
    environment = os.environ | {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    command = [PROGRAMS / program, "generate", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


def load(module: str) -> Any:
    return importlib.import_module(f"taskwell_client.{module}")


def test_the_client_of_openapi_generator_works(service: Service, generated: Path) -> None:
    options = ["-g", "python", "--package-name", "taskwell_client"]
    only = "apis,models,supportingFiles,apiTests=false,modelTests=false,apiDocs=false,modelDocs=false"
    generate("openapi-generator-cli", *options, "-i", SNAPSHOT, "-o", generated, "--global-property", only)
    client = importlib.import_module("taskwell_client")
    alice = service.client().user

    with client.ApiClient(client.Configuration(host=service.url, access_token=sign(alice))) as connection:
        tasks, health = client.TasksApi(connection), client.HealthApi(connection)
        assert health.health().status == "ok"
        assert health.ready().database == "ok"

        task = tasks.create_task(alice, client.TaskCreate(title=TITLE, description="Oat"))
        assert (task.title, task.created_at.tzinfo) == (TITLE, UTC)
        assert tasks.get_task(alice, task.id) == task
        changed = tasks.patch_task(alice, task.id, client.TaskPatch(complete=True))
        assert (changed.title, changed.description, changed.complete) == (TITLE, "Oat", True)
        assert tasks.patch_task(alice, task.id, client.TaskPatch(description=None)).description is None
        whole = client.TaskUpdate(**{**changed.to_dict(), "title": "Buy bread"})
        replaced = tasks.replace_task(alice, task.id, whole)
        assert (replaced.title, replaced.description) == ("Buy bread", "Oat")
        assert tasks.list_tasks(alice, complete=True, limit=10).tasks == [replaced]
        assert tasks.list_tasks(alice, complete=False).count == 0

        changes = client.SyncApi(connection).list_changes(alice)
        assert [one.title for one in changes.tasks] == ["Buy bread"]

        with pytest.raises(client.exceptions.UnprocessableEntityException) as refused:
            tasks.create_task(alice, client.TaskCreate(title=" "))
        assert [rule.loc[1].actual_instance for rule in refused.value.data.errors] == ["title"]
        with pytest.raises(client.exceptions.ForbiddenException) as refused:
            tasks.list_tasks("somebody-else")
        assert refused.value.data.error_code == "AUTH_FORBIDDEN"
        tasks.delete_task(alice, task.id)
        with pytest.raises(client.exceptions.NotFoundException):
            tasks.get_task(alice, task.id)


def test_the_client_of_openapi_python_client_works(service: Service, generated: Path) -> None:
    package = generated / "taskwell_client"
    generate("openapi-python-client", "--path", SNAPSHOT, "--output-path", package, "--meta=none", "--fail-on-warning")
    client, models = load("client"), load("models")
    alice = service.client().user

    def call(operation: str, *path: object, tag: str = "tasks", **arguments: object) -> Any:
        return load(f"api.{tag}.{operation}").sync(*path, client=connection, **arguments)

    with client.AuthenticatedClient(base_url=service.url, token=sign(alice)) as connection:
        assert call("health", tag="health").status == "ok"
        assert call("ready", tag="health").database == "ok"

        task = call("create_task", alice, body=models.TaskCreate(title=TITLE, description="Oat"))
        assert (task.title, task.created_at.tzinfo) == (TITLE, UTC)
        assert call("get_task", alice, task.id) == task
        changed = call("patch_task", alice, task.id, body=models.TaskPatch(complete=True))
        assert (changed.title, changed.description, changed.complete) == (TITLE, "Oat", True)
        assert call("patch_task", alice, task.id, body=models.TaskPatch(description=None)).description is None
        whole = models.TaskUpdate.from_dict({**changed.to_dict(), "title": "Buy bread"})
        replaced = call("replace_task", alice, task.id, body=whole)
        assert (replaced.title, replaced.description) == ("Buy bread", "Oat")
        assert call("list_tasks", alice, complete=True, limit=10).tasks == [replaced]
        assert call("list_tasks", alice, complete=False).count == 0

        changes = call("list_changes", alice, tag="sync")
        assert [one.title for one in changes.tasks] == ["Buy bread"]

        refused = call("create_task", alice, body=models.TaskCreate(title=" "))
        assert [rule.loc for rule in refused.errors] == [["body", "title"]]
        assert call("list_tasks", "somebody-else").error_code == "AUTH_FORBIDDEN"
        call("delete_task", alice, task.id)
        assert call("get_task", alice, task.id).error_code == "NOT_FOUND"
