"""The same as `test_model`, with two processes of `taskwell serve`. They share only the database."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.exploration import explore
from support.process import production, serving


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_two_processes_have_the_same_results_as_one(
    engine: str, new_migrated_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_migrated_url(engine)
    with serving(tmp_path, "serve", "--workers", "2", **production(url)) as server:
        explore(server.client, url, examples=12)
        log = server.log.read_text()
    assert log.count("Started server process") == 2
    assert "Traceback" not in log
