"""The code in docs/better-auth.md runs, and the example client keeps its promises."""

import re
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest

from support.better_auth import EXAMPLE, BetterAuth

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "better-auth.md"
SNIPPETS = [textwrap.dedent(code).strip() for code in re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)]
PLUGINS = [snippet for snippet in SNIPPETS if snippet.startswith("jwt({")]


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BetterAuth]:
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        yield auth


@pytest.mark.parametrize("snippet", sorted(set(SNIPPETS) - set(PLUGINS)))
def test_code_in_the_docs_is_part_of_a_file_that_tests_run(snippet: str) -> None:
    files = [EXAMPLE / "auth.mjs", EXAMPLE / "client.mjs", TESTS / "support" / "browser.mjs"]
    assert any(snippet in file.read_text() for file in files)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_each_configuration_of_the_jwt_plugin_in_the_docs_works(plugin: str, tmp_path: Path) -> None:
    with BetterAuth(tmp_path, jwt=plugin) as auth:
        token = auth.token(user := auth.sign_up())
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == user.id
    assert claims.get("user_id") == (user.id if "user_id" in plugin else None)
    assert ("email" in claims) == ("definePayload" not in plugin)
    assert claims["aud"] == ("https://tasks.example.com" if "audience" in plugin else auth.url)


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (EXAMPLE / "package-lock.json").read_text()


class _Api(ThreadingHTTPServer):
    """A task API that refuses the first `refusals` distinct requests once each, with 401."""

    def __init__(self, refusals: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.refusals = refusals
        self.refused: set[tuple[str, str]] = set()
        self.done: list[tuple[str, str]] = []

    def status(self, request: tuple[str, str]) -> int:
        if request not in self.refused and len(self.refused) < self.refusals:
            self.refused.add(request)
            return 401
        self.done.append(request)
        return 200


class _Handler(BaseHTTPRequestHandler):
    server: _Api

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(self.server.status((self.command, self.path)))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET  # noqa: N815 - the name that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def _api(refusals: int) -> Iterator[_Api]:
    with _Api(refusals) as api:
        thread = threading.Thread(target=api.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield api
        api.shutdown()
        thread.join()


@pytest.mark.parametrize(("refusals", "tokens_in_time"), [(0, 1), (2, 2)])
def test_the_client_renews_its_token_before_it_expires_and_after_a_401(
    auth: BetterAuth, refusals: int, tokens_in_time: int
) -> None:
    user = auth.sign_up()
    with _api(refusals) as api:
        seen = auth.browse(user, f"http://127.0.0.1:{api.server_port}")
    assert seen["statuses"] == [200, 200, 200, 200]
    # One token for two concurrent calls, one more after a refusal, and one more when a minute of the 15 is left.
    assert seen["tokensInTime"] == tokens_in_time
    assert seen["tokens"] == tokens_in_time + 1
    tasks = f"/api/{user.id}/tasks"
    expected = {("POST", tasks)} | {("GET", f"{tasks}?{query}") for query in ("complete=false", "limit=1", "limit=2")}
    assert set(api.done) == expected
    assert len(api.done) == len(expected)
