"""Ports for servers of the tests."""

import random
import socket

# Below the ports that the system gives to outgoing connections, one of which could take a free port before its server
# does.
FIRST, LAST = 20_000, 32_000

# Not the shared generator, which pytest-randomly seeds alike in every worker.
_random = random.SystemRandom()


def free_port() -> int:
    """Returns a port of the loopback interface on which nobody listens."""
    while True:
        port = _random.randint(FIRST, LAST)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
