"""Races requests: they reach the service whole at nearly the same moment.

Requests that threads send whole rarely overlap in the service. Here all but the last byte of each request is sent
first, and then the last bytes in quick succession.
"""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from support.rows import writes_held
from support.service import Client, Service, sign

SECONDS_TO_ARRIVE = 0.05
SECONDS_TO_DECIDE = 0.4


class Call(NamedTuple):
    """A request of `client`. `path` is relative to the client's tasks, unless it begins with `/api/`."""

    client: Client
    method: str
    path: str = ""
    body: object = None
    headers: Mapping[str, str] = {}

    def message(self) -> bytes:
        content = "" if self.body is None else json.dumps(self.body)
        headers = {"Host": "x", "Authorization": f"Bearer {sign(self.client.user)}", **self.headers}
        if content:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(content))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        path = self.path if self.path.startswith("/api/") else self.client.home + self.path
        return f"{self.method} {path} HTTP/1.1\r\n{head}\r\n{content}".encode("latin-1")


def race(calls: Sequence[Call]) -> list[httpx2.Response]:
    """Completes all calls at nearly the same moment, and returns their responses in the same order."""
    with ExitStack() as stack:
        connections = [stack.enter_context(_connect(call.client)) for call in calls]
        messages = [call.message() for call in calls]
        for connection, message in zip(connections, messages, strict=True):
            connection.sendall(message[:-1])
        if len(calls) > 1:
            time.sleep(SECONDS_TO_ARRIVE)
        for connection, message in zip(connections, messages, strict=True):
            connection.sendall(message[-1:])
        return [_read_response(connection, call.method) for connection, call in zip(connections, calls, strict=True)]


def race_behind_a_writer(service: Service, calls: Sequence[Call]) -> list[httpx2.Response]:
    """Races calls of one user, who has written before, while another process writes a task of that user.

    All calls then decide what to do before any of them can write. Without this, most would come one after the other.
    """
    with ThreadPoolExecutor(1) as thread:
        with writes_held(service.url_of_database, calls[0].client.user):
            racing = thread.submit(race, calls)
            time.sleep(SECONDS_TO_DECIDE)
        return racing.result()


def raw_response(*calls: Call) -> bytes:
    """Sends calls of one client through one connection, and returns all that the service sends until it closes it."""
    with _connect(calls[0].client) as connection:
        connection.sendall(b"".join(call.message() for call in calls))
        received = b""
        while part := connection.recv(65536):
            received += part
    return received


def _connect(client: Client) -> socket.socket:
    address = urlsplit(str(client.http.base_url))
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read_response(connection: socket.socket, method: str) -> httpx2.Response:
    response = HTTPResponse(connection, method=method)
    response.begin()
    return httpx2.Response(response.status, headers=response.getheaders(), content=response.read())
