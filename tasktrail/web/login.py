"""Logging a browser in and out: with an address that works once, or with the secret or a token in a form."""

from string import punctuation
from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from ..errors import Unauthorized
from ..http.access import Access
from ..http.permissions import PUBLIC, SEE
from ..http.requests import MAX_LOGIN, read_form
from .page import HEADERS, templates

NextQuery = Annotated[str, QueryParameter(description="Where to go afterwards")]
CookieQuery = Annotated[str, QueryParameter(description="`off`: the browser has not kept the one it was given")]
UnsentQuery = Annotated[bool, QueryParameter(description="A form was sent when its session had ended")]
CodeQuery = Annotated[str | None, QueryParameter(description="Of an address that works once")]
_UNSENT = "Nothing was done: your session had ended. Log in, and send the form again."
_NOT_KEPT = (
    "You were logged in, but this browser did not keep the cookie. Allow cookies for this address. "
    "Behind a proxy that sends X-Forwarded-Proto: https, open the page by https."
)
Browser = Request[Any, Any, Any]


def local(path: str) -> str:
    """Return the path if it is one of this service, else `/`: anyone may have put it into the address."""
    plain = path.startswith("/") and path[1:2] != "/" and path.isprintable() and "\\" not in path
    return path if plain else "/"


def _to(path: str, cookie: str) -> Response[None]:
    location = quote(path, safe=punctuation)  # what is escaped already stays so
    return Response(None, status_code=303, headers={**HEADERS, "location": location, "set-cookie": cookie})


def _form(next_path: str, status: int = 200, message: str = "") -> Response[str]:
    text = templates.get_template("login.html").render(next_path=next_path, message=message)
    return Response(text, status_code=status, media_type="text/html", headers=HEADERS)


@get("/login", needs=PUBLIC)
async def login_page(
    request: Browser,
    access: NamedDependency[Access],
    code: CodeQuery = None,
    next: NextQuery = "/",  # noqa: A002 - the parameter's name
    unsent: UnsentQuery = False,  # noqa: FBT002 - of an address
    cookie: CookieQuery = "",
) -> Response[Any]:
    """Show the login page. With a valid code, log in at once."""
    if code is None:
        return _form(local(next), message=_UNSENT if unsent else _NOT_KEPT if cookie == "off" else "")
    who = access.redeem(code)
    if who is None:
        await access.failed.note(request.scope["client"][0] if request.scope["client"] else "", "address")
        return _form(local(next), 401, "This address was already used, or has expired.")
    return _to(local(next), access.session_cookie(who.credential, secure=request.scope["scheme"] == "https"))


@post("/login", needs=PUBLIC, status_code=303, request_max_body_size=MAX_LOGIN)
async def log_in(request: Browser, access: NamedDependency[Access]) -> Response[Any]:
    """Log in with the secret of the data folder, or with a token."""
    form = await read_form(request)
    next_path = local(str(form.get("next", "/")))
    try:
        who = access.shown(str(form.get("token", "")).strip().encode("utf-8", "replace"))
    except Unauthorized:
        await access.failed.note(request.scope["client"][0] if request.scope["client"] else "", "form")
        return _form(next_path, 401, "This token is not valid here.")
    return _to(next_path, access.session_cookie(who.credential, secure=request.scope["scheme"] == "https"))


@post("/logout", needs=SEE, status_code=303)
async def log_out(request: Browser, access: NamedDependency[Access]) -> Response[None]:
    """End the session. Other windows that still follow pages in it are cut off within a second."""
    request.scope["state"]["connection"].who = None  # this connection stays until the answer has come
    headers = dict(request.scope["headers"])
    return _to("/login", access.end_session(headers, secure=request.scope["scheme"] == "https"))


ROUTES = (login_page, log_in, log_out)
