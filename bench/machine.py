"""The machine and the versions that a result was measured with."""

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from servers import FASTIFY

PACKAGES = (
    *("fastapi", "starlette", "pydantic", "sqlmodel", "sqlalchemy", "asyncpg", "pyjwt", "cryptography", "uvicorn"),
    *("httptools", "uvloop", "psycopg", "orjson"),
)


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    name = model[1] if model else platform.machine()
    return f"{os.cpu_count()} cores of {name}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def commit() -> str:
    """Returns the commit that was measured, and says if files differed from it."""
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    return short_commit() + (" with changes" if changed else "")


def short_commit() -> str:
    return _output("git", "rev-parse", "--short", "HEAD")


def versions(*, fastify: bool) -> dict[str, str]:
    """Returns the versions of everything that takes part, except the database."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    found["wrk"] = _output("wrk", "--version").split()[1]
    if fastify:
        found["node"] = _output("node", "--version").removeprefix("v")
        lock = json.loads((FASTIFY / "package-lock.json").read_text())["packages"]
        found |= {
            name: lock[f"node_modules/{name}"]["version"] for name in ("fastify", "@fastify/jwt", "fast-jwt", "pg")
        }
    return found


def quietness() -> str:
    """Returns the load average of the last minute. A value above 1 distorts the figures."""
    return f"load average {os.getloadavg()[0]:.1f}"


def _output(*command: str) -> str:
    # wrk prints its version with exit status 1.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent)
    return done.stdout.strip()
