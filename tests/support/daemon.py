"""Starts and stops servers for the test run.

Database servers refuse to run as root. If the tests run as root, the servers run in a user namespace under another user
id or, where the kernel forbids user namespaces, as `nobody`.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from random import Random

from support.ports import free_port
from support.proc import children_of, kill

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
UNPRIVILEGED_ID = 65534
START_SECONDS = 30


class Daemon:
    """A server on a free port of the loopback interface, with its own folder, in which `log` is its output.

    The server ends with the thread that started it, so it does not outlive a killed test run. It writes `READY` to the
    log when it serves. On the signal `END` it stops at once and cleans up.
    """

    READY: bytes
    END: signal.Signals

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"taskwell-{type(self).__name__.lower()}-"))
        self._as_nobody = sys.platform == "linux" and os.geteuid() == 0 and not can_unshare()
        self._hand_over(self._folder)
        self.log = self._folder / "log"
        self.port = free_port()

    def wait_until_ready(self) -> None:
        """Waits until the server serves. Servers can start at the same time and then be waited for one by one."""
        deadline = time.monotonic() + START_SECONDS
        while self.READY not in self.log.read_bytes():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{type(self).__name__} does not start:\n{self.log.read_text()}")
            time.sleep(0.02)

    def kill(self) -> None:
        """Kills all processes of the server at the same moment, as a crash of the machine does."""
        # A server that is still there would replace the others.
        self._process.send_signal(signal.SIGSTOP)
        kill(children_of(self._process.pid))
        self._process.kill()
        self._process.wait()

    def kill_a_child(self, random: Random) -> None:
        """Kills one of its processes, as the kernel does when it runs out of memory. PostgreSQL then restarts the rest."""
        kill([random.choice(children_of(self._process.pid))])

    def recover(self) -> None:
        """Starts the server again, on the same port, and waits until it serves."""
        self._start(*self._command)
        self.wait_until_ready()

    def stop(self) -> None:
        """Stops the server at once and removes its files."""
        self._process.send_signal(self.END)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _write(self, name: str, content: str) -> Path:
        """Writes a file that only the server can read, as database servers require for keys and passwords."""
        path = self._folder / name
        path.touch(mode=0o600)
        path.write_text(content)
        self._hand_over(path)
        return path

    def _hand_over(self, path: Path) -> None:
        if self._as_nobody:
            os.chown(path, UNPRIVILEGED_ID, UNPRIVILEGED_ID)

    def _start(self, *command: str) -> None:
        self._command = command
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
        # In this order, because entering a user namespace clears the parent-death signal.
        if os.geteuid() == 0:
            enter_user_namespace()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, self.END)


@cache
def can_unshare() -> bool:
    """Returns whether the kernel allows user namespaces."""
    try:
        return subprocess.run(["true"], preexec_fn=enter_user_namespace, check=False).returncode == 0
    except subprocess.SubprocessError:
        return False


def enter_user_namespace() -> None:
    """Gives this process another user id than root, while it still owns root's files."""
    outside = os.getuid()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/uid_map").write_text(f"{UNPRIVILEGED_ID} {outside} 1")
