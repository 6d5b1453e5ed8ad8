"""A Caddy for the test run, as a reverse proxy in front of the service, with the Caddyfile that operators copy."""

import os
import shutil
import signal

import pytest

from support.certificates import Authority
from support.daemon import Daemon
from support.documents import ROOT
from support.ports import free_port

SITE = (ROOT / "deploy/vm/Caddyfile").read_text(encoding="utf-8")

OPTIONS = """{{
    admin off
    skip_install_trust
    storage file_system {folder}/storage
    http_port {http}
    https_port {https}
"""


class Caddy(Daemon):
    """A Caddy with our site in front of the service at an address such as `http://127.0.0.1:8000`; `url` leads to it.

    With an authority, it serves at `url` with TLS, and redirects from `plain_url`. Without, it serves at `url` alone.
    """

    READY = b"serving initial configuration"
    # On SIGTERM, it waits for open streams.
    END = signal.SIGKILL

    def __init__(self, service: str, authority: Authority | None = None, *, site: str = SITE) -> None:
        program = require_caddy()
        super().__init__()
        other = free_port()
        self.url = f"http{'s' if authority else ''}://127.0.0.1:{self.port}"
        self.plain_url = f"http://127.0.0.1:{other}"
        http, https = (other, self.port) if authority else (self.port, other)
        options = OPTIONS.format(folder=self._folder, http=http, https=https)
        here = site.replace("{\n", options, 1).replace("127.0.0.1:8000", service.removeprefix("http://"))
        address = f"127.0.0.1 {{\n{self._certificate(authority)}" if authority else "http://127.0.0.1 {"
        here = here.replace("tasks.example {", f"{address}\nbind 127.0.0.1")
        configuration = self._write("Caddyfile", here)
        # Otherwise it keeps a copy of its configuration in the user's home.
        self._start(
            "env",
            f"XDG_CONFIG_HOME={self._folder}",
            program,
            "run",
            "--adapter",
            "caddyfile",
            "--config",
            str(configuration),
        )
        self.wait_until_ready()

    def _certificate(self, authority: Authority) -> str:
        certificate, key = authority.certify()
        return f"tls {self._write('certificate.pem', certificate)} {self._write('key.pem', key)}"


def require_caddy() -> str:
    """Returns the path of Caddy. Without it the test is skipped, or fails in continuous integration."""
    found = shutil.which("caddy")
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no caddy: install it (Debian: caddy)")
    return found
