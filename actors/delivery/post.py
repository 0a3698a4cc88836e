"""Posts to web addresses: guarded, with bounds on the time and on the answer's size, without redirects or proxies."""

import ssl
from collections.abc import Collection, Mapping
from http import HTTPStatus
from typing import NamedTuple

import httpx

from .attempt import CONNECT_WITHIN, DELIVER_WITHIN, Deadline, error_in_words
from .guarded import GuardedBackend, GuardedTransport
from .ssrf import (
    BoundedResolver,
    Resolve,
    check_public,
    host_and_port,
    is_exempt,
    parse_endpoint,
    resolve_name,
)

MAX_ANSWER = 64 * 1024


class HttpAnswer(NamedTuple):
    """The answer to a POST."""

    status: int
    headers: httpx.Headers
    content: bytes
    """The first `MAX_ANSWER` bytes at most."""
    is_cut: bool
    """Whether the deadline was over before the answer ended. One without a length reads as complete all the same."""
    is_long: bool
    """Whether it is longer than `MAX_ANSWER` bytes. The rest was not read: it may have no end."""
    redirect: str
    """The address to which it redirects; empty: it does not."""

    @property
    def may_change(self) -> bool:
        """Whether the status says that the same request may get another answer later."""
        passing = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
        return self.status in passing or self.status >= HTTPStatus.INTERNAL_SERVER_ERROR

    def status_in_words(self) -> str:
        """The status, and where a redirect leads to."""
        leads_to = f", a redirect to {self.redirect}, which is not followed" if self.redirect else ""
        return f"HTTP {self.status}{leads_to}"


TOO_LONG = f"its answer is longer than {MAX_ANSWER} bytes"


class Poster:
    """Posts to web addresses. One object serves all threads; every call has a connection of its own.

    Args:
        allowed: each `host` or `host:port` that need not be public.
        resolve: looks names up.
        connect_within: seconds for a connection.
        all_within: seconds for everything.
        context: for TLS; None for the default.
    """

    def __init__(
        self,
        allowed: Collection[str] = (),
        *,
        resolve: Resolve = resolve_name,
        connect_within: float = CONNECT_WITHIN,
        all_within: float = DELIVER_WITHIN,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._allowed = allowed
        self._resolve = BoundedResolver(resolve)
        self._timeout = httpx.Timeout(all_within, connect=connect_within)
        self._all_within = all_within
        self._context = context or httpx.create_ssl_context()

    def post(self, address: str, content: bytes, headers: Mapping[str, str], deadline: Deadline) -> HttpAnswer:
        """Send the content, and read the answer.

        Raises:
            EndpointRefused: it may not be sent there.
            httpx.HTTPError, OSError, ValueError: there was no answer; `why_not` gives the reason in words.
        """
        backend = GuardedBackend(deadline, self._allowed, self._resolve)
        url = parse_endpoint(address)
        if not is_exempt(*host_and_port(url), self._allowed):
            check_public(url)
        with (
            httpx.Client(
                transport=GuardedTransport(self._context, backend),
                timeout=self._timeout,
                follow_redirects=False,
                trust_env=False,
            ) as client,
            client.stream("POST", url, content=content, headers=dict(headers)) as response,
        ):
            content, is_long = _read(response)
            redirect = "" if response.next_request is None else str(response.next_request.url)
            return HttpAnswer(response.status_code, response.headers, content, deadline.cut, is_long, redirect)

    def why_not(self, error: Exception, deadline: Deadline) -> str:
        """Why there was no answer, in words."""
        if isinstance(error, httpx.ConnectTimeout):
            return f"no connection within {self._timeout.connect:g} s"
        if deadline.cut or isinstance(error, httpx.TimeoutException):
            return self.incomplete
        return error_in_words(error)

    @property
    def incomplete(self) -> str:
        """That the answer was cut, in words."""
        return f"no complete answer within {self._all_within:g} s"


def _read(response: httpx.Response) -> tuple[bytes, bool]:
    """Read the raw body of the answer, at most `MAX_ANSWER` bytes of it. Also returns whether there is more."""
    kept = b""
    for chunk in response.iter_raw():
        kept += chunk
        if len(kept) > MAX_ANSWER:
            break
    return kept[:MAX_ANSWER], len(kept) > MAX_ANSWER
