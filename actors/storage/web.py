"""Reads files on the web by https, from hosts that the configuration names, and without following redirects.

The rules for addresses are those of notices: a host has to be public, unless `allow_endpoints` names it.
"""

import re
import ssl
from collections.abc import Collection, Iterator

import httpx

from ...handlers.urls import Url
from ..delivery.attempt import CONNECT_WITHIN, Deadline, usual_error
from ..delivery.guarded import GuardedBackend, GuardedTransport
from ..delivery.ssrf import (
    BoundedResolver,
    EndpointRefused,
    Resolve,
    check_public,
    host_and_port,
    is_exempt,
    parse_endpoint,
    resolve_name,
)
from .places import PlaceError, RemoteFile, changed, other_bytes, unreachable

_SILENCE = 60.0
"""Seconds without a byte after which the connection is given up."""
_LONGEST = 7 * 86400.0
"""Seconds for one file. The task's own limits end it long before."""
_STRONG = re.compile(r'"[\x21\x23-\x7e]*"')
_REDIRECTS = range(300, 400)
_PRIVATE = "Only https and public hosts are allowed; the operator may name another one in `allow_endpoints`."


class WebSource:
    """A file to be read.

    Args:
        url: its address.
        allowed: each `host` or `host:port` that need not be public.
        resolve: looks names up.
        context: for TLS; None for the default.
    """

    def __init__(
        self,
        url: Url,
        allowed: Collection[str],
        *,
        resolve: Resolve = resolve_name,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url
        self._allowed = allowed
        self._resolve = BoundedResolver(resolve)
        self._context = context or httpx.create_ssl_context()
        self._asked: tuple[RemoteFile, Iterator[bytes]] | None = None
        """The answer to `look`, whose bytes `read` goes on with."""

    def look(self) -> RemoteFile:
        """See `Source`. One GET serves `look` and `read`: not every server answers HEAD as it answers GET."""
        remote, body = self._ask({})
        self._asked = (remote, body)
        return remote

    def read(self, remote: RemoteFile, start: int) -> Iterator[bytes]:
        """See `Source`."""
        asked, self._asked = self._asked, None
        if asked is not None and not start:
            yield from asked[1]
            return
        more = {"Range": f"bytes={start}-", "If-Range": remote.version.split(" ")[0]} if start else {}
        now, body = self._ask(more, start, remote.size)
        if now.version != remote.version:
            raise changed(self._url)
        yield from body

    def _ask(self, headers: dict[str, str], start: int = 0, size: int = 0) -> tuple[RemoteFile, Iterator[bytes]]:
        answer = self._answers(headers, start, size)
        remote = next(answer)
        assert isinstance(remote, RemoteFile)
        return remote, answer  # type: ignore[return-value] # bytes follow

    def _answers(self, headers: dict[str, str], start: int, size: int) -> Iterator[RemoteFile | bytes]:
        """Yield what was found, then its bytes."""
        try:
            url = parse_endpoint(self._url.text)
            if not is_exempt(*host_and_port(url), self._allowed):
                check_public(url)
        except EndpointRefused as error:
            raise PlaceError("forbidden", f"{self._url.text}: {error}", _PRIVATE) from None
        with Deadline(_LONGEST) as deadline:
            backend = GuardedBackend(deadline, self._allowed, self._resolve)
            try:
                with (
                    httpx.Client(
                        transport=GuardedTransport(self._context, backend),
                        timeout=httpx.Timeout(_SILENCE, connect=CONNECT_WITHIN),
                        follow_redirects=False,
                        trust_env=False,
                    ) as client,
                    client.stream("GET", url, headers={"Accept-Encoding": "identity", **headers}) as response,
                ):
                    self._refuse(response, 206 if start else 200)
                    if start and response.headers.get("Content-Range") != f"bytes {start}-{size - 1}/{size}":
                        raise other_bytes(self._url, start)
                    yield self._describe(response, size)
                    yield from response.iter_raw()
            except EndpointRefused as error:
                raise PlaceError("forbidden", f"{self._url.text}: {error}", _PRIVATE) from None
            except httpx.HTTPError as error:
                raise self._failed(error) from None
            except (OSError, ValueError) as error:
                raise unreachable(self._url, usual_error(error) or type(error).__name__) from None

    def _failed(self, error: httpx.HTTPError) -> PlaceError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return PlaceError(
                    "failed",
                    f"The certificate of the server of {self._url.text} is not trusted",
                    "Name the authority that vouches for it in SSL_CERT_FILE.",
                )
            cause = cause.__cause__ or cause.__context__
        return unreachable(self._url, usual_error(error) or type(error).__name__)

    def _refuse(self, response: httpx.Response, wanted: int) -> None:
        status, text = response.status_code, self._url.text
        if status == wanted:
            encoding = response.headers.get("Content-Encoding", "identity")
            if encoding != "identity":
                raise PlaceError("failed", f"{text} comes compressed, although that was not requested")
            return
        if status in (200, 206, 412, 416):
            raise changed(self._url)
        if status in (404, 410):
            raise PlaceError("missing", f"There is nothing at {text} (HTTP {status})", "Check the address.")
        if status in (401, 403, 407):
            raise PlaceError(
                "denied", f"Access to {text} is denied (HTTP {status})", "The service has no credentials for the web."
            )
        if status in _REDIRECTS:
            raise PlaceError(
                "denied", f"{text} redirects to another address, and redirects are not followed", "Give that address."
            )
        if status >= 500 or status == 429:  # noqa: PLR2004
            raise unreachable(text, f"the server answers with HTTP {status}")
        raise PlaceError("failed", f"{text}: the server answers with HTTP {status}")

    def _describe(self, response: httpx.Response, size: int) -> RemoteFile:
        """Describe the file by the headers.

        A strong ETag guarantees the same bytes. A weak one, or a time with the size, tells only as much as the time and
        size of a local file. `size` is that of the whole file, if the answer is only a part.
        """
        headers = response.headers
        chunked = headers.get("Transfer-Encoding", "").lower() == "chunked"
        if not chunked and "Content-Length" not in headers:
            raise PlaceError(
                "failed",
                f"{self._url.text}: the server gives neither its length nor a mark at its end, so half of it would "
                "look whole",
                "Have the server send Content-Length.",
            )
        if not size and not chunked:
            size = int(headers["Content-Length"])
        etag, modified = headers.get("ETag", ""), headers.get("Last-Modified", "")
        is_versioned = etag or (modified and size)
        version = f"{etag or '-'} {size} {modified}".strip() if is_versioned else ""
        return RemoteFile(version, size, resumes=bool(size) and _STRONG.fullmatch(etag) is not None)
