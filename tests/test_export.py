"""An export has all tasks of a user, those in the trash included, each exactly once, in the format that was asked for."""

import csv
import io
import json
import threading
from collections.abc import Iterator

import httpx2
import pytest

from support.download import MANY, download, fill
from support.etags import etag_of
from support.problem import assert_problem
from support.rows import execute
from support.service import Client, Json, Service
from taskwell.tasks import export

ONCE = pytest.mark.parametrize("service", ["sqlite"], indirect=True, scope="session")

COLUMNS = ["id", "user_id", "title", "description", "complete", "created_at", "updated_at", "etag", "deleted_at"]
NDJSON, CSV = "application/x-ndjson", "text/csv; charset=utf-8; header=present"


def exported(client: Client, accept: str = "*/*", method: str = "GET") -> httpx2.Response:
    response = client.request(method, f"/api/{client.user}/export", headers={"Accept": accept})
    assert response.status_code == 200, response.text
    return response


def tasks_of(client: Client) -> list[Json]:
    return [json.loads(line) for line in exported(client).text.splitlines()]


def rows_of(client: Client) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(exported(client, "text/csv").content.decode(), newline=""), strict=True))


def trash_of(client: Client) -> list[Json]:
    tasks: list[Json] = client.request("GET", f"/api/{client.user}/trash").json()["tasks"]
    return tasks


TEXTS = [
    *(
        "Buy milk",
        "a,b;c\td",
        'say "hi"',
        "'quoted'",
        "two\nlines",
        "two\r\nlines",
        "a\rb",
        "\\n",
        "  inner  blanks  x",
    ),
    *("Stra\N{LATIN SMALL LETTER SHARP S}e", "\N{GRINNING FACE}" * 200, "e\N{COMBINING ACUTE ACCENT}", "x\x01\x1f"),
    *("a\x85b", "a\N{LINE SEPARATOR}b", "a\N{PARAGRAPH SEPARATOR}b", "\N{ZERO WIDTH NO-BREAK SPACE}x", "null", "1e9"),
]


@pytest.fixture(params=[1, 3, 200])
def page_tasks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(export, "PAGE_TASKS", request.param)
    number: int = request.param
    return number


@pytest.mark.usefixtures("page_tasks")
def test_an_export_has_every_task_of_the_list_and_of_the_trash_newest_first(
    service: Service, alice: Client, mallory: Client
) -> None:
    tasks = [alice.create(text, description=text) for text in TEXTS]
    mallory.create("not mine")
    for task in tasks[::4]:
        alice.request("DELETE", task["id"])
    alice.request("PATCH", tasks[1]["id"], json={"complete": True, "description": None})
    alice.request("PATCH", tasks[2]["id"], json={"description": ""})
    erased = tasks[4]["id"]
    execute(
        service.url_of_database,
        f"UPDATE task SET title = '', description = NULL, erased_at = deleted_at WHERE id = {erased}",  # noqa: S608
    )
    live = [
        task | {"etag": etag_of(alice, task["id"]), "deleted_at": None} for task in alice.request("GET").json()["tasks"]
    ]
    deleted = trash_of(alice)
    assert len(live) + len(deleted) == len(tasks) - 1
    expected = sorted([*live, *deleted], key=lambda task: -task["id"])
    assert tasks_of(alice) == expected
    assert [list(task) for task in tasks_of(alice)] == [COLUMNS] * len(expected)
    assert [one["title"] for one in tasks_of(mallory)] == ["not mine"]


@pytest.mark.usefixtures("page_tasks")
def test_a_table_has_the_same_values(alice: Client) -> None:
    for text in TEXTS:
        alice.create(text, description=text, complete=True)
    alice.create("without description")
    alice.request("DELETE", alice.create("deleted", description="")["id"])
    tasks, rows = tasks_of(alice), rows_of(alice)
    assert [list(row) for row in rows] == [COLUMNS] * len(tasks)
    for task, row in zip(tasks, rows, strict=True):
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in task.items()}
        assert row == {name: "" if text == "null" and task[name] is None else text for name, text in texts.items()}


@ONCE
def test_a_table_is_of_rfc_4180(alice: Client) -> None:
    task = alice.create('say "hi", twice')
    assert exported(alice, "text/csv").content.decode() == (
        ",".join(COLUMNS) + "\r\n"
        f'{task["id"]},{alice.user},"say ""hi"", twice",,false,{task["created_at"]},{task["updated_at"]},"""1""",\r\n'
    )


