"""`taskwell distribute` changes nothing unless it was confirmed and can do all of it. tests/test_citus.py has the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.process import run
from support.rows import execute

KEY = """
SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'task'::regclass AND contype = 'p'
"""


@pytest.mark.parametrize(
    ("options", "status", "explanation"),
    [
        ([], 2, "would be distributed; add --yes"),
        (["--yes"], 1, "The database has no extension citus; nothing was changed."),
    ],
)
def test_a_database_without_citus_stays_as_it_is(
    options: list[str], status: int, explanation: str, new_migrated_url: Callable[[str], str], tmp_path: Path
) -> None:
    url = new_migrated_url("postgres")
    done = run(tmp_path, "distribute", *options, DATABASE_URL=url)
    assert done.returncode == status
    assert explanation in done.stderr
    assert execute(url, KEY) == [("PRIMARY KEY (id)",)]


def test_a_database_that_is_not_migrated_is_refused(new_database_url: Callable[[str], str], tmp_path: Path) -> None:
    done = run(tmp_path, "distribute", "--yes", DATABASE_URL=new_database_url("postgres"))
    assert done.returncode == 1
    assert "Run: taskwell migrate" in done.stderr


def test_a_file_cannot_be_distributed(tmp_path: Path) -> None:
    done = run(tmp_path, "distribute", "--yes", DATABASE_URL=f"sqlite:///{tmp_path}/taskwell.db")
    assert done.returncode == 2
    assert "not SQLite" in done.stderr
