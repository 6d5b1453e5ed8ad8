"""A pytest plugin that selects the tests of `make quick`: the fast ones, on SQLite.

It leaves out tests on PostgreSQL, tests that are marked `slow`, and modules that start programs.
"""

import os
import subprocess
from types import ModuleType

import pytest

from support.servers import ENVIRONMENT, WANTED

STARTERS = (
    *("better_auth", "browser", "caddy", "nginx", "npm", "pgbouncer", "postgres", "process", "prometheus", "redis"),
    "site",
)
"""Modules of `support` that start programs."""


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
    slow = test.get_closest_marker("slow") or _starts_programs(test.module)
    return not (slow or WANTED.keys() & {*map(str, parameters)})


def _starts_programs(module: ModuleType) -> bool:
    starters = {f"support.{name}" for name in STARTERS}
    return any(value is subprocess or getattr(value, "__module__", None) in starters for value in vars(module).values())
