"""The application: routes, errors and description put together."""

from collections.abc import Iterator, Sequence

from litestar import Litestar, Response
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler

from .. import __version__
from . import about, commands, history, notices, operations, retrying, tasks
from .decode import MAX_BODY
from .desk import Desk
from .openapi import config
from .parameters import known_only, possible_task
from .problems import HANDLERS


def build_app(desk: Desk) -> Litestar:
    """An ASGI application that answers from `desk`. Whoever runs it closes the desk."""
    routes = [
        *commands.ROUTES,
        *retrying.ROUTES,
        *tasks.ROUTES,
        *operations.ROUTES,
        *notices.ROUTES,
        *history.ROUTES,
        *about.ROUTES,
    ]
    return Litestar(
        route_handlers=[*_options_routes(routes), *routes],
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        guards=[known_only, possible_task],
        openapi_config=config(__version__),
        logging_config=None,  # Litestar's own would replace the handlers of the root logger
        request_max_body_size=MAX_BODY,
    )


def _options_routes(routes: Sequence[HTTPRouteHandler]) -> Iterator[HTTPRouteHandler]:
    """What answers OPTIONS, to be registered first. Litestar's own names the methods of one handler of a path only."""
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
        path, http_method="OPTIONS", status_code=204, include_in_schema=False, sync_to_thread=False
    )(options)
