"""An HTTP transport that connects only to addresses that the rules of `ssrf` allow."""

import ssl
from collections.abc import Collection, Iterable
from typing import Any

import httpcore
import httpx

from .attempt import Deadline
from .ssrf import BoundedResolver, EndpointRefused, all_public, is_exempt, own_addresses


class GuardedBackend(httpcore.NetworkBackend):
    """Resolves a name once, checks all its addresses, and connects only to one of these."""

    def __init__(self, deadline: Deadline, allowed: Collection[str], resolve: BoundedResolver) -> None:
        self._deadline = deadline
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
        """Connect to the first address that answers. Certificates are still checked against the name."""
        patience = timeout if timeout is not None else self._deadline.seconds
        try:
            addresses = self._resolve(host, port, patience)
        except OSError as error:
            raise httpcore.ConnectError(str(error) or "The name cannot be resolved") from error
        if not is_exempt(host.lower(), port, self._allowed) and not all_public(addresses, own_addresses()):
            raise EndpointRefused("The address is not allowed")
        failure: Exception = httpcore.ConnectError("The name resolves to no address")
        for address in addresses:
            if self._deadline.cut:
                break
            try:
                stream = self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return self._checked(stream, address)
        raise failure

    def _checked(self, stream: httpcore.NetworkStream, address: str) -> httpcore.NetworkStream:
        """Return the connection, if its other end is the checked address and not something in between."""
        connection = stream.get_extra_info("socket")
        if connection.getpeername()[0] != address:
            stream.close()
            raise EndpointRefused("The address is not allowed")
        self._deadline.watch(connection)
        return stream


class GuardedTransport(httpx.HTTPTransport):
    """httpx over a `GuardedBackend`."""

    def __init__(self, context: ssl.SSLContext, backend: GuardedBackend) -> None:
        super().__init__(verify=context, trust_env=False)
        self._pool.close()
        # httpx offers no argument for the backend; the tests fail should this name ever change.
        self._pool = httpcore.ConnectionPool(ssl_context=context, max_connections=1, network_backend=backend)
