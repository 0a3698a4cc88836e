"""What the service is to the network: its names, its certificate, and the proxies that it believes."""

import ssl
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

import msgspec

from ..config.settings import Config
from ..errors import ListenFailed

_Address: TypeAlias = IPv4Address | IPv6Address
_Range: TypeAlias = IPv4Network | IPv6Network


class RequestOrigin(msgspec.Struct, frozen=True):
    """Where a request comes from, and what for."""

    client: str
    """The address of the client, as far as that can be believed."""
    scheme: str
    host: str
    """What the client calls the service, in lower case, with the port if it says one."""
    plain: bool
    """It has come over the network, and was not encrypted."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What of the configuration is about the network."""

    hosts: tuple[str, ...] = ()
    """Names of the service, beside those of this machine for itself."""
    certificate: str = ""
    key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    rate_limit: float = 0.0

    @classmethod
    def of(cls, config: Config) -> "Network":
        """As it is configured."""
        return cls(
            hosts=tuple(name.lower() for name in config.hosts),
            certificate=config.tls_certificate,
            key=config.tls_key,
            trusted_proxies=config.trusted_proxies,
            rate_limit=config.rate_limit,
        )

    def context(self) -> ssl.SSLContext | None:
        """What TLS needs; None without a certificate. Raises `ListenFailed` for one that cannot be used."""
        if not self.certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        self.load(context)
        return context

    def load(self, context: ssl.SSLContext) -> None:
        """Read certificate and key, also anew after they were renewed. Raises `ListenFailed`."""
        try:
            context.load_cert_chain(self.certificate, self.key or None, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is one of the first
            raise ListenFailed(
                f"The certificate {self.certificate} cannot be used: {error}",
                field="tls_certificate",
                remedy="It has to be PEM, readable for the service, with its key in tls_key and no passphrase.",
            ) from error


class Proxies:
    """Those whose word about the client is believed."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._ranges: tuple[_Range, ...] = tuple(ip_network(text, strict=False) for text in trusted)

    def source(self, scheme: str, client: str, headers: list[tuple[bytes, bytes]]) -> RequestOrigin:
        """Where a request comes from. `X-Forwarded-…` of anybody else is what anybody may write there."""
        host = next((value.decode("latin-1").strip() for name, value in headers if name == b"host"), "")
        address = _address(client)
        if not self._trusts(address):
            plain = scheme != "https" and not (address is not None and address.is_loopback)
            return RequestOrigin(client, scheme, host.lower(), plain)
        scheme = _last(headers, b"x-forwarded-proto").lower() or scheme
        host = _last(headers, b"x-forwarded-host") or host
        return RequestOrigin(self._client(client, headers), scheme, host.lower(), plain=False)

    def _client(self, client: str, headers: list[tuple[bytes, bytes]]) -> str:
        """From the right, the first that is no proxy of ours: what stands left of it is its own word."""
        told = [text for name, value in headers if name == b"x-forwarded-for" for text in _parts(value)]
        for text in reversed(told):
            address = _address(text) if len(text) <= _LONGEST else None
            if address is None:
                return client
            client = str(address)
            if not self._trusts(address):
                break
        return client

    def _trusts(self, address: _Address | None) -> bool:
        return address is not None and any(address in one for one in self._ranges)


def _parts(value: bytes) -> list[str]:
    return [part.strip() for part in value.decode("latin-1").split(",") if part.strip()]


def _last(headers: list[tuple[bytes, bytes]], wanted: bytes) -> str:
    """The last value of a header: the nearest proxy adds its own behind what it was given."""
    values = [part for name, value in headers if name == wanted for part in _parts(value)]
    return values[-1] if values else ""


_LONGEST = 64
"""Characters of an address that somebody tells; what is kept of them must not fill the memory."""


@lru_cache(1024)
def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
