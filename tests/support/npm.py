"""Installs the npm packages of a folder from its package-lock.json, once per machine."""

import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

OLDEST_NODE = 20
INSTALL_SECONDS = 180
# No package here needs its install scripts. With one retry, an unreachable registry is noticed in seconds, not minutes.
INSTALL = ["npm", "ci", "--ignore-scripts", "--prefer-offline", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]


def require_packages(folder: Path) -> None:
    """Installs the packages of `folder`. If it cannot, it skips the test with the reason; in CI the test fails."""
    if obstacle := _install(folder):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(obstacle)


@functools.cache
def _install(folder: Path) -> str | None:
    """Installs the packages, and returns the reason if it cannot."""
    if obstacle := _node_obstacle():
        return obstacle
    lock = folder / "package-lock.json"
    # The other workers wait here until one has installed the packages.
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        stamp, fingerprint = folder / "node_modules" / ".installed", _fingerprint(lock)
        if stamp.exists() and stamp.read_text() == fingerprint:
            return None
        obstacle = _run_npm(folder)
        if obstacle is None:
            stamp.write_text(fingerprint)
        return obstacle


def _node_obstacle() -> str | None:
    if not (shutil.which("node") and shutil.which("npm")):
        return "no Node: install Node 20 or newer with npm"
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        return f"Node {version} is older than {OLDEST_NODE}"
    return None


def _fingerprint(lock: Path) -> str:
    return f"{platform.system()} {platform.machine()} {hashlib.sha256(lock.read_bytes()).hexdigest()}"


def _run_npm(folder: Path) -> str | None:
    try:
        done = subprocess.run(INSTALL, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"npm ci in {folder.name} took longer than {INSTALL_SECONDS} s"
    errors = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
    return f"npm ci in {folder.name} failed: {' '.join(errors[:3])}" if done.returncode else None
