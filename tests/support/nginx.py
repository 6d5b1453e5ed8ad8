"""An nginx for the test run, as a reverse proxy in front of the service."""

import os
import shutil
import signal

import pytest

from support.daemon import Daemon

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
    server {{
        listen 127.0.0.1:{port};
        {location}
    }}
}}
"""


class Nginx(Daemon):
    """An nginx with one `location`; `url` leads to it."""

    READY = b"start worker process"
    END = signal.SIGTERM

    def __init__(self, location: str) -> None:
        program = require_nginx()
        super().__init__()
        self.url = f"http://127.0.0.1:{self.port}"
        configuration = CONFIGURATION.format(folder=self._folder, port=self.port, location=location)
        self._start(program, "-e", "stderr", "-c", str(self._write("nginx.conf", configuration)))
        self.wait_until_ready()


def require_nginx() -> str:
    """Returns the path of nginx. Without it the test is skipped, or fails in continuous integration."""
    # Debian installs it in /usr/sbin, which is not on every user's PATH.
    found = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no nginx: install it (Debian: nginx-light)")
    return found
