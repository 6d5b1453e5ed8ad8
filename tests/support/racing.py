"""Sends requests that the service completes reading at nearly the same moment.

Requests that tasks or threads send whole rarely overlap in the service. Here each request has a connection of its own,
which first sends all but the last byte. The last bytes follow in quick succession.
"""

import json
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from http.client import HTTPResponse
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx2

from support.service import Client, sign

WAIT_SECONDS = 20


class Request(NamedTuple):
    """A user's request. `path` is the part after the list's path, such as `/5` or `?limit=2`."""

    client: Client
    method: str
    path: str = ""
    body: object = None
    headers: Mapping[str, str] = {}

    def message(self) -> bytes:
        content = b"" if self.body is None else json.dumps(self.body).encode()
        entity = {"Content-Type": "application/json", "Content-Length": str(len(content))} if content else {}
        fields = {"Host": "x", "Authorization": f"Bearer {sign(self.client.user)}", **entity, **self.headers}
        head = [f"{self.method} {self.client.home}{self.path} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
        return "\r\n".join([*head, "", ""]).encode() + content


def race(requests: Sequence[Request]) -> list[httpx2.Response]:
    """Completes all requests at once, and returns their responses."""
    with ExitStack() as stack:
        connections = [stack.enter_context(_connect(request)) for request in requests]
        messages = [request.message() for request in requests]
        for connection, message in zip(connections, messages, strict=True):
            connection.sendall(message[:-1])
        for connection, message in zip(connections, messages, strict=True):
            connection.sendall(message[-1:])
        return [_read(connection, request) for connection, request in zip(connections, requests, strict=True)]


def _connect(request: Request) -> socket.socket:
    address = urlsplit(str(request.client.http.base_url))
    connection = socket.create_connection((address.hostname, address.port), WAIT_SECONDS)
    # Otherwise the system may hold the last byte back until the first part is acknowledged.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read(connection: socket.socket, request: Request) -> httpx2.Response:
    response = HTTPResponse(connection, method=request.method)
    response.begin()
    return httpx2.Response(response.status, headers=response.getheaders(), content=response.read())
