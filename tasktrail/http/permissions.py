"""What each role may do. Every route names what it needs, as in `@get("/v1/queue", needs=SEE)`; one without is shut.

docs/reference/access.md shows the same as a table.
"""

from collections.abc import Iterator
from typing import Any

import msgspec
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute
from msgspec.structs import replace

from ..errors import Forbidden
from ..events import AdjustTask, CancelTask, Command, CreateTask, EnableEndpoint, RedeliverNotice, RetryTask, StartTask
from ..events.commands import (
    AddSchedule,
    AddSource,
    AddToken,
    CreateGraph,
    DrainNode,
    DrainQueue,
    EraseUser,
    PauseQueue,
    PauseSource,
    RemoveSchedule,
    RemoveSource,
    ResumeQueue,
    ResumeSource,
    RevokeToken,
    SaveCheckpoint,
    SetLimits,
    UndrainNode,
)
from ..events.system_events import Role
from ..intake.examination import refuse_control
from .identity import OWNER, Identity


class Need(msgspec.Struct, frozen=True):
    """What a route needs of whoever asks."""

    roles: frozenset[Role] = frozenset()
    whole: bool = False
    """It is about more than the tasks of one user, so nobody who is bound to one may ask."""
    nobody: bool = False
    """It answers whoever asks, also somebody whom nobody knows."""


def _need(*roles: Role, whole: bool = False) -> Need:
    return Need(frozenset({*roles, "admin"}), whole)


PUBLIC = Need(nobody=True)
"""Where one logs in, and what shows nothing."""
SEE = _need("reader", "submitter", "operator", "auditor")
"""Tasks and what belongs to them: of one's own user only, if one is bound."""
SEE_ALL = _need("reader", "submitter", "operator", "auditor", whole=True)
"""What belongs to no user."""
SUBMIT = _need("submitter", "operator")
"""New tasks, and to start, cancel and retry them."""
STEER = _need("operator")
"""To change how tasks wait, and who is told of them."""
OPERATE = _need("operator", whole=True)
"""To change how the service works for everybody."""
AUDIT = _need("operator", "auditor", whole=True)
"""To check the whole log."""
ADMINISTER = _need(whole=True)
"""To say who may do what."""
LIST_TOKENS = _need("auditor", whole=True)
"""To know who may do what."""
COMMAND_NEEDS: dict[type[Command], Need] = {
    CreateTask: SUBMIT,
    CreateGraph: SUBMIT,
    StartTask: SUBMIT,
    CancelTask: SUBMIT,
    RetryTask: SUBMIT,
    SaveCheckpoint: SUBMIT,
    AdjustTask: STEER,
    RedeliverNotice: STEER,
    EnableEndpoint: OPERATE,
    SetLimits: OPERATE,
    PauseQueue: OPERATE,
    ResumeQueue: OPERATE,
    DrainQueue: OPERATE,
    AddSchedule: OPERATE,
    RemoveSchedule: OPERATE,
    AddToken: ADMINISTER,
    RevokeToken: ADMINISTER,
    EraseUser: ADMINISTER,
    AddSource: OPERATE,
    RemoveSource: OPERATE,
    PauseSource: OPERATE,
    ResumeSource: OPERATE,
    DrainNode: OPERATE,
    UndrainNode: OPERATE,
}
"""What it takes to send a command, whichever way it comes."""


CHANGES = frozenset({SUBMIT, STEER, OPERATE, ADMINISTER})
"""What a reader of the log refuses to everybody."""


def allows(who: Identity | None, need: Need) -> bool:
    """Whether `who` may do what needs this."""
    if need.nobody:
        return True
    return who is not None and who.role in need.roles and not (need.whole and who.user_id is not None)


def check_permission(who: Identity | None, need: Need | None, what: str) -> None:
    """Raises `Forbidden` unless `who` may do `what`."""
    if need is None:  # forgotten, so nobody may
        raise Forbidden(f"Nobody may {what}: the route does not say what it needs")
    if allows(who, need):
        return
    if who is None or who.role not in need.roles:
        known = f"The role {who.role} of {who.name}" if who else "Whoever nobody knows"
        raise Forbidden(f"{known} may not {what}")
    raise Forbidden(f"{who.name} is bound to user {who.user_id} and may not {what}: it is about all tasks")


def authorized(who: Identity, command: Command) -> Command:
    """The command as `who` may send it: under its own name, and about its own user. Raises `Forbidden`, `InvalidValue`.

    Whoever bypasses this bypasses all rules: it is called in one place, `Backend.send`.
    """
    check_permission(who, COMMAND_NEEDS.get(type(command)), str(type(command).__struct_config__.tag))
    if not who.owner:
        refuse_control(command.actor, "actor")  # its own name takes the place, and yet it has to be as described
        command = replace(command, actor=who.name)
    elif not command.actor:
        command = replace(command, actor=OWNER)
    if who.user_id is None:
        return command
    match command:
        case CreateTask():
            return replace(command, user_id=_own(who, command.user_id))
        case CreateGraph():
            tasks = tuple(replace(task, user_id=_own(who, task.user_id)) for task in command.tasks)
            return replace(command, tasks=tasks)
    return command


def _own(who: Identity, wanted: int) -> int:
    """The user of a new task. Zero stands for nobody, so it is filled in."""
    assert who.user_id is not None
    if wanted not in (0, who.user_id):
        raise Forbidden(
            f"{who.name} is bound to user {who.user_id} and makes no tasks of user {wanted}", field="user_id"
        )
    return who.user_id


def permitted(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """The guard of all routes."""
    who: Identity | None = connection.scope["state"]["who"]
    method = str(connection.scope.get("method", ""))
    try:
        check_permission(who, handler.opt.get("needs"), f"{method} {connection.url.path}")
    except Forbidden as error:
        if who is not None and method == "POST":  # who reads changes nothing, and whom nobody knows is not recorded
            route = f"{method} {connection.scope['path_template']}"
            connection.app.state["backend"].service.note_refused_route(who.name, route, error)
        raise
    refusal = connection.app.state["backend"].service.refusal
    if refusal is not None and handler.opt.get("needs") in CHANGES:
        raise refusal


def handlers_of(app: Litestar) -> Iterator[tuple[str, str, BaseRouteHandler]]:
    """Path, method and handler of all routes."""
    for route in app.routes:
        if isinstance(route, HTTPRoute):
            for method, (handler, _kwargs) in route.route_handler_map.items():
                yield route.path, str(method), handler


def public_paths(app: Litestar) -> tuple[frozenset[str], tuple[str, ...]]:
    """The paths that answer everybody: whole ones, and beginnings of those with a part that varies."""
    paths = {path for path, _method, handler in handlers_of(app) if handler.opt.get("needs") == PUBLIC}
    varied = {path for path in paths if "{" in path}
    return frozenset(paths - varied), tuple(sorted({path.partition("{")[0] for path in varied}))
