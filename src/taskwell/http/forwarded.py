"""The address of the client behind reverse proxies, as they report it in `X-Forwarded-For` or `Forwarded` (RFC 7239).

Anybody can send these headers, so only those of trusted proxies count. Each proxy adds the address that it was called
from at the end. From the right, the first address that is not a trusted proxy's is the client's.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

EVERYBODY = "*"

MAX_PROXIES = 32
"""Longer chains are ignored: each address costs time, and clients can send thousands."""

_MAX_FORWARDED_BYTES = 4096
# The longest is an IPv6 address in brackets, with a port.
_MAX_NODE_CHARACTERS = 64
_CACHED_NODES = 1024

# A node of RFC 7239, section 6, and the forms in `X-Forwarded-For`: Azure adds ports, and IPv6 addresses lack brackets.
_NODE = re.compile(r"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)")

# A parameter of an element, which may be missing, and what follows it (RFC 7239, section 4). Unquoted values may hold
# colons and brackets, because many configurations forget the quotes.
_PARAMETER = re.compile(
    r'[ \t]*+(?:([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*+)"|([^",;\s]*+)))?[ \t]*+([,;]|$)'
)

Headers = Iterable[tuple[bytes, bytes]]


def check_proxy(entry: str) -> str:
    """Returns `entry` if it is an IP address, a network, or `*`.

    Raises:
        ValueError: It is none of them.
    """
    _networks(entry)
    return entry


def _networks(entry: str) -> list[IPv4Network | IPv6Network]:
    if entry == EVERYBODY:
        return [IPv4Network("0.0.0.0/0"), IPv6Network("::/0")]
    remedy = "write an address such as 10.0.0.5, a network such as 10.0.0.0/8, or * for all"
    try:
        network = ip_network(entry, strict=False)
    except ValueError:
        raise ValueError(f"is not an IP address or network; {remedy}") from None
    if "%" in entry:
        raise ValueError(f"has a zone; {remedy}")
    if "/" in entry and ip_address(entry.partition("/")[0]) != network.network_address:
        raise ValueError(f"has bits beyond the network's length; write {network}, or the address alone")
    return [network]


class _Node(NamedTuple):
    """An address in a chain of proxies."""

    address: str
    is_trusted: bool


class TrustedProxies:
    """The proxies of the operator, as checked addresses and networks. Without any, nobody is trusted."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._networks = [network for entry in entries for network in _networks(entry)]
        # Requests come from the same few proxies. Reading an address takes longer than everything else here.
        self._node = lru_cache(_CACHED_NODES)(self._read_node)

    def trust(self, peer: str) -> bool:
        """Whether a connection from the address `peer` comes from a trusted proxy."""
        return self._is_trusted(parse_address(peer.partition("%")[0])) if self._networks else False

    def client_of(self, headers: Headers) -> str | None:
        """Returns the client's address from the headers of a trusted proxy, or None if the headers do not contain it.

        A proxy that sets one of the two headers may pass on the other one as the client sent it. If both are there and
        contradict each other, both are ignored.
        """
        lists: list[str] = []
        elements: list[str] = []
        for name, value in headers:
            if name == b"x-forwarded-for":
                lists.append(value.decode("latin-1"))
            elif name == b"forwarded":
                elements.append(value.decode("latin-1"))
        if not elements:
            return self._first_stranger(_listed(lists)) if lists else None
        forwarded = self._first_stranger(_forwarded(elements))
        return forwarded if not lists or forwarded == self._first_stranger(_listed(lists)) else None

    def _first_stranger(self, nodes: Iterable[str]) -> str | None:
        """Returns the first address that is not trusted, or else the last one. Returns None if it is malformed."""
        address = None
        for number, text in enumerate(nodes):
            if number == MAX_PROXIES or len(text) > _MAX_NODE_CHARACTERS:
                return None
            node = self._node(text)
            if node is None:
                return None
            address = node.address
            if not node.is_trusted:
                break
        return address

    def _read_node(self, text: str) -> _Node | None:
        match = _NODE.fullmatch(text)
        if match is None:
            return None
        try:
            address = parse_address(match[1] or match[2] or match[3])
        except ValueError:
            return None
        return _Node(str(address), self._is_trusted(address))

    def _is_trusted(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


def parse_address(text: str) -> IPv4Address | IPv6Address:
    """Returns the IP address, as an IPv4 address if it is mapped into IPv6.

    Raises:
        ValueError: It is not an IP address.
    """
    address = ip_address(text)
    # IPv4 clients of a socket that accepts both.
    return (isinstance(address, IPv6Address) and address.ipv4_mapped) or address


def _listed(values: list[str]) -> Iterator[str]:
    """Yields the nodes in `X-Forwarded-For`, the last one first."""
    for node in reversed(",".join(values).rsplit(",", MAX_PROXIES)):
        if node := node.strip():
            yield node


def _forwarded(values: list[str]) -> Iterator[str]:
    """Yields the nodes in `Forwarded`, the last one first. A node that cannot be read is the empty string."""
    for value in reversed(values):
        yield from reversed(_elements(value))


def _elements(value: str) -> list[str]:
    """Returns the `for` of each element. Quotes must be read from the left: a quoted value can look like an element."""
    if len(value) > _MAX_FORWARDED_BYTES:
        return [""]
    nodes: list[str] = []
    parameters: dict[str, str] = {}
    position = 0
    while match := _PARAMETER.match(value, position):
        name, quoted, plain, end = match.groups()
        position = match.end()
        if name and name.lower() in parameters:
            return [""]
        if name:
            parameters[name.lower()] = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if end != ";" and parameters:
            nodes.append(parameters.get("for", ""))
            parameters = {}
        if not end:
            return nodes
    return [""]
