"""Where a notice may be sent. The address comes from whoever created the task, so it is not trusted.

Without these rules anybody who may create a task could have the service knock at doors that only the service can
reach. They are checked at every try, on the very addresses that are then connected to: a name may mean another address
a moment later.
"""

from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535

# Global by the letter, but they carry an IPv4 address inside or reach nobody in particular.
_NOT_PUBLIC = tuple(map(ip_network, ("192.88.99.0/24", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")))


class EndpointRefused(Exception):
    """A notice may not be sent there. The message names no address: it must not tell what is where."""


def parse_endpoint(url: str) -> httpx.URL:
    """The address of a web receiver. Raises EndpointRefused for anything but plain http and https."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise EndpointRefused("The address cannot be read") from error
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host:
        raise EndpointRefused("Only http and https addresses can be notified")
    if parsed.port is not None and not 1 <= parsed.port <= _LAST_PORT:
        raise EndpointRefused("There is no such port")
    if parsed.userinfo:
        raise EndpointRefused("An address must not hold a user name or password")
    return parsed


def host_and_port(url: httpx.URL) -> tuple[str, int]:
    """Where the address leads, the scheme's own port filled in."""
    return url.host.lower(), url.port or _DEFAULT_PORTS[url.scheme]


def endpoint_allowed(host: str, port: int, addresses: Iterable[str], allowed: Collection[str]) -> bool:
    """Whether `host`, which means these addresses now, may be connected to.

    Args:
        host: a name or an address, lower case.
        port: the port to connect to.
        addresses: everything the name resolves to; each must be public.
        allowed: exceptions of the operator, `host` or `host:port`.
    """
    name = f"[{host}]" if ":" in host else host
    if {name, f"{name}:{port}"} & {entry.lower() for entry in allowed}:
        return True
    found = [is_public(address) for address in addresses]
    return bool(found) and all(found)


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet. `is_global` alone lets several disguises through."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_multicast or not ip.is_global:
        return False
    return not any(ip in network for network in _NOT_PUBLIC if network.version == ip.version)