FORMULAS = [
    *(
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        '=HYPERLINK("http://x","y")',
        "=cmd|' /C calc'!A0",
        "\tx",
        "\rx",
        "\nx",
        "\r\n=1",
    ),
    *("\N{FULLWIDTH EQUALS SIGN}1", "\N{FULLWIDTH PLUS SIGN}1", "\N{FULLWIDTH HYPHEN-MINUS}1"),
    *("\N{FULLWIDTH COMMERCIAL AT}x", " =1", "  +1", "\N{NO-BREAK SPACE}=1", "\N{LINE SEPARATOR}=1"),
]
HARMLESS = ["a=1", "1-1", "a@b.example", "'=1", '"=1"', "#1", "x\n=1", "", " ", " x"]


@ONCE
def test_a_spreadsheet_runs_no_cell_of_a_table_as_a_formula(alice: Client) -> None:
    for text in FORMULAS:
        alice.create(text.strip(), description=text)
    rows = rows_of(alice)
    assert [row["description"] for row in reversed(rows)] == [f"'{text}" for text in FORMULAS]
    # White space around a title is removed, so a few of them are harmless.
    assert [row["title"] for row in reversed(rows)] == [
        text.strip() if text.strip() == "x" else f"'{text.strip()}" for text in FORMULAS
    ]


@ONCE
def test_other_cells_of_a_table_stay_as_they_are(alice: Client) -> None:
    for text in HARMLESS:
        alice.create("x", description=text)
    assert [row["description"] for row in reversed(rows_of(alice))] == HARMLESS


@ONCE
@pytest.mark.parametrize("user", ["=1+1", "-x", "@x"])
def test_a_user_id_is_not_run_as_a_formula_either(service: Service, user: str) -> None:
    client = service.client(f"{user}{service.client().user}")
    client.create()
    assert [row["user_id"] for row in rows_of(client)] == [f"'{client.user}"]
    assert [task["user_id"] for task in tasks_of(client)] == [client.user]


@ONCE
def test_a_line_reader_that_knows_more_line_breaks_than_lf_reads_an_export_too(alice: Client) -> None:
    for text in TEXTS:
        alice.create(text, description=text)
    content = exported(alice).content
    assert content.decode().splitlines() == content.decode().removesuffix("\n").split("\n")
    assert content.endswith(b"\n")


@ONCE
def test_times_have_six_decimals_in_both_formats(service: Service, alice: Client) -> None:
    alice.request("DELETE", alice.create()["id"])
    moment = "2026-11-21 10:30:00.000000"
    execute(
        service.url_of_database,
        f"UPDATE task SET created_at = '{moment}', updated_at = '{moment}', deleted_at = '{moment}' "  # noqa: S608
        f"WHERE user_id = '{alice.user}'",
    )
    for task in (*tasks_of(alice), *rows_of(alice)):
        assert [task[name] for name in ("created_at", "updated_at", "deleted_at")] == [
            "2026-11-21T10:30:00.000000Z"
        ] * 3


@pytest.mark.usefixtures("page_tasks")
def test_the_export_of_a_user_without_tasks_is_empty(alice: Client) -> None:
    assert exported(alice).content == b""
    assert exported(alice, "text/csv").content.decode() == ",".join(COLUMNS) + "\r\n"


# --- formats


