"""The faulty network of the tests fails exactly as told. Otherwise tests of faults would prove nothing."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Literal

import asyncpg
import pytest

from support.relay import Relay, executes

BIND = b"B\x00\x00\x00\x08\x00\x00\x00\x00"
PARSE = b"P\x00\x00\x00\x06\x00\x00"


@pytest.fixture
def echo() -> Iterator[str]:
    """The address of a server that sends back what it receives."""
    with socket.create_server(("127.0.0.1", 0)) as entrance:
        threading.Thread(target=_accept, args=[entrance], daemon=True).start()
        yield f"tcp://127.0.0.1:{entrance.getsockname()[1]}"
        entrance.shutdown(socket.SHUT_RDWR)


def _accept(entrance: socket.socket) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(target=_echo, args=[entrance.accept()[0]], daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection, suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


@pytest.fixture
def relay(echo: str) -> Iterator[Relay]:
    with Relay(echo) as relay:
        yield relay


def _connect(relay: Relay) -> socket.socket:
    return socket.create_connection(("127.0.0.1", relay.port), timeout=5)


def _ask(client: socket.socket, request: bytes = b"ping") -> bytes:
    client.sendall(request)
    return client.recv(65536)


def _is_silent(client: socket.socket) -> bool:
    client.settimeout(0.1)
    try:
        client.recv(1)
    except TimeoutError:
        client.settimeout(5)
        return True
    return False


def test_bytes_pass_in_both_directions(relay: Relay) -> None:
    with _connect(relay) as client:
        assert _ask(client) == b"ping"


def test_a_closed_relay_refuses_connections_until_it_opens_again(relay: Relay) -> None:
    with _connect(relay) as client:
        _ask(client)
        relay.close()
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        _connect(relay)
    relay.open()
    with _connect(relay) as client:
        assert _ask(client) == b"ping"


def test_a_cut_ends_connections_in_an_orderly_way(relay: Relay) -> None:
    with _connect(relay) as client:
        _ask(client)
        relay.cut()
        assert client.recv(1) == b""


def test_a_reset_breaks_connections(relay: Relay) -> None:
    with _connect(relay) as client:
        _ask(client)
        relay.reset()
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_a_black_hole_keeps_connections_open_and_delivers_their_bytes_afterwards(relay: Relay) -> None:
    with _connect(relay) as before:
        _ask(before)
        relay.black_hole()
        with _connect(relay) as during:
            for client in (before, during):
                client.sendall(b"ping")
            assert _is_silent(before)
            assert _is_silent(during)
            relay.restore()
            assert before.recv(4) == during.recv(4) == b"ping"


@pytest.mark.parametrize("delay", [{"to_server": 0.1}, {"to_client": 0.1}])
def test_each_direction_can_be_delayed(relay: Relay, delay: dict[str, float]) -> None:
    with _connect(relay) as client:
        _ask(client)
        relay.delay(**delay)
        started = time.monotonic()
        _ask(client)
        assert time.monotonic() - started >= 0.1


def test_a_shorter_delay_does_not_change_the_order_of_bytes(relay: Relay) -> None:
    with _connect(relay) as client:
        assert _ask(client, b"!") == b"!"
        relay.delay(to_server=0.1)
        client.sendall(b"pi")
        time.sleep(0.05)
        relay.delay()
        client.sendall(b"ng")
        assert b"".join(client.recv(1) for _ in range(4)) == b"ping"


@pytest.mark.parametrize("then", ["cut", "silence"])
def test_exactly_one_reply_is_lost(relay: Relay, then: Literal["cut", "silence"]) -> None:
    with _connect(relay) as client, _connect(relay) as other:
        lost = relay.swallow(lambda request: b"create" in request, then=then)
        assert _ask(client) == b"ping"
        assert not lost.is_set()
        client.sendall(b"cre")
        assert _ask(other, b"read") == b"read"
        client.recv(3)
        client.sendall(b"create")
        assert lost.wait(5)
        assert _is_silent(client) if then == "silence" else client.recv(1) == b""
        assert _ask(other, b"create") == b"create"


@pytest.mark.parametrize("silently", [True, False])
def test_forgotten_connections_fail_their_next_request_and_end_when_restored(
    relay: Relay,
    silently: bool,  # noqa: FBT001
) -> None:
    with _connect(relay) as client:
        _ask(client)
        relay.forget(silently=silently)
        assert _is_silent(client)
        client.sendall(b"ping")
        if silently:
            assert _is_silent(client)
        else:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        relay.restore()
        _until(lambda: relay.connections_open == 0)
    with _connect(relay) as client:
        assert _ask(client) == b"ping"


def test_restoring_ends_forgotten_connections_on_the_side_of_the_server() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as entrance,
        Relay(f"tcp://127.0.0.1:{entrance.getsockname()[1]}") as relay,
    ):
        with _connect(relay) as client:
            server, _ = entrance.accept()
            client.sendall(b"ping")
            assert server.recv(4) == b"ping"
            relay.forget(silently=True)
        with server:
            assert _is_silent(server)
            relay.restore()
            assert server.recv(1) == b""


def test_connections_are_counted(relay: Relay) -> None:
    with _connect(relay) as one, _connect(relay) as other:
        _ask(one), _ask(other)
        assert (relay.connections_made, relay.connections_open) == (2, 2)
        other.close()
        _until(lambda: relay.connections_open == 1)
    assert relay.connections_made == 2


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_request_and_its_reply_are_one_round_trip_however_they_are_split(relay: Relay) -> None:
    with _connect(relay) as client:
        relay.delay(to_server=0.2)
        for _ in range(4):
            client.sendall(b"pi")
            time.sleep(0.01)
        assert b"".join(client.recv(1) for _ in range(8)) == b"pipipipi"
        assert relay.round_trips == 1
        relay.delay()
        _ask(client)
        assert relay.round_trips == 2


@pytest.mark.parametrize("engine", ["postgres", "postgres-tls", "postgres-pooler"])
def test_a_statement_is_one_round_trip_with_and_without_encryption(
    new_database_url: Callable[[str], str], engine: str
) -> None:
    with Relay(new_database_url(engine)) as relay:
        assert asyncio.run(_round_trips(relay)) == 3


async def _round_trips(relay: Relay) -> int:
    connection = await asyncpg.connect(relay.url)
    before = relay.round_trips
    for _ in range(3):
        await connection.execute("SELECT 1")
    trips = relay.round_trips - before
    await connection.close()
    return trips


@pytest.mark.parametrize(
    ("request_", "runs"),
    [
        (BIND, True),
        (PARSE + BIND, True),
        (b"Q\x00\x00\x00\x06;\x00", True),
        (PARSE, False),
        (b"\x16\x03\x01\x02", False),
    ],
)
def test_running_a_statement_is_distinguished_from_preparing_it(request_: bytes, runs: bool) -> None:  # noqa: FBT001
    assert executes(request_) is runs
