"""The route that gives programs an address that logs a browser in. The page for people is in `web/login.py`."""

from typing import Any

import msgspec
from litestar import Request, post
from litestar.di import NamedDependency

from .access import Access
from .identity import Identity
from .permissions import SEE


class LoginAddress(msgspec.Struct, frozen=True):
    """An address that logs a browser in, once and within an hour."""

    address: str


@post("/v1/login", needs=SEE, status_code=200)
async def login_address(
    request: Request[Any, Any, Any], who: NamedDependency[Identity], access: NamedDependency[Access]
) -> LoginAddress:
    """An address that logs a browser in as the caller, once and within an hour. It names the service as they did."""
    return LoginAddress(request.scope["state"]["address"] + access.login_path(who.credential))
