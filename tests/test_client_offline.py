"""@taskwell/client/tanstack-db in a real Chromium: what is written without a network is neither lost nor doubled."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from support.browser import run_scenario, serving_pages
from support.client_package import installed, run
from support.service import running, sign

SCENARIOS = 7


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, new_database_url: Callable[[str], str]) -> Iterator[dict[str, Any]]:
    """The results of the scenarios in tests/browser/offline.mjs. One Chromium runs them all."""
    folder = installed()
    names = [f"user-{uuid4().hex}" for _ in range(SCENARIOS + 1)]
    users = [{"user": name, "token": sign(name)} for name in names]
    with serving_pages(tmp_path_factory.mktemp("pages")) as port:
        # Only a secure context has locks, and localhost is one.
        app = f"http://localhost:{port}"
        with running("sqlite", DATABASE_URL=new_database_url("sqlite"), TASKWELL_CORS_ORIGINS=app) as service:
            yield run_scenario("offline.mjs", app=app, api=service.url, users=users, folder=str(folder))


def test_nothing_is_lost_or_doubled_when_the_tab_is_killed_while_it_sends(seen: dict[str, Any]) -> None:
    new = [f"changed {number}" for number in range(8)] + [f"new {number}" for number in range(8, 13)]
    everything = sorted(["a", "b changed", "c changed elsewhere", "e", *new])
    assert seen["offline"] == {
        "atOnce": len(everything),
        "afterReload": [len(everything), 17, False],
        "wanted": everything,
        "refused": [],
        # What the first tab has carried out is no conflict.
        "conflicts": [],
        "isSame": True,
    }


def test_what_is_written_while_a_creation_is_on_its_way_is_kept(seen: dict[str, Any]) -> None:
    assert seen["creation"] == {
        "during": ["Buy mlik"],
        "before": None,
        "isSameKey": True,
        "hasId": True,
        "row": {"title": "Buy milk", "description": None, "complete": True, "unsent": False},
        "all": ["Buy milk"],
    }


def test_a_write_that_is_refused_is_taken_back_and_reported_and_the_others_arrive(seen: dict[str, Any]) -> None:
    too_long = {"title": "x" * 201, "description": None, "complete": False}
    assert seen["refused"] == {
        "refused": [["create", "VALIDATION_ERROR", too_long], ["patch", "NOT_FOUND", {"complete": True}]],
        "all": ["changed", "one", "two"],
    }


def test_a_conflict_is_merged_or_reported(seen: dict[str, Any]) -> None:
    assert seen["conflict"] == {
        "conflicts": [[{"title": "mine"}, "first", "both"], [{"title": "nothing"}, "left alone", "left"]],
        "refused": [["patch", "PRECONDITION_FAILED", {"title": "refused"}]],
        # Two devices have changed different members.
        "merged": [["Oat", True]],
    }


def test_tabs_share_one_outbox_and_one_of_them_leads_whatever_happens_to_it(seen: dict[str, Any]) -> None:
    # Each new tab is the one that the user looks at, so it takes the lead with a stream of its own.
    assert seen["tabs"] == {"leaders": [1, 2], "perTab": 3, "hung": True, "all": 7}


def test_a_copy_of_before_an_erasure_begins_anew_and_keeps_what_is_not_sent(seen: dict[str, Any]) -> None:
    assert seen["gone"] == {"refused": ["NOT_FOUND"], "all": ["after", "written offline"]}


def test_another_user_sees_nothing_and_sends_nothing_of_the_first(seen: dict[str, Any]) -> None:
    assert seen["users"] == {
        "seenOffline": [],
        "seenByBob": ["of bob"],
        "ofBob": ["of bob"],
        "ofAlice": ["of alice"],
        "now": ["not sent yet", "of alice"],
        "cleared": [],
    }


def test_it_works_without_tabs_and_sends_what_is_too_large_for_one_request_in_parts(
    new_database_url: Callable[[str], str],
) -> None:
    folder = installed()
    with running("sqlite", DATABASE_URL=new_database_url("sqlite")) as service:
        alice = service.client()
        titles = [f"task {number}" for number in range(150)]
        given = {"url": service.url, "user": alice.user, "tokens": [sign(alice.user)], "titles": titles}
        seen = json.loads(run("node", "single.mjs", json.dumps(given), folder=folder))
        assert sorted(alice.titles()) == sorted(titles)
    assert seen.pop("sizes")[:2] == [100, 53]
    assert seen == {
        "found": [[title, False] for title in sorted(titles)],
        "refused": ["VALIDATION_ERROR"] * 3,
        "error": None,
    }
