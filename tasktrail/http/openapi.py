"""The description at /openapi.json: Litestar's, with the bodies of commands and the errors that it cannot see."""

from typing import Any, get_args

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin

from ..events import Accepted, Command
from .problems import MEDIA_TYPE
from .retrying import RetryTasks


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
_BODIES: dict[str, Any] = {
    "/v1/commands": {"oneOf": [_ANY_COMMAND, {"type": "array", "items": _ANY_COMMAND}]},
    "/v1/tasks": _one_of("CreateTask"),
    "/v1/tasks/{task_id}/start": {"type": "object"},
    "/v1/tasks/{task_id}/cancel": {"type": "object"},
    "/v1/tasks/{task_id}/retry": {"type": "object"},
    "/v1/tasks/{task_id}/adjust": {"type": "object"},
    "/v1/queue/pause": {"type": "object"},
    "/v1/queue/resume": {"type": "object"},
    "/v1/queue/drain": {"type": "object"},
    "/v1/limits": _one_of("SetLimits"),
    "/v1/schedules": _one_of("AddSchedule"),
    "/v1/schedules/{schedule}/remove": {"type": "object"},
    "/v1/tasks/retry": _one_of("RetryTasks"),
    "/v1/tasks/{task_id}/redeliver": {"type": "object", "required": ["notice_id"]},
    "/v1/endpoints/enable": {"type": "object", "required": ["target"]},
}
_NEED_A_BODY = (
    "/v1/commands",
    "/v1/tasks",
    "/v1/limits",
    "/v1/schedules",
    "/v1/tasks/{task_id}/redeliver",
    "/v1/endpoints/enable",
)
_MANY_ANSWERS = {"oneOf": [_one_of("Accepted"), {"type": "array", "items": _one_of("Accepted", "Problem")}]}


def described(document: dict[str, Any]) -> dict[str, Any]:
    """The whole description, made from Litestar's."""
    document["components"]["schemas"] |= _COMPONENTS
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("400", None)
            operation["responses"]["default"] = {
                "description": "An error",
                "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
            }
            if method == "post":
                operation["requestBody"] = {
                    "required": path in _NEED_A_BODY,
                    "content": {"application/json": {"schema": _BODIES[path]}},
                }
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


def config(version: str) -> OpenAPIConfig:
    """Litestar's settings. The plugin's own root is the address, so no other page of Litestar's appears."""
    return OpenAPIConfig(
        title="tasktrail",
        version=version,
        path="/openapi.json",
        render_plugins=[Described()],
        use_handler_docstrings=True,
    )
