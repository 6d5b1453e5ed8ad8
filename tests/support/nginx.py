"""An nginx for the test run, as a reverse proxy in front of the service, with the site that operators copy."""

import os
import re
import shutil
import signal

import pytest

from support.certificates import Authority
from support.daemon import Daemon
from support.documents import ROOT
from support.ports import free_port

SITE = (ROOT / "deploy/vm/nginx.conf").read_text(encoding="utf-8")

CONFIGURATION = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {site}
}}
"""


class Nginx(Daemon):
    """An nginx with our site in front of the service at an address such as `http://127.0.0.1:8000`; `url` leads to it.

    With an authority, it serves at `url` with TLS, and redirects from `plain_url`. Without, it serves at `url` alone.
    """

    READY = b"start worker process"
    END = signal.SIGTERM

    def __init__(self, service: str, authority: Authority | None = None, *, site: str = SITE) -> None:
        program = require_nginx()
        super().__init__()
        plain = free_port()
        self.url = f"http{'s' if authority else ''}://127.0.0.1:{self.port}"
        self.plain_url = f"http://127.0.0.1:{plain}"
        here = re.sub(r"listen \[::\].*", "", site).replace("127.0.0.1:8000", service.removeprefix("http://"))
        here = here.replace("listen 80;", f"listen 127.0.0.1:{plain};")
        here = self._encrypted(here, authority) if authority else self._unencrypted(here)
        configuration = CONFIGURATION.format(folder=self._folder, site=here)
        self._start(program, "-e", "stderr", "-c", str(self._write("nginx.conf", configuration)))
        self.wait_until_ready()

    def _encrypted(self, site: str, authority: Authority) -> str:
        certificate, key = authority.certify()
        site = re.sub(r"(ssl_certificate) .*", rf"\1 {self._write('certificate.pem', certificate)};", site)
        site = re.sub(r"(ssl_certificate_key) .*", rf"\1 {self._write('key.pem', key)};", site)
        return site.replace("listen 443", f"listen 127.0.0.1:{self.port}")

    def _unencrypted(self, site: str) -> str:
        site = re.sub(r"ssl_certificate.*", "", site)
        return site.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{self.port};")


def require_nginx() -> str:
    """Returns the path of nginx. Without it the test is skipped, or fails in continuous integration."""
    # Debian installs it in /usr/sbin, which is not on every user's PATH.
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no nginx: install it (Debian: nginx-light)")
    return found
