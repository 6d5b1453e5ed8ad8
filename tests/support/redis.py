"""A Redis for the test run."""

import os
import shutil
import signal

import pytest

from support.certificates import Authority
from support.daemon import Daemon

PASSWORD = "a-password-of-the-test-suite"


class Redis(Daemon):
    """A Redis with a password; `url` leads to it. It keeps nothing on disk. With an authority, it accepts only TLS."""

    READY = b"Ready to accept connections"
    END = signal.SIGKILL

    def __init__(self, authority: Authority | None = None) -> None:
        self._program = require_redis()
        super().__init__()
        self._settings = f'bind 127.0.0.1\nrequirepass {PASSWORD}\nsave ""\ndir {self._folder}\n'
        if authority:
            certificate, key = (self._write(f"redis.{number}", text) for number, text in enumerate(authority.certify()))
            self._settings += f"port 0\ntls-port {self.port}\ntls-auth-clients no\n"
            self._settings += f"tls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {certificate}\n"
        else:
            self._settings += f"port {self.port}\n"
        self.url = f"{'rediss' if authority else 'redis'}://:{PASSWORD}@127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        """Starts it, empty. After `kill`, it starts on the same port again."""
        self._start(self._program, str(self._write("redis.conf", self._settings)))
        self.wait_until_ready()

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal: SIGSTOP makes it hang until SIGCONT."""
        self._process.send_signal(number)


def require_redis() -> str:
    """Returns the path of Redis. Without it the test is skipped, or fails in continuous integration."""
    found = shutil.which("redis-server")
    if not found:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Redis: install it (Debian: redis-server)")
    return found
