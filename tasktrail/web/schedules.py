"""The page Schedules: recurring tasks and their next runs, and the forms to add and to remove a schedule."""

from datetime import datetime
from itertools import islice
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.di import NamedDependency

from ..actors.core.schedules import Schedule, times_after
from ..actors.core.state import SchedulerState
from ..api.protocol import TypeInfo
from ..api.reader import type_info
from ..api.source import folded_orders
from ..events import TasktrailError
from ..events.commands import AddSchedule, RemoveSchedule
from ..events.system_events import ScheduleAdded
from ..http.identity import Identity
from ..http.permissions import OPERATE, SEE_ALL
from .acting import act, sent
from .fields import FormFields
from .forms import UNTRIED, Form, SentForm, filled_fields, task_sections, wrong_fields
from .page import Page, TypePath

_SHOWN = 3
"""The number of next runs shown for each schedule."""
_WHEN = ("schedule", "cron", "every", "timezone", "starting_at", "missed", "max_missed")


class ScheduleRow(msgspec.Struct, frozen=True, kw_only=True):
    """One schedule, as the page shows it."""

    spec: ScheduleAdded
    added_at: datetime
    actor: str
    position: int
    runs: int | None
    """None: unknown at that moment."""
    next_at: list[datetime]


@get("/schedules", needs=SEE_ALL)
async def schedules(page: NamedDependency[Page]) -> Response[str]:
    """Show the schedules."""
    look = page.backend.bulk if page.past else page.backend.ask
    types = [task_type.name for task_type in page.whole.source.registry]
    may_change = not page.past and page.may(OPERATE)
    return page.answer("schedules.html", rows=await look(_rows, page), types=types, may_change=may_change)


@get("/schedules/add/{task_type:str}", needs=OPERATE)
async def schedule_form(page: NamedDependency[Page], task_type: TypePath) -> Response[str]:
    """Show the form for a schedule whose tasks are of one type."""
    info, form = await page.ask(_form, page, task_type)
    return await _answer(page, info, form)


@post("/schedules/add/{task_type:str}", needs=OPERATE)
async def save_schedule(
    request: Request[Any, Any, Any], page: NamedDependency[Page], who: NamedDependency[Identity], task_type: TypePath
) -> Response[Any]:
    """Add the schedule."""
    page.present()
    info, form = await page.ask(_form, page, task_type)
    typed = await sent(request)
    values, errors = form.read(typed, page.now)
    if errors:
        return await _answer(page, info, form, SentForm(typed, errors))
    task = {"type": task_type, **filled_fields(values)}
    try:
        accepted = await act(page.backend, who, AddSchedule, {**values["when"], **values["reason"], "task": task})
    except TasktrailError as error:
        return await _answer(page, info, form, form.refused(typed, error))
    name = values["when"]["schedule"]
    return page.redirect("/schedules", flash=f"The schedule {name} is added, at position {accepted.position}.")


@post("/schedules/remove", needs=OPERATE)
async def delete_schedule(
    request: Request[Any, Any, Any], page: NamedDependency[Page], who: NamedDependency[Identity]
) -> Response[Any]:
    """Remove a schedule. Its name is in the form, not in the address, because it may contain anything."""
    page.present()
    typed = await sent(request)
    fields = {"schedule": typed.get("schedule", ""), "reason": typed.get("reason", "")}
    accepted = await act(page.backend, who, RemoveSchedule, fields)
    message = f"The schedule {fields['schedule']} has ended, at position {accepted.position}."
    return page.redirect("/schedules", flash=message)


def _form(page: Page, task_type: str) -> tuple[TypeInfo, Form]:
    """Return the type and the form for a schedule of its tasks. Raises `UnknownType`."""
    found = page.whole.source.registry.get(task_type)
    info = type_info(found)
    return info, Form({"when": FormFields(AddSchedule, _WHEN), **task_sections(info, found.options, once=False)})


async def _answer(page: Page, info: TypeInfo, form: Form, tried: SentForm = UNTRIED) -> Response[str]:
    sections = form.shown(tried)
    return page.answer(
        "schedule_add.html",
        status=tried.status,
        info=info,
        sections=sections,
        wrong=wrong_fields(sections),
        problem=tried.problem,
    )


def _rows(page: Page) -> list[ScheduleRow]:
    """The schedules, by name."""
    if page.past:
        then = folded_orders(page.whole.source.log(), page.past.position).schedules.by_name
        return [_row(one, page.past.at, None) for _, one in sorted(then.items())]

    def now(state: SchedulerState, _now: datetime) -> list[ScheduleRow]:
        known = sorted(state.durable.schedules.by_name.items())
        return [_row(one, one.done_until, one.runs) for _, one in known]

    return page.whole.source.state(now)


def _row(schedule: Schedule, after: datetime, runs: int | None) -> ScheduleRow:
    return ScheduleRow(
        spec=schedule.spec,
        added_at=schedule.added_at,
        actor=schedule.actor,
        position=schedule.position,
        runs=runs,
        next_at=list(islice(times_after(schedule.spec, after), _SHOWN)),
    )


ROUTES = (schedules, schedule_form, save_schedule, delete_schedule)
