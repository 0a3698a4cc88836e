"""Where a notice may be sent. The address comes from whoever created the task, so it is not trusted.

Without these rules anybody who may create a task could have the service knock at doors that only the service can
reach. They are checked at every try, on the very addresses that are then connected to: a name may mean another address
a moment later. Whoever the operator names in `allow_endpoints` is exempt from all but the first function.
"""

import re
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535
_PUBLIC_PORTS = frozenset({443, 8443})

# A name whose last label is a number is an address to some resolver or other: 127.1, 0x7f.1, 2130706433, 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")

# What Python calls global differs between its versions and lets disguises through, so the blocks are named here, too.
_NOT_PUBLIC_4 = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
            *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
_PUBLIC_6 = ip_network("2000::/3")
# Teredo and other protocols, documentation, 6to4, documentation.
_NOT_PUBLIC_6 = tuple(map(ip_network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The upper half of an interface id that carries an IPv4 address."""


class EndpointRefused(Exception):
    """A notice may not be sent there. The message names no address: it must not tell what is where."""


def parse_endpoint(url: str) -> httpx.URL:
    """The address of a web receiver. Raises EndpointRefused for anything but plain http and https."""
    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # a name in Punycode is read only now, and may be none
    except (httpx.InvalidURL, UnicodeError) as error:
        raise EndpointRefused("The address cannot be read") from error
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host:
        raise EndpointRefused("Only http and https addresses can be notified")
    if parsed.port is not None and not 1 <= parsed.port <= _LAST_PORT:
        raise EndpointRefused("There is no such port")
    if parsed.userinfo:
        raise EndpointRefused("An address must not hold a user name or password")
    if parsed.fragment:
        raise EndpointRefused("An address must not hold a fragment (#)")
    return parsed


def host_and_port(url: httpx.URL) -> tuple[str, int]:
    """Where the address leads, the scheme's own port filled in."""
    return url.host.lower(), url.port or _DEFAULT_PORTS[url.scheme]


def is_exempt(host: str, port: int, allowed: Collection[str]) -> bool:
    """Whether the operator has named `host` or `host:port` in so many letters."""
    name = f"[{host}]" if ":" in host else host
    return bool({name, f"{name}:{port}"} & {entry.lower() for entry in allowed})


def check_public(url: httpx.URL) -> None:
    """Raises EndpointRefused unless the address is https on a port for it and goes by a name. Asks nobody."""
    host, port = host_and_port(url)
    if url.scheme != "https":
        raise EndpointRefused("Only https is allowed")
    if port not in _PUBLIC_PORTS:
        raise EndpointRefused("Only the ports 443 and 8443 are allowed")
    if ":" in host or _NUMERIC.fullmatch(host):
        raise EndpointRefused("Only names are allowed, no numbers")


def all_public(addresses: Iterable[str], own: Collection[str] = ()) -> bool:
    """Whether all that a name means is of the open internet, and none of it is this machine (`own`)."""
    found = [is_public(address) and address not in own for address in addresses]
    return bool(found) and all(found)


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet and carries no other one inside."""
    try:
        ip: IPv4Address | IPv6Address = ip_address(address)
    except ValueError:
        return False
    if ip.is_multicast or not ip.is_global:
        return False
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    carries = (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP
    return ip in _PUBLIC_6 and not carries and not any(ip in network for network in _NOT_PUBLIC_6)
