"""The network settings of the service: its names, its certificate, and the proxies that it trusts."""

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
    """Where a request comes from, and the host that it names."""

    client: str
    """The address of the client, as far as it can be trusted."""
    scheme: str
    host: str
    """The host that the client names, in lower case, with the port if given."""
    plain: bool
    """Whether it came over the network without encryption."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """The part of the configuration that is about the network."""

    hosts: tuple[str, ...] = ()
    """Names of the service, besides those of the loopback."""
    certificate: str = ""
    key: str = ""
    trusted_proxies: tuple[str, ...] = ()
    rate_limit: float = 0.0

    @classmethod
    def of(cls, config: Config) -> "Network":
        """Return the network settings of a configuration."""
        return cls(
            hosts=tuple(name.lower() for name in config.hosts),
            certificate=config.tls_certificate,
            key=config.tls_key,
            trusted_proxies=config.trusted_proxies,
            rate_limit=config.rate_limit,
        )

    def context(self) -> ssl.SSLContext | None:
        """Return the context for TLS; None without a certificate. Raises `ListenFailed` if it cannot be used."""
        if not self.certificate:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self.certificate, self.key or None, password=lambda: "")
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            raise ListenFailed(
                f"The certificate {self.certificate} cannot be used: {error}",
                field="tls_certificate",
                remedy="It has to be PEM, readable for the service, with its key in tls_key and no passphrase.",
            ) from error
        return context


def leads_to(name: str, host: str) -> bool:
    """Whether a name leads to the address at which the service listens, as far as that can be told from both."""
    address = ip_address(host)
    if address.is_unspecified:
        return True
    try:
        return ip_address(name.strip("[]")) == address
    except ValueError:
        return address.is_loopback == (name == "localhost" or name.endswith(".localhost"))


class Proxies:
    """The trusted proxies, whose headers about the client count."""

    def __init__(self, trusted: Iterable[str]) -> None:
        self._ranges: tuple[_Range, ...] = tuple(ip_network(text, strict=False) for text in trusted)

    def source(self, scheme: str, client: str, headers: list[tuple[bytes, bytes]]) -> RequestOrigin:
        """Return where a request comes from. `X-Forwarded-…` counts only from a trusted proxy: anyone can send it."""
        host = next((value.decode("latin-1").strip() for name, value in headers if name == b"host"), "")
        address = _address(client)
        if not self._trusts(address):
            plain = scheme != "https" and not (address is not None and address.is_loopback)
            return RequestOrigin(client, scheme, host.lower(), plain)
        scheme = _last(headers, b"x-forwarded-proto").lower() or scheme
        host = _last(headers, b"x-forwarded-host") or host
        return RequestOrigin(self._client(client, headers), scheme, host.lower(), plain=False)

    def _client(self, client: str, headers: list[tuple[bytes, bytes]]) -> str:
        """Return the first address from the right that is no trusted proxy: it may have forged those to its left."""
        forwarded = [text for name, value in headers if name == b"x-forwarded-for" for text in _parts(value)]
        for text in reversed(forwarded):
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
    """Return the last value of a header: the nearest proxy appends its own to those it was given."""
    values = [part for name, value in headers if name == wanted for part in _parts(value)]
    return values[-1] if values else ""


_LONGEST = 64
"""The most characters of a forwarded address: addresses are cached, and must not fill the memory."""


@lru_cache(1024)
def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
