"""Servers of the suite's own.

Database servers refuse to run as root; as root they are therefore started in a user namespace in which they are
somebody else, and, where the kernel forbids those, as `nobody`.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
UNPRIVILEGED_ID = 65534
START_SECONDS = 30


class Daemon:
    """A server on a free port of the loopback interface, with a folder of its own in which `log` is what it says.

    It ends with the thread that started it, so that it does not outlive a run that was killed. `READY` is what it says
    when it serves, and `END` the signal at which it drops everything and cleans up.
    """

    READY: bytes
    END: signal.Signals

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"taskwell-{type(self).__name__.lower()}-"))
        self._as_nobody = sys.platform == "linux" and os.geteuid() == 0 and not _can_unshare()
        self._give_away(self._folder)
        self.log = self._folder / "log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def wait_until_ready(self) -> None:
        """Returns when it serves; several that start at once are waited for one after the other."""
        deadline = time.monotonic() + START_SECONDS
        while self.READY not in self.log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{type(self).__name__} does not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops it at once and removes its files."""
        self._process.send_signal(self.END)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, content: str) -> Path:
        """A file that none but the server can read, as they want it of keys and passwords."""
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(content)
        self._give_away(path)
        return path

    def _give_away(self, path: Path) -> None:
        if self._as_nobody:
            os.chown(path, UNPRIVILEGED_ID, UNPRIVILEGED_ID)

    def _start(self, *command: str) -> None:
        become: dict[str, object] = {}
        if self._as_nobody:
            become = {"user": UNPRIVILEGED_ID, "group": UNPRIVILEGED_ID, "extra_groups": []}
        with self.log.open("wb") as log:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, cwd="/", preexec_fn=self._before, **become
            )

    def _before(self) -> None:
        if sys.platform != "linux":
            return
        # The kernel forgets the second when the first happens after it.
        if os.geteuid() == 0:
            _enter_user_namespace()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, self.END)


@cache
def _can_unshare() -> bool:
    try:
        return subprocess.run(["true"], preexec_fn=_enter_user_namespace, check=False).returncode == 0
    except subprocess.SubprocessError:
        return False


def _enter_user_namespace() -> None:
    """In it this process is not root, though it goes on owning root's files."""
    outside = os.getuid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/uid_map").write_text(f"{UNPRIVILEGED_ID} {outside} 1")
