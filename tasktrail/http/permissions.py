"""The permissions of each role. Every route names its need, as in `@get("/v1/queue", needs=SEE)`; else it is closed.

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
    """The permission that a route needs."""

    roles: frozenset[Role] = frozenset()
    whole: bool = False
    """Whether it concerns more than one user's tasks, so that no one who is bound to a user may ask."""
    nobody: bool = False
    """Whether it answers everyone, without any credential."""


def _need(*roles: Role, whole: bool = False) -> Need:
    return Need(frozenset({*roles, "admin"}), whole)


PUBLIC = Need(nobody=True)
"""The login page, and routes that reveal nothing."""
SEE = _need("reader", "submitter", "operator", "auditor")
"""To see tasks and what belongs to them; only one user's, for a caller that is bound to that user."""
SEE_ALL = _need("reader", "submitter", "operator", "auditor", whole=True)
"""To see what belongs to no user."""
SUBMIT = _need("submitter", "operator")
"""To create tasks, and to start, cancel and retry them."""
STEER = _need("operator")
"""To change how tasks wait, and to send their notices again."""
OPERATE = _need("operator", whole=True)
"""To change how the service works for everyone."""
AUDIT = _need("operator", "auditor", whole=True)
"""To check the whole log."""
ADMINISTER = _need(whole=True)
"""To define who may do what."""
LIST_TOKENS = _need("auditor", whole=True)
"""To see who may do what."""
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
"""The need of each command, whichever way it comes in."""


CHANGES = frozenset({SUBMIT, STEER, OPERATE, ADMINISTER})
"""The needs that a reader of the log refuses to everyone."""


def allows(who: Identity | None, need: Need) -> bool:
    """Whether `who` may do what has this need."""
    if need.nobody:
        return True
    return who is not None and who.role in need.roles and not (need.whole and who.user_id is not None)


def check_permission(who: Identity | None, need: Need | None, what: str) -> None:
    """Raise `Forbidden` unless `who` may do `what`."""
    if need is None:  # forgotten, so the route is closed
        raise Forbidden(f"No one may {what}: the route does not say what it needs")
    if allows(who, need):
        return
    if who is None or who.role not in need.roles:
        caller = f"The role {who.role} of {who.name}" if who else "An unknown caller"
        raise Forbidden(f"{caller} may not {what}")
    raise Forbidden(f"{who.name} is bound to user {who.user_id} and may not {what}: it is about all tasks")


def authorized(who: Identity, command: Command) -> Command:
    """Return the command as `who` may send it: with its name as the actor, for its own user.

    Raises `Forbidden` and `InvalidValue`. Every command over HTTP passes here, through `_allowed` in `backend.py`.
    """
    check_permission(who, COMMAND_NEEDS.get(type(command)), str(type(command).__struct_config__.tag))
    if not who.owner:
        refuse_control(command.actor, "actor")  # it is replaced, but still has to be as described
        command = replace(command, actor=who.name)
    elif not command.actor:
        command = replace(command, actor=OWNER)
    if who.user_id is None:
        return command
    match command:
        case CreateTask():
            return replace(command, user_id=user_of_new_task(who, command.user_id))
        case CreateGraph():
            tasks = tuple(replace(task, user_id=user_of_new_task(who, task.user_id)) for task in command.tasks)
            return replace(command, tasks=tasks)
    return command


def user_of_new_task(who: Identity, wanted: int) -> int:
    """Return the user of a new task. Zero means no user, so it is replaced by the caller's own. Raises `Forbidden`."""
    if who.user_id is None:
        return wanted
    if wanted not in (0, who.user_id):
        raise Forbidden(
            f"{who.name} is bound to user {who.user_id} and makes no tasks of user {wanted}", field="user_id"
        )
    return who.user_id


def permitted(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of all routes: check the permission that the route needs."""
    who: Identity | None = connection.scope["state"]["who"]
    method = str(connection.scope.get("method", ""))
    try:
        check_permission(who, handler.opt.get("needs"), f"{method} {connection.url.path}")
    except Forbidden as error:
        if who is not None and method == "POST":  # reading changes nothing, and refusals of strangers are not recorded
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
    """Return the paths that need no credential: fixed ones, and the prefixes of those with a variable part."""
    paths = {path for path, _method, handler in handlers_of(app) if handler.opt.get("needs") == PUBLIC}
    varied = {path for path in paths if "{" in path}
    return frozenset(paths - varied), tuple(sorted({path.partition("{")[0] for path in varied}))