@ONCE
@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", NDJSON),
        ("", NDJSON),
        ("application/json", NDJSON),
        ("application/*", NDJSON),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", NDJSON),
        ("application/x-ndjson", NDJSON),
        ("application/x-ndjson, text/csv", NDJSON),
        ("text/csv, application/x-ndjson", NDJSON),
        ("text/csv;q=0.5, application/x-ndjson;q=0.6", NDJSON),
        ("text/csv;q=0", NDJSON),
        ("text/csv;q=0, application/x-ndjson;q=0", NDJSON),
        ("text/*, application/*", NDJSON),
        ("text/csv;q=0.5, */*", NDJSON),
        ("nonsense;;,", NDJSON),
        ("text/csv", CSV),
        ("TEXT/CSV; charset=utf-8", CSV),
        ("text/csv;header=present;q=0.1", CSV),
        ("text/*", CSV),
        ("text/csv, */*", CSV),
        ("text/csv, application/json", CSV),
        ("text/csv;q=0.6, application/x-ndjson;q=0.5", CSV),
        ("application/x-ndjson;q=0, text/csv;q=0.1", CSV),
        ("application/x-ndjson;q=0, */*", CSV),
    ],
)
def test_accept_chooses_the_format(alice: Client, accept: str, content_type: str) -> None:
    response = exported(alice, accept)
    assert response.headers["content-type"] == content_type
    ending = "csv" if content_type == CSV else "ndjson"
    assert response.headers["content-disposition"] == f'attachment; filename="tasks.{ending}"'
    assert response.headers["vary"] == "Authorization, Accept"
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "etag" not in response.headers


@ONCE
def test_several_accept_headers_count_as_one(alice: Client) -> None:
    headers = [("Accept", "application/x-ndjson;q=0.5"), ("Accept", "text/csv")]
    token = alice.request("GET").request.headers["authorization"]
    response = alice.http.get(f"/api/{alice.user}/export", headers=[*headers, ("Authorization", token)])
    assert response.headers["content-type"] == CSV


@pytest.mark.usefixtures("page_tasks")
@pytest.mark.parametrize("accept", ["*/*", "text/csv"])
def test_head_has_the_headers_and_no_body(alice: Client, accept: str) -> None:
    for _ in range(4):
        alice.create()
    head, get = exported(alice, accept, "HEAD"), exported(alice, accept)
    assert head.content == b""
    ignored = {"date", "x-request-id", "transfer-encoding"}
    assert [{*one.headers.items()} - {(name, one.headers.get(name)) for name in ignored} for one in (head, get)] == [
        {*get.headers.items()} - {(name, get.headers.get(name)) for name in ignored}
    ] * 2
    assert exported(alice).status_code == 200


@ONCE
def test_an_export_has_no_parameters_and_no_other_methods(alice: Client) -> None:
    path = f"/api/{alice.user}/export"
    problem = assert_problem(alice.request("GET", f"{path}?limit=1"), 422, "VALIDATION_ERROR")
    assert problem["errors"][0]["loc"] == ["query", "limit"]
    assert_problem(alice.request("POST", path), 405, "METHOD_NOT_ALLOWED")
    assert alice.request("GET", f"{path}/").status_code == 200


# --- while others write


def _ids(lines: bytes) -> list[int]:
    return [json.loads(line)["id"] for line in lines.splitlines()]


def _writers(client: Client, ids: list[int], stop: threading.Event) -> Iterator[threading.Thread]:
    """Yields threads that change, delete and restore these tasks, and create others, until `stop`."""

    def write(part: list[int]) -> None:
        while not stop.is_set():
            client.create("new")
            for task_id in part:
                client.request("PATCH", task_id, json={"title": "changed"})
                client.request("DELETE", task_id)
                client.request("POST", f"/api/{client.user}/trash/{task_id}/restore")
                if stop.is_set():
                    break

    for start in range(3):
        yield threading.Thread(target=write, args=[ids[start::3]])


@pytest.mark.slow
def test_each_task_that_exists_during_the_export_comes_exactly_once_whatever_happens_to_it(
    service: Service, alice: Client
) -> None:
    fill(service.url_of_database, alice.user)
    # Some tasks that were exported before a change, some that are exported during one, and some that follow.
    pages = [alice.request("GET", params={"offset": offset}).json()["tasks"] for offset in range(0, MANY, 1000)]
    some = [task["id"] for page in pages for task in page][::40]
    stop = threading.Event()
    with download(service.url, alice.user) as response:
        lines = response.read(100_000)
        writers = list(_writers(alice, some, stop))
        for writer in writers:
            writer.start()
        while part := response.read(200_000):
            lines += part
            # The walk waits for the client, and the writers do not.
            stop.wait(0.02)
        stop.set()
        for writer in writers:
            writer.join()
    ids = _ids(lines)
    assert len(set(ids)) == len(ids) == MANY
    assert ids == sorted(ids, reverse=True)
    states = {bool(json.loads(line)["deleted_at"]) for line in lines.splitlines()}
    assert states == {True, False}
    assert b'"changed"' in lines
