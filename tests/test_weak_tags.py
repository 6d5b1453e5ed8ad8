"""Weak entity tags in the conditions of a write."""

import pytest

from support.service import Client

WRITES: list[tuple[str, object]] = [
    ("PUT", {"title": "new", "complete": True}),
    ("PATCH", {"title": "new"}),
    ("DELETE", None),
]


@pytest.mark.parametrize(("method", "body"), WRITES)
def test_a_write_does_not_happen_if_its_if_none_match_names_the_tag_weakly(
    method: str, body: object, alice: Client
) -> None:
    task = alice.create()
    etag = alice.request("GET", task["id"]).headers["ETag"]
    for tags in (f"W/{etag}", f'"other", W/{etag}'):
        response = alice.request(method, task["id"], json=body, headers={"If-None-Match": tags})
        assert (response.status_code, response.headers["ETag"]) == (412, etag)
        assert response.json()["current"] == task
