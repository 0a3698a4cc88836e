"""The guard against request forgery (SSRF): the rules for the web addresses that a notice may go to.

`guarded` has the transport that enforces them.

The creator of a task chooses the address, so it is not trusted. Without these rules, everyone who may create a task
could make the service connect to places that only the service can reach. The rules are checked at every try, on the
very addresses that are then connected to, because a name may soon stand for another address. Receivers that the
operator names in `allow_endpoints` are exempt from everything except `parse_endpoint`.
"""

import queue
import re
import socket
import threading
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, TypeAlias

import psutil

if TYPE_CHECKING:
    import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}
_LAST_PORT = 65535
_PUBLIC_PORTS = frozenset({443, 8443})

_NO_NAME = re.compile(r"[^a-z0-9._-]")
"""What no name of a host has. Such a character is mostly a slip, as a space is, and other programs may read the address
otherwise."""

# Some resolvers take a name whose last label is a number for an address: 127.1, 0x7f.1, 2130706433, 0177.0.0.1.
_NUMERIC = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9a-fA-F]*)\.?")

# Python's `is_global` differs between versions and lets disguised addresses pass, so the blocks are named here, too.
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
    """A notice may not be sent there. The message names no address, so that it reveals nothing about the network."""


def parse_endpoint(url: str) -> "httpx.URL":
    """Parse the address of a web receiver. Raises EndpointRefused unless it is plain http or https."""
    import httpx  # noqa: PLC0415 - a fifth of a start's imports, and many services send no notices

    try:
        parsed = httpx.URL(url)
        _ = parsed.host  # decodes a name in Punycode, which may be invalid
    except (httpx.InvalidURL, UnicodeError) as error:
        raise EndpointRefused("The address cannot be read") from error
    if parsed.scheme not in _DEFAULT_PORTS or not parsed.host:
        raise EndpointRefused("Only http and https addresses can be notified")
    if ":" not in parsed.host and _NO_NAME.search(parsed.raw_host.decode("ascii").lower()):
        raise EndpointRefused("The name of the host has a character that no such name has")
    if parsed.port is not None and not 1 <= parsed.port <= _LAST_PORT:
        raise EndpointRefused("There is no such port")
    if parsed.userinfo:
        raise EndpointRefused("An address must not hold a user name or password")
    if parsed.fragment:
        raise EndpointRefused("An address must not hold a fragment (#)")
    return parsed


def host_and_port(url: "httpx.URL") -> tuple[str, int]:
    """Host and port of the address. Without a port, the scheme's default."""
    return url.host.lower(), url.port or _DEFAULT_PORTS[url.scheme]


def host_port(url: str) -> str:
    """`host:port` of an address, as `is_exempt` expects it. Raises EndpointRefused."""
    host, port = host_and_port(parse_endpoint(url))
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_exempt(host: str, port: int, allowed: Collection[str]) -> bool:
    """Whether the operator has named exactly this `host` or `host:port`."""
    name = f"[{host}]" if ":" in host else host
    return bool({name, f"{name}:{port}"} & {entry.lower() for entry in allowed})


def check_public(url: "httpx.URL") -> None:
    """Raises EndpointRefused unless the address is a name, with https on a usual port. Looks nothing up."""
    host, port = host_and_port(url)
    if url.scheme != "https":
        raise EndpointRefused("Only https is allowed")
    if port not in _PUBLIC_PORTS:
        raise EndpointRefused("Only the ports 443 and 8443 are allowed")
    if ":" in host or _NUMERIC.fullmatch(host):
        raise EndpointRefused("Only host names are allowed, no IP addresses")


def all_public(addresses: Iterable[str], own: Collection[str] = ()) -> bool:
    """Whether all addresses of a name are public, and none is this machine's own (`own`)."""
    public = [is_public(address) and address not in own for address in addresses]
    return bool(public) and all(public)


def is_public(address: str) -> bool:
    """Whether an address belongs to the open internet and does not embed an IPv4 address."""
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


Resolve: TypeAlias = Callable[[str, int], list[str]]
"""(host, port) → addresses. Raises OSError."""

MAX_LOOKUPS = 16
"""Threads that may wait for the system's resolver at once."""


def resolve_name(host: str, port: int) -> list[str]:
    """Ask the system's resolver. Each address is returned once."""
    results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in results))


class BoundedResolver:
    """Looks names up with a time limit. One object serves all threads.

    The system's resolver cannot be interrupted, so when time is up its thread goes on waiting for it. While `at_once`
    threads wait, no further name is looked up.
    """

    def __init__(self, resolve: Resolve = resolve_name, *, at_once: int = MAX_LOOKUPS) -> None:
        self._resolve = resolve
        self._places = threading.BoundedSemaphore(at_once)

    def __call__(self, host: str, port: int, within: float) -> list[str]:
        """Return the addresses. Raises OSError, also if it takes longer than `within` seconds."""
        if not self._places.acquire(blocking=False):
            raise OSError("Too many names are being looked up")
        answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._look_up, args=(host, port, answer), name="resolve", daemon=True).start()
        try:
            result = answer.get(timeout=max(0.0, within))
        except queue.Empty:
            raise OSError("The name was not resolved in time") from None
        if isinstance(result, Exception):
            raise result
        return result

    def _look_up(self, host: str, port: int, answer: "queue.SimpleQueue[list[str] | Exception]") -> None:
        try:
            answer.put(self._resolve(host, port))
        except OSError as error:
            answer.put(error)
        except Exception as error:  # noqa: BLE001 - odd names raise odd errors (idna), and the waiting thread must get them
            answer.put(OSError(f"The name cannot be looked up: {type(error).__name__}"))
        finally:
            self._places.release()


def own_addresses() -> frozenset[str]:
    """The addresses of this machine's interfaces."""
    return frozenset(
        address.address.partition("%")[0] for addresses in psutil.net_if_addrs().values() for address in addresses
    )
