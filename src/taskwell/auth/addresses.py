"""Network addresses for which plain http may be allowed, because the internet does not route them."""

from ipaddress import IPv6Address, ip_address, ip_network

_PRIVATE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        # RFC 6598: pods of some Kubernetes clusters, Tailscale.
        "100.64.0.0/10",
        "::1/128",
        # RFC 4193: Docker, Railway, Fly.
        "fc00::/7",
    )
)


def is_private(address: str) -> bool:
    """Returns whether an IP address is private or loopback. Link-local addresses are neither: clouds serve metadata there.

    Raises:
        ValueError: `address` is not an IP address.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in _PRIVATE_NETWORKS if network.version == parsed.version)
