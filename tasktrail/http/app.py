"""The ASGI application: all routes, and the answers to OPTIONS."""

from collections.abc import Iterator, Sequence
from typing import Any

from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler, HTTPRouteHandler

from .. import __version__
from . import batches, commands, login, queries
from .access import Access
from .backend import Backend
from .csrf import from_own_page
from .description import OPENAPI, openapi_config
from .identity import Identity
from .permissions import SEE, permitted
from .problems import PROBLEM_HANDLERS
from .requests import MAX_BODY, known_only, possible_task

ROUTES: Sequence[HTTPRouteHandler] = (
    *commands.COMMAND_ROUTES,
    *batches.BATCH_ROUTES,
    *queries.QUERY_ROUTES,
    login.login_address,
)
"""The routes for programs; those of the pages are in `web/`."""


def build_app(backend: Backend, access: Access) -> Litestar:
    """An ASGI application that answers from `backend`. The caller closes the backend."""
    from ..web.live import Hub  # the pages are built on this folder
    from ..web.page import refused_anywhere
    from ..web.routes import page_router

    return Litestar(
        route_handlers=[*_options_routes(ROUTES), *ROUTES, page_router()],
        dependencies={
            "backend": Provide(lambda: backend, sync_to_thread=False),
            "access": Provide(_access, sync_to_thread=False),
            "who": Provide(_identity_of_request, sync_to_thread=False),
        },
        exception_handlers={**PROBLEM_HANDLERS, HTTPException: refused_anywhere},
        guards=[_checked],
        openapi_config=openapi_config(__version__, backend.service),
        state=State(
            {
                "backend": backend,
                "access": access,
                "hub": Hub(backend),
                "activity": {},
                "checks": set(),
                "routes": sorted({path for route in ROUTES for path in route.paths} | {OPENAPI}),
            }
        ),
        logging_config=None,  # Litestar's own would replace the handlers of the root logger
        request_max_body_size=MAX_BODY,
    )


# Litestar resolves independent dependencies concurrently, each in an asyncio task, which costs more than the rest of
# its work. So each dependency names the one before it.


def _access(request: Request[Any, Any, Any], backend: NamedDependency[Backend]) -> Access:  # noqa: ARG001 - see above
    access: Access = request.app.state["access"]
    return access


def _identity_of_request(request: Request[Any, Any, Any], access: NamedDependency[Access]) -> Identity:  # noqa: ARG001 - see above
    who: Identity = request.scope["state"]["who"]
    return who


async def _checked(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The only guard, for all routes: Litestar copies the handler for each guard.

    It is async, because Litestar runs a synchronous guard in a thread.
    """
    permitted(connection, handler)
    await from_own_page(connection, handler)
    known_only(connection, handler)
    possible_task(connection, handler)


def _options_routes(routes: Sequence[HTTPRouteHandler]) -> Iterator[HTTPRouteHandler]:
    """Yield the routes that answer OPTIONS, to be registered first: Litestar's own names one handler's methods only."""
    methods: dict[str, set[str]] = {}
    for route in routes:
        for path in route.paths:
            known = set(map(str, route.http_methods))
            methods.setdefault(path, {"OPTIONS"}).update(known | ({"HEAD"} if "GET" in known else set()))
    for path, allowed in methods.items():
        yield _allowing(path, ", ".join(sorted(allowed)))


def _allowing(path: str, allowed: str) -> HTTPRouteHandler:
    def options() -> Response[None]:
        return Response(None, headers={"Allow": allowed})

    return HTTPRouteHandler(
        path, http_method="OPTIONS", status_code=204, include_in_schema=False, sync_to_thread=False, needs=SEE
    )(options)
