"""Functions that the tests of conditional requests share."""

import httpx2

from support.service import Client


def etag_of(client: Client, path: int | str) -> str:
    """Returns the ETag of what is at `path`."""
    response = client.request("GET", path)
    assert response.status_code == 200, response.text
    etag: str = response.headers["etag"]
    return etag


def assert_not_modified(response: httpx2.Response, etag: str) -> None:
    """Asserts that the response is a complete 304 (RFC 9110, section 15.4.5)."""
    assert (response.status_code, response.content) == (304, b"")
    assert response.headers["etag"] == etag
    assert response.headers["cache-control"] == "private, no-cache"
    assert response.headers["vary"] == "Authorization"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert len(response.headers["x-request-id"]) == 26
    assert response.headers.keys().isdisjoint({"content-type", "content-length", "transfer-encoding"})
