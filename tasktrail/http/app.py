"""The application: routes, errors and description put together."""

from litestar import Litestar
from litestar.di import Provide

from .. import __version__
from . import about, commands, history, notices, operations, retrying, tasks
from .decode import MAX_BODY
from .desk import Desk
from .openapi import config
from .parameters import known_only, possible_task
from .problems import HANDLERS


def build_app(desk: Desk) -> Litestar:
    """An ASGI application that answers from `desk`. Whoever runs it closes the desk."""
    return Litestar(
        route_handlers=[
            *commands.ROUTES,
            *retrying.ROUTES,
            *tasks.ROUTES,
            *operations.ROUTES,
            *notices.ROUTES,
            *history.ROUTES,
            *about.ROUTES,
        ],
        dependencies={"desk": Provide(lambda: desk, sync_to_thread=False)},
        exception_handlers=HANDLERS,
        guards=[known_only, possible_task],
        openapi_config=config(__version__),
        logging_config=None,  # Litestar's own would replace the handlers of the root logger
        request_max_body_size=MAX_BODY,
    )
