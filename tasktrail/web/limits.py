"""The page Limits: the limits and where each comes from, the pauses that hold, and the forms to change both."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter
from msgspec.structs import replace

from ..actors.core.limits import BYTE_LIMITS, LIMIT_TABLES, UNLIMITED, LimitChanges, Limits, Pause, effective_limits
from ..actors.core.state import SchedulerState
from ..api.served import Served
from ..api.source import folded_orders
from ..config.load import keys
from ..errors import UnknownRoute
from ..events import Recorded, TasktrailError
from ..events.commands import DrainQueue, PauseQueue, ResumeQueue, SetLimits
from ..events.errors import Malformed
from ..http.identity import Identity
from ..http.permissions import OPERATE, SEE_ALL
from ..words import size, unlimited
from .acting import act, sent
from .fields import FormFields
from .forms import UNTRIED, Form, SentForm, described_fields, wrong_fields
from .page import Page

_TABLES = frozenset({*LIMIT_TABLES.values(), "rates", "windows"})
_KEYS = {"types": "type_limits", "users": "user_limits", "labels": "label_limits"}
"""Limits that have another name in the configuration."""
_CONFIGURED = {key.name: key for key in keys()}
_CHANGE = Form(
    {
        "limits": FormFields(SetLimits, [name for name in described_fields(SetLimits) if name != "reset"]),
        "reason": FormFields(SetLimits, ("reason",)),
    }
)
_SCOPE = Form({"scope": FormFields(PauseQueue, ("type", "user_id", "reason"), prefix="pause.")})
OrderPath = Annotated[str, PathParameter(description="pause, drain or resume")]
_ORDERS: dict[str, tuple[type[PauseQueue | DrainQueue | ResumeQueue], str]] = {
    "pause": (PauseQueue, "is paused"),
    "drain": (DrainQueue, "is being drained"),
    "resume": (ResumeQueue, "goes on"),
}


class LimitRow(msgspec.Struct, frozen=True, kw_only=True):
    """One limit that holds."""

    name: str
    about: str
    """The type, user or label to which it applies; empty if it applies to all."""
    meaning: str
    value: str
    change: Recorded | None
    """The record by which an operator set it; None if it is configured."""
    key: str
    """Its name in the configuration."""
    by_default: bool
    """Whether the configuration leaves it at its default."""


class LimitsNow(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the page."""

    rows: list[LimitRow]
    pauses: tuple[Pause, ...]
    changed: bool
    """Whether operators have changed any configured limit."""


@get("/limits", needs=SEE_ALL)
async def limits(page: NamedDependency[Page]) -> Response[str]:
    """Show the limits."""
    return await _answer(page)


@post("/limits", needs=OPERATE)
async def change_limits(
    request: Request[Any, Any, Any], page: NamedDependency[Page], who: NamedDependency[Identity]
) -> Response[Any]:
    """Change the limits that were filled in; those left empty stay as they are."""
    page.present()
    typed = await sent(request)
    values, errors = _CHANGE.read(typed, page.now)
    if errors:
        return await _answer(page, change=SentForm(typed, errors))
    if not values["limits"]:
        return await _answer(page, change=SentForm(typed, problem=_NOTHING))
    try:
        accepted = await act(page.backend, who, SetLimits, {**values["limits"], **values["reason"]})
    except TasktrailError as error:
        return await _answer(page, change=_CHANGE.refused(typed, error))
    return page.redirect("/limits", flash=f"The limits are changed, from position {accepted.position} on.")


_NOTHING = Malformed("Nothing was filled in, so nothing was changed", remedy="Fill in what is to be changed.")


@post("/limits/reset", needs=OPERATE)
async def reset_limits(
    request: Request[Any, Any, Any], page: NamedDependency[Page], who: NamedDependency[Identity]
) -> Response[Any]:
    """Forget the operators' changes, so that the configuration holds again."""
    page.present()
    typed = await sent(request)
    accepted = await act(page.backend, who, SetLimits, {"reset": True, "reason": typed.get("reason", "")})
    return page.redirect("/limits", flash=f"The configuration holds again, from position {accepted.position} on.")


