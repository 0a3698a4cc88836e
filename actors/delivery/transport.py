"""An HTTP transport that connects only to allowed addresses and can be cut off."""

import socket
import ssl
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

import httpcore
import httpx

from .endpoint import EndpointRefused, endpoint_allowed
from .lifeline import Lifeline

Resolve: TypeAlias = Callable[[str, int], list[str]]
"""(host, port) → addresses. Raises OSError."""


def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver, each address once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves a name once, checks every address it means, and connects to one of these and no other."""

    def __init__(self, lifeline: Lifeline, allowed: Collection[str], resolve: Resolve) -> None:
        self._lifeline = lifeline
        self._allowed = allowed
        self._resolve = resolve
        self._plain = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first address that answers. Certificates are still checked against the name."""
        try:
            addresses = self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError("The name cannot be resolved") from error
        if not endpoint_allowed(host.lower(), port, addresses, self._allowed):
            raise EndpointRefused("The address is not allowed")
        failure: Exception = httpcore.ConnectError("The name means no address")
        for address in addresses:
            if self._lifeline.cut:
                break
            try:
                stream = self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                self._lifeline.watch(stream.get_extra_info("socket"))
                return stream
        raise failure


class GuardedTransport(httpx.HTTPTransport):
    """httpx over a `GuardedBackend`."""

    def __init__(self, context: ssl.SSLContext, backend: GuardedBackend) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        # httpx offers no argument for the backend; the tests fail should this name ever change.
        self._pool = httpcore.ConnectionPool(ssl_context=context, max_connections=1, network_backend=backend)
