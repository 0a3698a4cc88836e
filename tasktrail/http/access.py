"""Access control of the port: callers have to show a credential, and no foreign web page may act through a browser.

Others can reach a port, so a connection alone proves nothing. A request has to show the secret of the data folder, a
token, or the cookie of a session (`Access`). Then its origin is checked (`AccessMiddleware`): a foreign page can make a
browser send requests here, but it cannot set `Host` (which reveals DNS rebinding) and cannot hide `Origin` or
`Sec-Fetch-Site`. The Unix socket is guarded by its permissions, and no browser uses it.
"""

import asyncio
import re
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import msgspec
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.utils import normalize_path

from ..actors.core.tokens import Token
from ..errors import Forbidden, Unauthorized, WrongHost, WrongOrigin
from ..events import TasktrailError
from .identity import OWNER, Identity
from .network import Proxies, RequestOrigin
from .pace import FailedLogins, Pace
from .problems import send_problem, send_refusal, wants_page
from .sessions import Sessions, csrf_of, make_room, session_digest

if TYPE_CHECKING:
    from .connections import GuardedConnection

_SCHEME = b"bearer"
CODE_LASTS = 3600.0
"""Seconds for which an address that logs a browser in can be used, once."""
_MOST_CODES, _MOST_OF_ONE = 100, 10
"""Such addresses that are valid at once: in all, and for one secret or token. A further one invalidates the oldest."""


class Access:
    """Maps credentials to identities. Belongs to the thread of the event loop; `holds` may be called from any."""

    def __init__(
        self,
        secret: str,
        sessions: Sessions,
        tokens: Callable[[], Mapping[str, Token]] = dict,
        monotonic: Callable[[], float] = time.monotonic,
        rate_limit: float = 0.0,
    ) -> None:
        """`secret`: the owner's. `tokens`: returns digest → token. `rate_limit`: requests a second for each token."""
        self.failed = FailedLogins(monotonic)
        self.pace = Pace(rate_limit, monotonic)
        self.sessions = sessions
        self.address = ""
        """The port's URL, as a browser on this machine would call it."""
        self._secret = _hashed(secret)
        self._tokens = tokens
        self._monotonic = monotonic
        self._codes: dict[str, tuple[str, float]] = {}
        self.cookie = f"tasktrail_{self._secret[:8]}"
        """The name of the cookie. Browsers send cookies to all ports of a host, so it differs from folder to folder."""

    def owner(self) -> Identity:
        """Return the identity of clients of the Unix socket."""
        return Identity(name=OWNER, role="admin", way="socket", credential=self._secret)

    def identity_of(self, credential: str) -> Identity | None:
        """Return the identity of a valid credential, or None. Timing does not show how much of a wrong one is right."""
        if compare_digest(credential, self._secret):
            return Identity(name=OWNER, role="admin", way="secret", credential=credential)
        token = self._tokens().get(credential)
        if token is None or not token.holds(datetime.now(UTC)):
            return None
        return Identity(name=token.token, role=token.role, user_id=token.user_id, way="token", credential=credential)

    def holds(self, credential: str) -> bool:
        """Whether the credential is still valid."""
        return self.identity_of(credential) is not None

    def still_holds(self, who: Identity) -> bool:
        """Whether the credential is still valid, and the session, if any, has not ended."""
        return self.holds(who.credential) and (not who.session or self.sessions.of_digest(who.session) is not None)

    def shown(self, secret: bytes) -> Identity:
        """Return the identity of a secret or token. Raises `Unauthorized`."""
        who = self.identity_of(sha256(secret).hexdigest())
        if who is None:
            raise Unauthorized("The credential is neither the secret of this service nor a valid token")
        return who

    def identify(self, headers: dict[bytes, bytes], *, secure: bool) -> Identity | None:
        """Return the identity that the headers show, or None. Raises `Unauthorized` for a wrong `Authorization`."""
        authorization = headers.get(b"authorization")
        if authorization is not None:
            scheme, _, shown = authorization.partition(b" ")
            if scheme.lower() != _SCHEME:
                raise Unauthorized("The header `Authorization` has to be `Bearer` and a secret or token")
            return self.shown(shown.strip(b" "))
        value = _cookie(headers.get(b"cookie", b""), self.cookie_name(secure=secure))
        session = self.sessions.find(value) if value else None
        who = self.identity_of(session.credential) if session is not None else None
        return who and msgspec.structs.replace(who, way="session", session=session_digest(value), csrf=csrf_of(value))

    def cookie_name(self, *, secure: bool) -> str:
        """Return the cookie's name. With the prefix `__Host-` no other host, even of the same domain, can set it."""
        return f"__Host-{self.cookie}" if secure else self.cookie

    def session_cookie(self, credential: str, *, secure: bool) -> str:
        """Begin a session. Returns the header `Set-Cookie`."""
        return self._cookie_header(self.sessions.begin(credential), secure=secure)

    def end_session(self, headers: dict[bytes, bytes], *, secure: bool) -> str:
        """Log out. Returns the header `Set-Cookie` that removes the cookie."""
        self.sessions.end(_cookie(headers.get(b"cookie", b""), self.cookie_name(secure=secure)))
        return self._cookie_header("", secure=secure) + "; Max-Age=0"

    def _cookie_header(self, value: str, *, secure: bool) -> str:
        kept = "; Secure" if secure else ""
        return f"{self.cookie_name(secure=secure)}={value}; Path=/; HttpOnly; SameSite=Strict{kept}"

    def login_path(self, credential: str) -> str:
        """Return a path that logs a browser in, once and soon: others may later read where it was printed."""
        now = self._monotonic()
        self._codes = {code: known for code, known in self._codes.items() if known[1] > now}
        make_room(self._codes, lambda known: known[0] == credential, _MOST_CODES, _MOST_OF_ONE)
        code = secrets.token_urlsafe(32)
        self._codes[_hashed(code)] = credential, now + CODE_LASTS
        return f"/login?code={code}"

    def redeem(self, code: str) -> Identity | None:
        """Return the identity that the code logs in, or None. A code works once."""
        credential, until = self._codes.pop(_hashed(code), ("", 0.0))
        return self.identity_of(credential) if until > self._monotonic() else None


