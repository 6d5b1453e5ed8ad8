"""A PgBouncer for the test run, in front of a PostgreSQL server, configured like a hosting provider's pooler.

In transaction mode, each transaction can run on a different server connection, and here it nearly always does. Debian's
version does not track prepared statements, and it refuses unknown start-up parameters.
"""

import os
import shutil
import signal
from pathlib import Path

from support.certificates import Authority
from support.daemon import Daemon
from support.postgres import PASSWORD, USER, PostgresServer, verifying_url

CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={port_of_server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =

pool_mode = transaction
default_pool_size = 8
min_pool_size = 4
server_round_robin = 1
max_client_conn = 1000
# By default, a failed login to the server delays the next one by 15 seconds.
server_login_retry = 1

auth_type = scram-sha-256
auth_file = {users}

client_tls_sslmode = require
client_tls_cert_file = {certificate}
client_tls_key_file = {key}

server_tls_sslmode = verify-full
server_tls_ca_file = {authority}

log_connections = 0
log_disconnections = 0
"""


class PgBouncer(Daemon):
    """A pooler in transaction mode for every database of `server`; `url` leads to the maintenance database."""

    READY = b"process up"
    END = signal.SIGTERM

    def __init__(self, program: Path, server: PostgresServer, authority: Authority) -> None:
        super().__init__()
        certificate, key = authority.certify()
        trusted = self._write("authority.crt", authority.certificate)
        configuration = CONFIGURATION.format(
            port=self.port,
            port_of_server=server.port,
            # The plain password, not a SCRAM verifier, so that PgBouncer can also log in to the server with SCRAM.
            users=self._write("users", f'"{USER}" "{PASSWORD}"\n'),
            certificate=self._write("pooler.crt", certificate),
            key=self._write("pooler.key", key),
            authority=trusted,
        )
        self.url = verifying_url(self.port, str(trusted))
        self._start(str(program), str(self._write("pgbouncer.ini", configuration)))


def find_program() -> Path | None:
    """Returns the path of PgBouncer, or None. Debian installs it in /usr/sbin, which is not on every user's PATH."""
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
    return Path(found) if found else None