@post("/limits/{order:str}", needs=OPERATE)
async def order_queue(
    request: Request[Any, Any, Any], page: NamedDependency[Page], who: NamedDependency[Identity], order: OrderPath
) -> Response[Any]:
    """Pause, drain or resume everything, a type or a user."""
    page.present()
    if order not in _ORDERS:
        raise UnknownRoute(f"There is no page at {page.path}")
    kind, done = _ORDERS[order]
    typed = await sent(request)
    values, errors = _SCOPE.read(typed, page.now)
    if errors:
        return await _answer(page, scope=SentForm(typed, errors))
    left_out = ("type", "user_id") if kind is DrainQueue else ()
    scope = {name: value for name, value in values["scope"].items() if name not in left_out}
    try:
        accepted = await act(page.backend, who, kind, scope)
    except TasktrailError as error:
        return await _answer(page, scope=_SCOPE.refused(typed, error))
    return page.redirect("/limits", flash=f"{_about(scope)} {done}, from position {accepted.position} on.")


def _about(scope: Mapping[str, Any]) -> str:
    if "type" in scope:
        return f"The type {scope['type']}"
    return f"The work of user {scope['user_id']}" if "user_id" in scope else "The queue"


async def _answer(page: Page, *, change: SentForm = UNTRIED, scope: SentForm = UNTRIED) -> Response[str]:
    shown, pausing = _CHANGE.shown(change), _SCOPE.shown(scope)
    types = [("", "any type"), *((task_type.name, task_type.name) for task_type in page.whole.source.registry)]
    pausing["scope"][0] = replace(pausing["scope"][0], control="choice", choices=types)
    look = page.backend.bulk if page.past else page.backend.ask
    return page.answer(
        "limits.html",
        status=max(change.status, scope.status),
        limits=await look(_limits, page),
        change=shown,
        pausing=pausing,
        wrong=wrong_fields({**shown, **pausing}),
        problem=change.problem or scope.problem,
        may_change=not page.past and page.may(OPERATE),
    )


def _limits(page: Page) -> LimitsNow:
    """Return the limits that hold, or held. The earlier configuration is not recorded, so today's is used."""

    def now(state: SchedulerState, _now: datetime) -> tuple[Limits, LimitChanges, tuple[Pause, ...]]:
        changes = state.durable.limit_changes
        places = {name: dict(found) for name, found in changes.positions.items()}
        return state.configured, LimitChanges(changes.merged, places), state.durable.pauses.all()

    configured, changes, pauses = page.whole.source.state(now)
    if page.past:
        orders = folded_orders(page.whole.source.log(), page.past.position)
        changes, pauses = orders.limit_changes, orders.pauses.all()
    holds = effective_limits(configured, changes.merged)
    rows: list[LimitRow] = []
    for name in Limits.__struct_fields__:
        value = getattr(holds, name)
        parts = sorted(value.items()) if name in _TABLES else [("", value)]
        rows += [_row(page.whole, changes, name, about, one) for about, one in parts]
    return LimitsNow(rows=rows, pauses=pauses, changed=any(changes.positions.values()))


def _row(service: Served, changes: LimitChanges, name: str, about: str, value: Any) -> LimitRow:
    key = _CONFIGURED.get(_KEYS.get(name, name))
    positions = changes.set_at(name, about)
    return LimitRow(
        name=name,
        about=about,
        meaning=key.rule.says if key else "",
        value=_in_words(name, value),
        change=next(service.log(positions[0] - 1, 1), None) if positions else None,
        key=key.name if key else "",
        by_default=key is None or getattr(service.config, key.name) == key.default,
    )


def _in_words(name: str, value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int() if name in BYTE_LIMITS:
            return unlimited(name) if value in (0, UNLIMITED) else size(value)
        case 0:
            return "no limit"
        case int() | float():
            return f"{value:g} %" if name == "max_cpu" else f"{value:g}"
        case tuple():
            return ", ".join(value)
        case _:
            return str(value)


ROUTES = (limits, change_limits, reset_limits, order_queue)
