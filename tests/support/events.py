"""A client of a stream of events, on a raw socket: it sees every byte, and reads only when it is told to."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import Empty, Queue
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from support.service import Client, Json, sign

WAIT_SECONDS = 10


@dataclass
class Event:
    """An event, with its data parsed, and the last event ID that the client then has."""

    name: str
    data: Json
    id: str | None


@dataclass
class Stream:
    """An open stream. A thread reads it, and `next` returns its events in order."""

    connection: socket.socket
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    last_id: str | None = None
    comments: int = 0
    retry: int | None = None
    is_complete: bool = False
    ended: threading.Event = field(default_factory=threading.Event)
    has_begun: threading.Event = field(default_factory=threading.Event)
    _events: "Queue[Event]" = field(default_factory=Queue)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection, as a client does that is not interested any more."""
        # The server may have closed it already.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.connection.close()

    def begun(self) -> Self:
        """Waits for the first token, behind which nothing is missed."""
        assert self.has_begun.wait(WAIT_SECONDS), (self.status, self.body)
        return self

    def next(self, seconds: float = WAIT_SECONDS) -> Event:
        """Waits for the next event."""
        return self._events.get(timeout=seconds)

    def changes(self, number: int) -> list[Event]:
        """Waits for this many changes, and returns them without other events."""
        found: list[Event] = []
        while len(found) < number:
            event = self.next()
            if event.name in ("task", "deleted"):
                found.append(event)
        return found

    def waiting(self) -> list[Event]:
        """Returns the events that have arrived."""
        found: list[Event] = []
        while True:
            try:
                found.append(self._events.get_nowait())
            except Empty:
                return found

    def _read(self) -> None:
        try:
            with self.connection.makefile("rb") as reader:
                self.status = int(reader.readline().split()[1])
                while line := reader.readline().strip():
                    name, _, value = line.decode().partition(": ")
                    self.headers[name] = value
                if self.status != 200:
                    self.body = reader.read(int(self.headers["content-length"]))
                    return
                rest = b""
                while size := int(reader.readline() or b"-1", 16):
                    if size < 0:
                        return
                    *blocks, rest = (rest + reader.read(size)).split(b"\n\n")
                    reader.readline()
                    for block in blocks:
                        self._take(block.decode())
                self.is_complete = True
        except (OSError, LookupError, ValueError):
            # The service was killed, perhaps in the middle of a head.
            pass
        finally:
            self.ended.set()
            self.has_begun.set()

    def _take(self, block: str) -> None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        self.comments += "" in fields
        self.last_id = fields.get("id", self.last_id)
        self.retry = int(fields["retry"]) if "retry" in fields else self.retry
        if fields.get("data"):
            self._events.put(Event(fields["event"], json.loads(fields["data"]), self.last_id))
        if self.last_id:
            self.has_begun.set()


def request(client: Client, last_id: str | None = None, token: str | None = None, method: str = "GET") -> bytes:
    lines = [
        f"{method} /api/{client.user}/events HTTP/1.1",
        "Host: x",
        f"Authorization: Bearer {token or sign(client.user)}",
        *([f"Last-Event-ID: {last_id}"] if last_id is not None else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def connect(url: str) -> socket.socket:
    address = urlsplit(url)
    return socket.create_connection((address.hostname, address.port), WAIT_SECONDS)


def open_stream(client: Client, last_id: str | None = None, token: str | None = None) -> Stream:
    """Requests a stream, and does not wait for the response."""
    connection = connect(str(client.http.base_url))
    connection.settimeout(None)
    connection.sendall(request(client, last_id, token))
    return Stream(connection)


@contextmanager
def stream(client: Client, last_id: str | None = None, token: str | None = None) -> Iterator[Stream]:
    """Opens a stream and waits until nothing that happens from now on is missed, or until it is refused."""
    with open_stream(client, last_id, token) as opened:
        yield opened.begun()
