"""CSRF protection: no foreign page can make a logged-in browser change anything, even if it passes the other checks.

A changing request of a session has to carry a token that only the pages of that session know: in the field `csrf` of a
form, or in the header `X-CSRF-Token`. The cookie alone is not enough, because a browser adds it by itself.
"""

from hmac import compare_digest
from typing import TYPE_CHECKING, Any

from litestar import Request
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from ..errors import WrongOrigin
from .requests import read_form

if TYPE_CHECKING:
    from .identity import Identity

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"
FIELD = "csrf"
HEADER = "x-csrf-token"


async def from_own_page(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """Guard of all routes: check the CSRF token of a session's request. Raises `WrongOrigin`."""
    who: Identity | None = connection.scope["state"]["who"]
    if who is None or who.way != "session" or connection.scope.get("method") in _SAFE:
        return
    carried = connection.headers.get(HEADER, "")
    if not carried and isinstance(connection, Request):
        kind = connection.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind == _FORM and not connection.url.path.startswith("/v1/"):  # programs send no forms
            carried = str((await read_form(connection)).get(FIELD, ""))
    if not compare_digest(carried.encode("utf-8", "replace"), who.csrf.encode()):
        raise WrongOrigin(
            "The request lacks the CSRF token of this session",
            field=FIELD,
            remedy="Load the page again, and send its form once more.",
        )
