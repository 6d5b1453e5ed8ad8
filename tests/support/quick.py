"""A pytest plugin that selects the tests of `make quick`: the fast ones, on SQLite.

It leaves out tests on PostgreSQL, tests that are marked `slow`, and modules that start programs.
"""

import os

import pytest

from support.servers import ENVIRONMENT, WANTED

PROGRAMS = {f"support.{name}" for name in ("better_auth", "npm", "pgbouncer", "postgres", "process")}


@pytest.hookimpl(tryfirst=True)
def pytest_configure() -> None:
    """Prevents the start of database servers, so that tests on PostgreSQL skip if they are selected."""
    os.environ[ENVIRONMENT] = "{}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselects the other tests."""
    quick = [item for item in items if isinstance(item, pytest.Function) and _is_quick(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in quick])
    items[:] = quick


def _is_quick(test: pytest.Function) -> bool:
    parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
    starts_programs = any(getattr(name, "__module__", None) in PROGRAMS for name in vars(test.module).values())
    return not (starts_programs or test.get_closest_marker("slow") or WANTED.keys() & {*map(str, parameters)})
