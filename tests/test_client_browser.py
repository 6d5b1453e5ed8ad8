"""@taskwell/client in a real Chromium, bundled into a page, with a real Better Auth and the real service."""

from collections.abc import Callable
from pathlib import Path

from support.browser import run_scenario
from support.client_package import installed
from support.origins import three_origins


def test_a_page_watches_the_tasks_of_the_user_who_is_signed_in(
    tmp_path: Path, new_database_url: Callable[[str], str]
) -> None:
    folder = installed()
    pages = tmp_path / "pages"
    pages.mkdir()
    with three_origins(tmp_path, pages, new_database_url("sqlite")) as origins:
        seen = run_scenario("package.mjs", app=origins.app, auth=origins.auth, api=origins.api, folder=str(folder))
    # The stream ends when it meets Bob, or before, when nobody is signed in.
    assert seen.pop("stream") in {"UserChanged", "SignedOut"}
    # One for nobody, for Alice, for Bob, and for the page that is like React Native. The stream can need another one.
    assert 4 <= seen.pop("tokens") <= 5
    assert seen == {
        "nobody": "SignedOut",
        "alice": ["changed by alice"],
        "late": "UserChanged",
        "bob": ["of bob"],
        "reactNative": {
            "titles": [["Buy bread", "of bob"], ["Buy bread", "of bob"]],
            "errors": ["PreconditionFailed", "StreamsUnsupported", "AbortError"],
            "changes": 2,
            "exported": 2,
        },
        "complaints": [],
    }
