"""The example's browser client, in a real Chromium, with a real Better Auth and the real service."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.better_auth import EXAMPLE
from support.browser import run_scenario
from support.npm import require_packages
from support.origins import three_origins

TYPESCRIPT = Path(__file__).parent / "typescript"

Browse = Callable[[str], dict[str, Any]]


@pytest.fixture
def browse(tmp_path: Path, new_database_url: Callable[[str], str]) -> Iterator[Browse]:
    """Runs a scenario of tests/browser/accounts.mjs. Page, Better Auth and API have three hosts of one site."""
    pages = tmp_path / "pages"
    pages.mkdir()
    shutil.copy(EXAMPLE / "client.mjs", pages)
    with three_origins(tmp_path, pages, new_database_url("sqlite")) as origins:

        def browse(scenario: str) -> dict[str, Any]:
            seen: dict[str, Any] = run_scenario(
                "accounts.mjs",
                scenario=scenario,
                app=origins.app,
                auth=origins.auth,
                api=origins.api,
                example=str(EXAMPLE),
            )
            return seen

        yield browse


def test_the_next_user_in_the_same_tab_gets_their_own_tasks(browse: Browse) -> None:
    assert browse("sameTab") == {
        "alice": ["of alice"],
        "signedOut": ["SignedOut", None],
        "stillSignedOut": ["SignedOut", None],
        "bob": ["of bob"],
        "aliceAgain": ["of alice"],
    }


def test_better_auths_own_client_may_sign_users_out_and_in(browse: Browse) -> None:
    assert browse("betterAuthClient") == {
        "signedOut": ["SignedOut", None],
        "bob": ["of bob"],
        "aliceAgain": ["of alice"],
    }


def test_a_sign_out_that_nobody_reported_is_noticed(browse: Browse) -> None:
    assert browse("unwired") == {"bob": ["of bob"], "signedOut": ["SignedOut", None]}


def test_a_page_of_one_user_writes_nothing_after_another_user_signed_in_in_another_tab(browse: Browse) -> None:
    changed = ["UserChanged", None]
    assert browse("anotherTab") == {"first": changed, "second": changed, "reloaded": ["of bob"]}


def test_a_response_that_arrives_after_another_user_signed_in_is_withheld(browse: Browse) -> None:
    assert browse("whileWaiting") == {"late": ["UserChanged", None]}


def test_no_token_is_used_after_better_auth_says_that_the_session_ended(browse: Browse) -> None:
    assert browse("sessionEnds") == {"failures": [["SignedOut", None]] * 2, "callsAfter": 0}


def test_a_token_is_fetched_once_and_renewed_before_it_expires_and_after_a_refusal(browse: Browse) -> None:
    assert browse("renewal") == {
        "statuses": [201, 200],
        "concurrent": 1,
        "after13Minutes": 1,
        "after14Minutes": 2,
        "refusedOnce": ["a"],
        "afterRefusal": 3,
    }


def test_a_failing_auth_server_is_not_taken_for_a_sign_out(browse: Browse) -> None:
    assert browse("authServerFails") == {"failure": ["AuthServerError", 429], "next": []}


def test_headers_are_sent_in_every_form_that_fetch_accepts(browse: Browse) -> None:
    assert browse("headers") == {"read": ["chosen-by-the-page"] * 3}


def _compile(folder: Path, *options: str) -> None:
    require_packages(TYPESCRIPT)
    tsc = TYPESCRIPT / "node_modules" / ".bin" / "tsc"
    strict = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable"]
    done = subprocess.run([tsc, *strict, *options], cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_the_client_type_checks_and_its_declarations_are_up_to_date(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE / "client.mjs", tmp_path)
    _compile(tmp_path, "--allowJs", "--checkJs", "--declaration", "--emitDeclarationOnly", "client.mjs")
    assert (EXAMPLE / "client.d.mts").read_text() == (tmp_path / "client.d.mts").read_text()


def test_a_typescript_application_can_use_the_client(tmp_path: Path) -> None:
    for file in (EXAMPLE / "client.mjs", EXAMPLE / "client.d.mts", TYPESCRIPT / "tasks.mts"):
        shutil.copy(file, tmp_path)
    _compile(tmp_path, "--noEmit", "tasks.mts")
