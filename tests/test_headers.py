"""Headers that every response has, whatever happened: on success, on 304 and on every error."""

from collections.abc import Callable, Iterator

import httpx2
import pytest

from support.service import Client, Json, Service, running

ORIGIN = "https://app.example"
EXPOSED = {"ETag", "Idempotency-Replayed", "Link", "Location", "Taskwell-Revision", "X-Request-ID"}

MILK: Json = {"title": "Buy milk"}
PUT: Json = {"title": "new", "complete": True}
ANY = {"If-Match": "*"}
KEY = {"Idempotency-Key": "k"}
SAME = {"If-None-Match": "*"}

Case = tuple[int, str, str, object, dict[str, str]]

# {id} is a task; {gone} is one that was deleted, and that the key `gone` had made.
SUCCESS: list[Case] = [
    (200, "GET", "", None, {}),
    (200, "GET", "?limit=1", None, {"If-None-Match": '"1"'}),
    (200, "HEAD", "", None, {}),
    (201, "POST", "", MILK, {}),
    (201, "POST", "", MILK, KEY),
    (200, "GET", "/{id}", None, {}),
    (200, "HEAD", "/{id}", None, {}),
    (200, "PUT", "/{id}", PUT, ANY),
    (200, "PATCH", "/{id}", MILK, ANY),
    (204, "DELETE", "/{id}", None, ANY),
    (304, "GET", "", None, SAME),
    (304, "HEAD", "?limit=1", None, SAME),
    (304, "GET", "/{id}", None, SAME),
    (304, "HEAD", "/{id}", None, SAME),
]
ERRORS: list[Case] = [
    (400, "GET", "", None, {"If-None-Match": "x"}),
    (400, "GET", "/{id}", None, {"If-None-Match": "x"}),
    (400, "POST", "", MILK, {"Idempotency-Key": ""}),
    (400, "PATCH", "/{id}", {}, ANY),
    (400, "DELETE", "/{id}", None, {"If-Match": "x"}),
    (401, "GET", "", None, {"Authorization": ""}),
    (401, "PATCH", "/{id}", MILK, {"Authorization": "Bearer x"}),
    (404, "GET", "/{gone}", None, SAME),
    (404, "HEAD", "/{gone}", None, SAME),
    (404, "PUT", "/{gone}", PUT, ANY),
    (405, "PUT", "", PUT, {}),
    (405, "POST", "/{id}", MILK, {}),
    (410, "POST", "", MILK, {"Idempotency-Key": "gone"}),
    (412, "PUT", "/{id}", PUT, {"If-Match": '"0"'}),
    (412, "PATCH", "/{id}", MILK, {"If-Match": '"0"'}),
    (412, "DELETE", "/{id}", None, {"If-Match": '"0"'}),
    (413, "POST", "", {"title": "x" * 70_000}, {}),
    (415, "POST", "", MILK, {"Content-Type": "text/plain"}),
    (422, "GET", "?cursor=x", None, SAME),
    (422, "POST", "", {}, KEY),
    (422, "POST", "", {"title": "other"}, {"Idempotency-Key": "used"}),
    (428, "PUT", "/{id}", PUT, {}),
    (428, "PATCH", "/{id}", MILK, {}),
    (428, "DELETE", "/{id}", None, {}),
]


@pytest.fixture(scope="module")
def service(new_database_url: Callable[[str], str]) -> Iterator[Service]:
    url = new_database_url("sqlite")
    with running("sqlite", DATABASE_URL=url, TASKWELL_CORS_ORIGINS=ORIGIN, TASKWELL_REQUIRE_IF_MATCH="true") as service:
        yield service


def send(client: Client, slash: str, case: Case) -> httpx2.Response:
    """Sends a request of a page, with a request id of its own."""
    status, method, path, body, headers = case
    for key in ("gone", "used"):
        client.request("POST", json=MILK, headers={"Idempotency-Key": key})
    gone = client.request("POST", json=MILK, headers={"Idempotency-Key": "gone"}).json()["id"]
    client.request("DELETE", gone, headers=ANY)
    path, mark, query = path.format(id=client.create()["id"], gone=gone).partition("?")
    sent = {"Origin": ORIGIN, "X-Request-ID": "my-own-id", **headers}
    response = client.request(method, f"{client.home}{path}{slash}{mark}{query}", json=body, headers=sent)
    assert response.status_code == status, response.text
    assert response.headers["x-request-id"] == "my-own-id"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["access-control-allow-origin"] == ORIGIN
    assert response.headers["access-control-allow-credentials"] == "true"
    assert set(response.headers["access-control-expose-headers"].split(", ")) >= EXPOSED
    assert len({name for name, _ in response.headers.multi_items()}) == len(response.headers.multi_items())
    return response


def vary(response: httpx2.Response) -> set[str]:
    return set(response.headers["vary"].split(", "))


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("case", SUCCESS, ids=str)
def test_every_success_has_the_headers_of_its_kind(service: Service, slash: str, case: Case) -> None:
    response = send(service.client(), slash, case)
    assert response.headers["cache-control"] == "private, no-cache"
    assert vary(response) == {"Authorization", "Origin"}
    assert ("etag" in response.headers) == (response.status_code != 204)
    assert ("taskwell-revision" in response.headers) == (case[1] not in {"GET", "HEAD"})
    assert ("location" in response.headers) == (response.status_code == 201)


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: str(case)[:80])
def test_every_error_has_the_headers_of_an_error(service: Service, case: Case) -> None:
    response = send(service.client(), "", case)
    assert response.headers["cache-control"] == "no-store"
    assert "Origin" in vary(response)
    assert ("etag" in response.headers) == (response.status_code == 412)
    assert response.headers.keys().isdisjoint({"taskwell-revision", "location", "link", "idempotency-replayed"})


def test_a_strangers_request_has_the_headers_of_an_error(service: Service) -> None:
    client, stranger = service.client(), service.client()
    for path in (client.home, f"{client.home}/{client.create()['id']}"):
        response = stranger.request("GET", path, headers=SAME | {"Origin": ORIGIN})
        assert (response.status_code, response.headers["cache-control"]) == (403, "no-store")
        assert response.headers["access-control-allow-origin"] == ORIGIN
        assert "etag" not in response.headers


@pytest.mark.parametrize("path", ["", "/{id}"])
def test_head_has_the_headers_of_get(service: Service, path: str) -> None:
    client = service.client()
    path = client.home + path.format(id=client.create()["id"])
    for headers in ({}, SAME, {"If-None-Match": "x"}, {"If-None-Match": '"1"'}):
        sent = {"Origin": ORIGIN, "X-Request-ID": "a", **headers}
        get, head = (client.request(method, path, headers=sent) for method in ("GET", "HEAD"))
        assert head.content == b""
        assert head.status_code == get.status_code
        assert dict(head.headers) | {"date": ""} == dict(get.headers) | {"date": ""}
