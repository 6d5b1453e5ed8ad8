"""The units of systemd that operators copy, and their sandbox, without systemd.

The kernel keeps a service's files from being written, as ProtectSystem=strict and StateDirectory= ask, and its memory
from being written and executed, as MemoryDenyWriteExecute= asks. systemd's own check finds mistakes in the other lines.
"""

import ctypes
import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.daemon import can_unshare
from support.documents import ROOT
from support.process import COMMAND

UNITS = ROOT / "deploy/vm"

PR_SET_NO_NEW_PRIVS = 38
# Linux 6.3 and newer; an older one ignores it.
PR_SET_MDWE = 65

# Makes a folder read-only, and the root, but not the folder of the state.
_STRICT = """
mount --bind "$1" "$1"
mount --bind "$1/state" "$1/state"
mount -o remount,bind,ro "$1"
mount -o remount,bind,ro /
cd "$1/state"
umask 077
shift
exec "$@"
"""


def lines(unit: str, name: str) -> list[str]:
    """Returns the values of a setting in a unit, such as `ExecStart`, with `%i` replaced by the instance."""
    template, _, instance = unit.removesuffix(".service").partition("@")
    text = (UNITS / f"{template}{'@' if instance else ''}.service").read_text(encoding="utf-8")
    return [value.replace("%i", instance) for value in re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)]


def command(unit: str) -> list[str]:
    """Returns the command line of a unit, with the installed `taskwell` in the place of the one in /opt."""
    (line,) = lines(unit, "ExecStart")
    return shlex.split(line.replace("/opt/taskwell/bin/taskwell", str(COMMAND)))


def strict(folder: Path, command: list[str]) -> list[str]:
    """Returns the command line that runs `command` where only the folder `state` in `folder` can be written."""
    if not can_unshare() or not shutil.which("unshare"):
        pytest.skip("the kernel does not let this process mount")
    (folder / "state").mkdir(exist_ok=True)
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    return [*namespace, "sh", "-euc", _STRICT, "sh", str(folder), *command]


def confined() -> Callable[[], None]:
    """Returns what a new process calls to give up new privileges, and memory that is written and executed."""
    library = ctypes.CDLL(None)

    def confine() -> None:
        library.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        library.prctl(PR_SET_MDWE, 1, 0, 0, 0)

    return confine


def require_systemd_analyze() -> str:
    """Returns the path of systemd-analyze. Without it the test is skipped, or fails in continuous integration."""
    found = shutil.which("systemd-analyze")
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no systemd-analyze: install it (Debian: systemd)")
    return found