def _hashed(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()


def _cookie(header: bytes, name: str) -> str:
    """Return the value of a cookie. Two of the same name do not count: one of them may be foreign."""
    pairs = (pair.strip().partition("=") for pair in header.decode("latin-1").split(";"))
    values = [value for key, _, value in pairs if key == name]
    return values[0] if len(values) == 1 else ""


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HEAD: run the GET of the same address until its answer begins, and no further."""
    begun = asyncio.Event()

    async def begin(message: Any) -> None:
        if message["type"] == "http.response.start" and not begun.is_set():
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            begun.set()

    asked: Any = {**scope, "method": "GET"}
    getting = asyncio.ensure_future(app(asked, receive, begin))
    waiting = asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait((getting, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        getting.cancel()
    with suppress(asyncio.CancelledError):
        await getting
    scope["path_template"] = asked.get("path_template", "")


LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_OURS = frozenset({b"none", b"same-origin"})
"""Values of `Sec-Fetch-Site` for a typed address and for a page of our own."""
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_PROTECTING = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", _POLICY),
    (b"cache-control", b"no-store"),
)
"""Headers of every answer: no guessing of its type, no frames, nothing loaded from elsewhere, no caching."""


class AccessMiddleware:
    """ASGI middleware that passes authenticated requests, and those for public paths, to the application."""

    def __init__(
        self,
        app: ASGIApp,
        access: Access,
        hosts: frozenset[str] = LOOPBACK,
        public: tuple[frozenset[str], tuple[str, ...]] = (frozenset(), ()),
        proxies: Proxies | None = None,
    ) -> None:
        """`public`: paths, and prefixes of paths, that need no credential."""
        self._proxies = proxies or Proxies(())
        self._app = app
        self._access = access
        self._hosts = hosts
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through or answer it with a problem."""
        kind: str = scope["type"]
        if kind != "http":  # lifespan: the server starts or stops
            await self._app(scope, receive, send)
            return
        send = _protected(send)
        headers = dict(scope["headers"])
        asked: Any = scope
        # Normalized as by the framework, so that every check sees `//login/` as the route does.
        asked["path"] = normalize_path(asked["path"])
        connection: GuardedConnection = scope["state"]["connection"]
        try:
            who = await self._identify(asked, headers)
            if who is not None:
                connection.known(who)
        except _ForeignLink:
            await _have_browser_reload(send)
            return
        except TasktrailError as error:
            await send_refusal(error, headers, send)
            return
        path: str = scope["path"]
        if who is None and path not in self._public[0] and not path.startswith(self._public[1]):
            await _ask_to_log_in(scope, headers, send)
            return
        scope["state"]["who"] = who
        async with connection.room.bodies.reading(headers, receive, who) as reading:
            if scope.get("method") == "HEAD":
                await answer_head(self._app, scope, reading, send)
            else:
                await self._app(scope, reading, send)

    async def _identify(self, scope: Any, headers: dict[bytes, bytes]) -> Identity | None:
        connection: GuardedConnection = scope["state"]["connection"]
        if connection.private:
            scope["state"]["address"] = self._access.address
            return self._access.owner()
        client = scope["client"][0] if scope.get("client") else ""
        source = self._proxies.source(scope["scheme"], client, scope["headers"])
        scope["scheme"], scope["client"] = source.scheme, (source.client, 0)
        if source.plain:
            raise Forbidden(
                "The service does not answer unencrypted requests over the network",
                remedy="Use https, or the proxy in front of it.",
            )
        if _without_port(source.host) not in self._hosts:
            raise WrongHost(f"The request is for {source.host!r}" if source.host else "The request names no host")
        scope["state"]["address"] = f"{source.scheme}://{source.host}"
        _refuse_foreign_pages(source, self._hosts, scope, headers)
        try:
            who = self._access.identify(headers, secure=source.scheme == "https")
        except Unauthorized:
            await self._access.failed.note(source.client, "header")
            raise
        if who is not None and not who.owner:
            self._access.pace.take(who.name)
        return who


class _ForeignLink(Exception):
    """A link on a foreign page was followed."""


_USUAL_PORTS = {"http": ":80", "https": ":443"}
_LAST_PORT = 65535
_PROXY_SAYS_TOO_LITTLE = (
    "If a proxy stands in front of the service, it has to pass on `Host` with its port and to set `X-Forwarded-Proto`, "
    "and `trusted_proxies` has to name it."
)


_TYPE_IT = (
    "Copy the address into the address line of the browser, if you trust where it comes from: such a link can log you "
    "in as somebody else."
)


def _refuse_foreign_pages(
    source: RequestOrigin, hosts: frozenset[str], scope: Any, headers: dict[bytes, bytes]
) -> None:
    """Raise `WrongOrigin` for requests of foreign pages, and `_ForeignLink` for a link that a person followed."""
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    own_origin = _origin(source)
    if origin and origin != own_origin:
        # Maybe a page of our own: a proxy that is told nothing puts its own name for this service into `Host`.
        own_name = _without_port(origin.rpartition("//")[2]) in hosts
        raise WrongOrigin(
            f"The request comes from a page of {origin!r}, for which this service is {own_origin!r}",
            remedy=_PROXY_SAYS_TOO_LITTLE if own_name else "",
        )
    if headers.get(b"sec-fetch-site", b"none").lower() in _OURS:
        return
    followed = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
    if followed and scope["method"] == "GET":
        if scope["path"] != "/login":
            raise _ForeignLink
        raise WrongOrigin("A link on a page of another site leads to the log-in", remedy=_TYPE_IT)
    raise WrongOrigin("The request comes from a page of another site")


async def _have_browser_reload(send: Send) -> None:
    """Have the browser ask again by itself: it sends no cookie of ours when it follows a foreign link."""
    body = b'<!doctype html><html lang="en"><title>tasktrail</title><meta http-equiv="refresh" content="0"></html>'
    headers = [(b"content-type", b"text/html; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _protected(send: Send) -> Send:
    """Add the protecting headers that the answer does not set itself."""

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            present = {name for name, _ in headers}
            message = {**message, "headers": headers + [one for one in _PROTECTING if one[0] not in present]}
        await send(message)

    return sending


def _origin(source: RequestOrigin) -> str:
    """Return the origin as a browser writes it: without the scheme's default port."""
    return f"{source.scheme}://{source.host.removesuffix(_USUAL_PORTS.get(source.scheme, ''))}"


def _without_port(host: str) -> str:
    """Return the host without its port. An invalid port stays, so that the result is no known name."""
    name, _, port = host.rpartition(":")
    return name if re.fullmatch("[0-9]{0,5}", port) and int(port or 0) <= _LAST_PORT else host


async def _ask_to_log_in(scope: Any, headers: dict[bytes, bytes], send: Send) -> None:
    """Redirect a person to the login page; answer a program with a problem."""
    if not wants_page(headers) or scope["method"] not in ("GET", "POST"):
        await send_problem(Unauthorized("The request has neither the secret of this service nor a token"), send)
        return
    query = scope["query_string"].decode("latin-1")
    wanted = scope["path"] + (f"?{query}" if query else "")
    parameters = []
    if scope["path"] == "/logout":  # already logged out
        wanted = "/"
    elif scope["method"] == "POST":  # a form that was sent after its session had ended
        wanted, parameters = _page_before(headers), ["unsent=1"]
    elif b"cookie" not in headers and _page_before(headers).partition("?")[0] == "/login":
        parameters = ["cookie=off"]  # the login has just set one
    asked = "&".join([f"next={quote(wanted, safe='/')}"] * (wanted != "/") + parameters)
    location = f"/login?{asked}" if asked else "/login"
    await send({"type": "http.response.start", "status": 303, "headers": [(b"location", location.encode())]})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _page_before(headers: dict[bytes, bytes]) -> str:
    """Return the page that a form was sent from, by `Referer`. `/login` checks that it is ours."""
    try:
        referer = urlsplit(headers.get(b"referer", b"").decode("latin-1"))
    except ValueError:
        return "/"
    return f"{referer.path or '/'}?{referer.query}" if referer.query else referer.path or "/"
