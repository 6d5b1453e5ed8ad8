"""A download that its client reads as slowly as a test wants, and a user with enough tasks for that."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from urllib.parse import urlsplit

from support.rows import execute
from support.service import Service, sign

# With this many, an export is longer than all buffers between the service and a client together.
MANY = 4000

# The longest that there is: 1,000 characters of four bytes.
LONGEST = "\N{GRINNING FACE}" * 1000

_FILL = """
    INSERT INTO task (user_id, title, description, complete, created_at, updated_at, deleted_at, revision, creation_key)
    WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {number})
    SELECT '{user}', 'Task ' || n, '{description}', n % 2 = 0, {moment}, {moment},
        CASE WHEN n % {every} = 0 THEN {moment} END, n, 'key ' || n
    FROM numbers
"""


def fill(url: str, user: str, number: int = MANY, *, description: str = LONGEST, deleted_every: int = 10) -> None:
    """Gives a new user tasks, some of them deleted."""
    on_sqlite = url.startswith("sqlite")
    moment = "'2026-11-21 10:30:00.123456'" if on_sqlite else "now()"
    execute(url, _FILL.format(number=number, user=user, description=description, moment=moment, every=deleted_every))
    if not on_sqlite:
        # On SQLite, triggers do this.
        execute(url, f"INSERT INTO owner (user_id, revision, epoch) VALUES ('{user}', {number}, 1)")  # noqa: S608


@contextmanager
def download(url: str, user: str, *, accept: str = "*/*", method: str = "GET") -> Iterator[HTTPResponse]:
    """Sends the request for an export, and reads nothing but the response's head. At the end, closes the connection."""
    address = urlsplit(url)
    with socket.socket() as connection:
        # Small, so that the service soon has to wait.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(20)
        connection.connect((address.hostname, address.port))
        connection.sendall(
            f"{method} /api/{user}/export HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n"
            f"Authorization: Bearer {sign(user)}\r\n\r\n".encode()
        )
        response = HTTPResponse(connection, method=method)
        response.begin()
        yield response
        response.close()


def open_streams(service: Service) -> int:
    return len(service.state["streams"])


def wait_until_closed(service: Service, seconds: float = 5) -> None:
    """Waits until the service has no open stream."""
    deadline = time.monotonic() + seconds
    while open_streams(service):
        assert time.monotonic() < deadline, "a stream is still open"
        time.sleep(0.01)
