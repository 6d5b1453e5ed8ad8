"""Builds and packs clients/typescript, and runs programs in a folder in which the package is installed."""

import fcntl
import hashlib
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.better_auth import EXAMPLE
from support.documents import ROOT, blocks
from support.npm import require_packages

PACKAGE = ROOT / "clients" / "typescript"
PROGRAMS = Path(__file__).parents[1] / "client"
TOOLS = PACKAGE / "node_modules" / ".bin"
FOLDER = PACKAGE / "node_modules" / ".installed-package"
DOCUMENTS = ["clients/typescript/README.md", "docs/front-end.md"]
# What applications install besides.
PEERS = ["@tanstack", "@types", "fake-indexeddb", "react"]
WAIT_SECONDS = 60


def run(*command: str | Path, folder: Path) -> str:
    """Runs a command, which must succeed, and returns its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed() -> Path:
    """Returns a folder with the package, as `npm install` puts it there, and the compiled programs of tests/client.

    The code of the package's README and of docs/front-end.md is compiled, too.
    """
    require_packages(PACKAGE)
    require_packages(EXAMPLE)
    stamp, fingerprint = FOLDER / "stamp", _fingerprint()
    # The other workers wait here until one has built the package.
    with (PACKAGE / "package.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == fingerprint):
            shutil.rmtree(FOLDER, ignore_errors=True)
            _build()
            stamp.write_text(fingerprint)
    return FOLDER


def _fingerprint() -> str:
    files = [*PACKAGE.glob("src/**/*.ts"), *PACKAGE.glob("*.*"), *PROGRAMS.iterdir(), *map(ROOT.joinpath, DOCUMENTS)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(files))).hexdigest()


def _build() -> None:
    packages = FOLDER / "node_modules"
    (packages / "@taskwell").mkdir(parents=True)
    run("npm", "run", "build", folder=PACKAGE)
    run("npm", "pack", "--ignore-scripts", "--pack-destination", FOLDER, folder=PACKAGE)
    (archive,) = FOLDER.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(FOLDER, filter="data")
    (FOLDER / "package").rename(packages / "@taskwell" / "client")
    for file in PROGRAMS.iterdir():
        shutil.copy(file, FOLDER)
    (FOLDER / "types").mkdir()
    (FOLDER / "types.ts").rename(FOLDER / "types" / "types.ts")
    shown = [code for document in DOCUMENTS for code in blocks(document, "ts")]
    for number, code in enumerate(shown):
        (FOLDER / "types" / f"shown-{number}.ts").write_text(code, encoding="utf-8")
    (packages / "better-auth").symlink_to(EXAMPLE / "node_modules" / "better-auth", target_is_directory=True)
    for name in PEERS:
        (packages / name).symlink_to(PACKAGE / "node_modules" / name, target_is_directory=True)
    run(TOOLS / "tsc", folder=FOLDER)
    # The declarations of Better Auth need packages that a front end does not have.
    run(TOOLS / "tsc", "--project", "types.json", folder=FOLDER)


@dataclass
class Program:
    """A scenario that runs."""

    process: "subprocess.Popen[str]"

    def heard(self) -> Any:
        """Returns the next result."""
        assert self.process.stdout
        alarm = threading.Timer(WAIT_SECONDS, self.process.kill)
        alarm.start()
        line = self.process.stdout.readline()
        alarm.cancel()
        assert line, "the program has ended, or does not get done"
        return json.loads(line)

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()


@contextmanager
def scenario(program: str, name: str, **arguments: object) -> Iterator[Program]:
    """Starts a scenario of a program of tests/client."""
    command: list[str | Path] = ["node", installed() / "compiled" / f"{program}.js", name, json.dumps(arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def outcome(program: str, name: str, **arguments: object) -> Any:
    """Runs a scenario and returns its result."""
    with scenario(program, name, **arguments) as running:
        return running.heard()
