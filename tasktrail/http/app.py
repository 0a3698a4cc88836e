"""The application: the routes put together, what answers OPTIONS, and the description at /openapi.json."""

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, get_args

import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from .. import __version__
from ..events import Accepted, Command, CreateTask
from . import commands, login, queries
from .access import Access
from .backend import Backend
from .commands import RetryTasks
from .csrf import from_own_page
from .identity import Identity
from .permissions import SEE, permitted
from .problems import HANDLERS, MEDIA_TYPE
from .requests import MAX_BODY, known_only, possible_task

ROUTES: Sequence[HTTPRouteHandler] = (*commands.COMMAND_ROUTES, *queries.QUERY_ROUTES, login.login_address)
"""Those for programs; the pages have theirs in `web/`."""


def build_app(backend: Backend, access: Access) -> Litestar:
    """An ASGI application that answers from `backend`. The caller closes the backend."""
    from ..web.live import Hub  # the pages are built on this folder
    from ..web.page import refused_anywhere
    from ..web.routes import page_router

    return Litestar(
        route_handlers=[*_options_routes(ROUTES), *ROUTES, page_router()],
        dependencies={
            "backend": Provide(lambda: backend, sync_to_thread=False),
            "access": Provide(lambda: access, sync_to_thread=False),
            "who": Provide(_who, sync_to_thread=False),
        },
        exception_handlers={**HANDLERS, HTTPException: refused_anywhere},
        guards=[permitted, from_own_page, known_only, possible_task],
        openapi_config=openapi_config(__version__),
        state=State({"backend": backend, "hub": Hub(backend), "activity": {}, "standings": {}, "checks": set()}),
        logging_config=None,  # Litestar's own would replace the handlers of the root logger
        request_max_body_size=MAX_BODY,
    )


def _who(request: Request[Any, Any, Any]) -> Identity:
    who: Identity = request.scope["state"]["who"]
    return who


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
        path, http_method="OPTIONS", status_code=204, include_in_schema=False, sync_to_thread=False, needs=SEE
    )(options)


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). `code` is stable; `remedy` says what to do."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    field: str
    """The argument at fault, when there is one."""
    remedy: str


_COMMANDS: tuple[type[msgspec.Struct], ...] = get_args(Command)
_REF = "#/components/schemas/{name}"
_SCHEMAS, _COMPONENTS = msgspec.json.schema_components((*_COMMANDS, RetryTasks, Accepted, Problem), ref_template=_REF)


def _one_of(*names: str) -> dict[str, Any]:
    return {"oneOf": [{"$ref": _REF.format(name=name)} for name in names]}


_ANY_COMMAND = _one_of(*(command.__name__ for command in _COMMANDS))


def _fields_of(kind: type[msgspec.Struct], named: Collection[str] = ()) -> dict[str, Any]:
    """The body of a route of that command. It need not hold the command's name, nor what the path names."""
    whole = _COMPONENTS[kind.__name__]
    needed = [name for name in whole.get("required", ()) if name not in ("command", *named)]
    return (
        {**whole, "required": needed} if needed else {name: part for name, part in whole.items() if name != "required"}
    )


_BODIES: dict[str, dict[str, Any]] = {
    "/v1/commands": {"oneOf": [_ANY_COMMAND, {"type": "array", "items": _ANY_COMMAND}]},
    "/v1/tasks": _fields_of(CreateTask),
    "/v1/tasks/retry": _one_of("RetryTasks"),
    **{
        re.sub(r":\w+}", "}", path): _fields_of(kind, re.findall(r"{(\w+):", path))
        for path, kind in commands.COMMANDS.items()
    },
}
_MANY_ANSWERS = {"oneOf": [_one_of("Accepted"), {"type": "array", "items": _one_of("Accepted", "Problem")}]}

_LOCATION = {"Location": {"description": "Where the new task is, if it is one", "schema": {"type": "string"}}}


_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}


def _answers_of(path: str) -> dict[str, Any]:
    """How a route answers whoever may not use it, or asks for what is not there."""
    if path == "/healthz":
        return {}
    told = {"401": "Nobody knows who asks", "403": "Who asks may not do this", "429": "Too many requests"}
    if "{" in path:
        told["404"] = "There is no such thing, or it is not for whoever asks"
    return {status: {"description": text, "content": _PROBLEM} for status, text in told.items()}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The whole description, made from Litestar's."""
    document["components"]["schemas"] |= _COMPONENTS
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token, or the secret of the data folder."}
    }
    document["security"] = [{"bearer": []}]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("400", None)
            operation["responses"]["default"] = {
                "description": "An error",
                "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
            }
            operation["responses"] |= _answers_of(path)
            if path == "/healthz":
                operation["security"] = []
            if method == "post" and path in _BODIES:
                operation["requestBody"] = {
                    "required": path == "/v1/commands" or "required" in _BODIES[path],
                    "content": {"application/json": {"schema": _BODIES[path]}},
                }
    for path in ("/v1/tasks", "/v1/commands"):
        document["paths"][path]["post"]["responses"]["202"]["headers"] = _LOCATION
    document["paths"]["/v1/commands"]["post"]["responses"]["202"]["content"] = {
        "application/json": {"schema": _MANY_ANSWERS}
    }
    return document


class Described(OpenAPIRenderPlugin):
    """Serves the description as JSON."""

    def __init__(self) -> None:
        super().__init__(path="/", media_type="application/json")  # type: ignore[arg-type]  # the RFC's, not Litestar's
        self._body = b""

    def render(self, _request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The description, made once."""
        if not self._body:
            self._body = msgspec.json.encode(described(msgspec.json.decode(msgspec.json.encode(openapi_schema))))
        return self._body


def openapi_config(version: str) -> OpenAPIConfig:
    """Litestar's settings. The plugin's own root is the address, so no other page of Litestar's appears."""
    return OpenAPIConfig(
        title="tasktrail",
        version=version,
        path="/openapi.json",
        render_plugins=[Described()],
        use_handler_docstrings=True,
        openapi_router=Router("/openapi.json", route_handlers=[], include_in_schema=False, opt={"needs": SEE}),
    )
