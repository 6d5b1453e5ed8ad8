"""The code in docs/better-auth.md runs, and the example client keeps its promises."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest

from support.better_auth import EXAMPLE, BetterAuth

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "better-auth.md"
# The OAuth provider cannot be installed beside the newest Better Auth, so its snippet is not `js`.
SNIPPETS = [textwrap.dedent(code).strip() for code in re.findall(r"```js\n(.*?)```", PAGE.read_text(), re.DOTALL)]
PLUGINS = [snippet for snippet in SNIPPETS if snippet.startswith("jwt({")]


@pytest.fixture(scope="module")
def auth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BetterAuth]:
    with BetterAuth(tmp_path_factory.mktemp("better-auth")) as auth:
        yield auth


def _unindented(code: str) -> str:
    return "\n".join(line.strip() for line in code.splitlines())


@pytest.mark.parametrize("snippet", sorted(set(SNIPPETS) - set(PLUGINS)))
def test_code_in_the_docs_is_part_of_a_file_that_tests_run(snippet: str) -> None:
    files = [*EXAMPLE.glob("*.mjs"), TESTS / "browser" / "accounts.mjs", TESTS / "typescript" / "tasks.mts"]
    assert any(_unindented(snippet) in _unindented(file.read_text()) for file in files)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_each_configuration_of_the_jwt_plugin_in_the_docs_works(plugin: str, tmp_path: Path) -> None:
    with BetterAuth(tmp_path, jwt=plugin) as auth:
        token = auth.token(user := auth.sign_up())
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["sub"] == user.id
    assert claims.get("user_id") == (user.id if "user_id" in plugin else None)
    assert ("email" in claims) == ("definePayload" not in plugin)
    assert claims["aud"] == ("https://tasks.example.com" if "audience" in plugin else auth.url)
