"""Submitting: the task types to choose from, and the form for a new task of one of them."""

from typing import Annotated, Any

from litestar import Request, Response, get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from ..api.protocol import TypeInfo
from ..api.reader import type_info
from ..events import CreateTask, TasktrailError
from ..events.errors import CommandIdReused
from ..http.identity import Identity
from ..http.permissions import SUBMIT
from ..intake.conversion import new_command_id
from .acting import act, sent
from .forms import Form, SentForm, filled_fields, task_sections, task_typed, wrong_fields
from .page import Page, TypePath

LikeQuery = Annotated[int | None, QueryParameter(ge=1, description="Fill the form in as this task was asked for")]
PresetQuery = Annotated[str | None, QueryParameter(description="Fill in the options that this preset means")]


@get("/submit", needs=SUBMIT)
async def submit(page: NamedDependency[Page]) -> Response[str]:
    """Show the task types, each with a link to its form."""
    types = await page.ask(page.service.types)
    errors = await page.ask(page.service.handler_errors)
    return page.answer("submit.html", types=types, handler_errors=errors)


@get("/submit/{task_type:str}", needs=SUBMIT)
async def submit_form(
    page: NamedDependency[Page],
    who: NamedDependency[Identity],
    task_type: TypePath,
    like: LikeQuery = None,
    preset: PresetQuery = None,
) -> Response[str]:
    """Show the form for a new task."""
    info, form = await page.ask(_form, page, who, task_type)
    typed: dict[str, str] | None = None
    if preset:
        meant = page.backend.service.source.registry.presets.with_preset(CreateTask(type=task_type, preset=preset))
        typed = form.typed({"options": meant.options})
    elif like:
        typed = task_typed(await page.ask(page.service.get_task, like), form)
    return await _answer(page, info, form, SentForm(typed))


@post("/submit/{task_type:str}", needs=SUBMIT)
async def submit_task(
    request: Request[Any, Any, Any], page: NamedDependency[Page], who: NamedDependency[Identity], task_type: TypePath
) -> Response[Any]:
    """Create the task, and go to its page."""
    page.present()
    info, form = await page.ask(_form, page, who, task_type)
    typed = await sent(request)
    values, errors = form.read(typed, page.now)
    if errors:
        return await _answer(page, info, form, SentForm(typed, errors))
    fields = {"type": task_type, "command_id": typed.get("command_id", ""), **values["reason"], **filled_fields(values)}
    if who.user_id is not None:
        fields["user_id"] = who.user_id
    try:
        accepted = await act(page.backend, who, CreateTask, fields)
    except CommandIdReused:
        return await _answer(page, info, form, SentForm(typed, problem=_SENT_BEFORE))
    except TasktrailError as error:
        return await _answer(page, info, form, form.refused(typed, error))
    return page.redirect(page.url(f"/tasks/{accepted.task_id}"), flash=f"Task {accepted.task_id} is in the log.")


_SENT_BEFORE = CommandIdReused(
    "This form was sent before, with other values",
    remedy="Nothing was created now. To have another task, send it again.",
)


def _form(page: Page, who: Identity, task_type: str) -> tuple[TypeInfo, Form]:
    """Return the type and the form for its tasks. Raises `UnknownType`."""
    registry = page.backend.service.source.registry
    found = registry.get(task_type)
    info = type_info(found, registry.presets.of(task_type))
    return info, Form(task_sections(info, found.options, bound=who.user_id is not None))


async def _answer(page: Page, info: TypeInfo, form: Form, tried: SentForm) -> Response[str]:
    """Show the form with a command id, so that sending it twice creates one task."""
    sections = form.shown(tried)
    kept = tried.typed is not None and tried.problem is not _SENT_BEFORE
    return page.answer(
        "submit_type.html",
        status=tried.status,
        info=info,
        sections=sections,
        wrong=wrong_fields(sections),
        problem=tried.problem,
        command_id=((tried.typed or {}).get("command_id", "") if kept else "") or new_command_id(),
    )


ROUTES = (submit, submit_form, submit_task)
