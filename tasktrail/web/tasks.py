"""The page Tasks: the list with its filters, and one command for all tasks that were chosen or pass the filters.

The list continues from a place instead of using page numbers, so that the last page is as fast as the first. A change
of many tasks takes three steps: choose, confirm, see the result. The first two only read, so they are plain addresses;
the third is a form that can be sent twice without doing anything twice.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream
from msgspec.structs import replace

from ..api.reader_process import LIST_WITHIN, StretchAnswer, StretchQuestion
from ..errors import Busy, UnknownRoute
from ..events import CancelTask, Command, RetryTask, Task
from ..events.commands import AdjustTask
from ..events.errors import InvalidValue, Malformed, UnknownTask
from ..events.state import WAITING, Status
from ..http.access import Access
from ..http.permissions import COMMAND_NEEDS, SEE, SUBMIT, check_permission
from ..http.queries import SortQuery, TextQuery, ValuesQuery
from ..http.requests import read_form, task_number
from ..intake.conversion import command_from_fields
from ..projections import TaskFilters
from ..projections.queries.filters import STATUSES, text_of, values_of
from ..projections.queries.walk import Census, Stretch, parse_place, whole_words
from .acting import parse_priority
from .bulk import MOST_TASKS, BulkChange, BulkChanges, send_all
from .page import Page

PER_PAGE = 50
MOST_PER_PAGE = 100
_PARTS = ("found", "rows")
_WITHIN = 3.0
"""Seconds that a form waits for its change before it shows the progress."""
FIELDS = ("status", "type", "label", "batch", "user_id", "document_id", "parent_task_id", "search")
_WHERE = ("sort", "limit", "place")
"""The other parameters that determine which part of the list is shown."""
HEADINGS = (
    ("Task", "created_at"),
    ("Status", ""),
    ("Type", ""),
    ("Progress", ""),
    ("Input", ""),
    ("Changed", "updated_at"),
    ("Priority", "priority"),
    ("Message", ""),
)
"""Heading → the field by which a click sorts; empty: not sortable."""

PlaceQuery = Annotated[str | None, QueryParameter(description="Where in the list to go on; empty: at its start")]
IdsQuery = Annotated[list[str] | None, QueryParameter(description="Numbers of tasks that were chosen")]


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """An action on many tasks."""

    name: str
    text: str
    verb: str
    of: frozenset[Status]
    """The statuses in which it is possible."""
    command: type[Command]
    danger: bool = False


ACTIONS = {
    action.name: action
    for action in (
        Action(name="retry", text="Retry", verb="retried", of=frozenset({"failed", "cancelled"}), command=RetryTask),
        Action(
            name="cancel",
            text="Cancel",
            verb="cancelled",
            of=frozenset({"pending", "running", "retrying"}),
            command=CancelTask,
            danger=True,
        ),
        Action(name="priority", text="Change priority", verb="given the priority", of=WAITING, command=AdjustTask),
    )
}


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the page with the list."""

    filters: TaskFilters
    stretch: Stretch
    total: int
    census: Census
    types: list[str]


# --- the list -------------------------------------------------------------------------------------------------------


@get("/tasks", include_in_schema=False, needs=SEE)
async def tasks(
    page: NamedDependency[Page],
    wanted: NamedDependency[TaskFilters],
    sort: SortQuery = None,
    limit: TextQuery = None,
    place: PlaceQuery = None,
) -> Response[str]:
    """Show the tasks that pass the filters."""
    filters = _listing(wanted, sort, limit)
    listed = await (
        _list_as_of(page, filters, place or "") if page.past else page.ask(_list_now, page, filters, place or "")
    )
    return page.answer("tasks.html", **_shown(page, listed))


@get("/live/tasks", include_in_schema=False, needs=SEE)
async def live_tasks(
    page: NamedDependency[Page],
    wanted: NamedDependency[TaskFilters],
    sort: SortQuery = None,
    limit: TextQuery = None,
    place: PlaceQuery = None,
) -> Stream:
    """Stream the parts of the list that change."""
    page.present()
    filters = _listing(wanted, sort, limit)
    parse_place(place or "")  # a wrong one is refused before the stream begins

    def parts(shared: Page) -> dict[str, str]:
        return shared.parts("tasks.html", _PARTS, **_shown(shared, _list_now(shared, filters, place or "")))

    return page.follow(parts)


def wanted_filters(
    page: NamedDependency[Page],
    status: ValuesQuery = None,
    type: ValuesQuery = None,  # noqa: A002 - the field's name
    label: ValuesQuery = None,
    batch: ValuesQuery = None,
    user_id: ValuesQuery = None,
    document_id: ValuesQuery = None,
    parent_task_id: ValuesQuery = None,
    search: TextQuery = None,
) -> TaskFilters:
    """The dependency `wanted`: the filters in the address, restricted to tasks that the caller may see."""
    values_by_field = {
        "status": status,
        "type": type,
        "label": label,
        "batch": batch,
        "user_id": user_id,
        "document_id": document_id,
        "parent_task_id": parent_task_id,
    }
    texts = {name: values or () for name, values in values_by_field.items()}
    return _visible_to_caller(page, TaskFilters.parse({**texts, "search": search or ""}))


def _listing(filters: TaskFilters, sort: str | None, limit: str | None) -> TaskFilters:
    """Return the filters with an order and a page size. Raises `InvalidValue`."""
    how = TaskFilters.parse({"sort": sort or "", "limit": limit or str(PER_PAGE)})
    return replace(filters, sort=how.sort, limit=min(how.limit, MOST_PER_PAGE))


def _shown(page: Page, listed: Listed) -> dict[str, Any]:
    parameters = page.parameters()

    def given(field: str) -> list[str]:
        found = parameters.get(field) or []
        return list(found) if isinstance(found, list) else [str(found)]

    return {
        "listed": listed,
        "filters": listed.filters,
        "chosen": values_of(listed.filters.status),
        "headings": _headings(page, listed.filters),
        "actions": _allowed(page),
        "statuses": STATUSES,
        "note_of": note_of,
        "values_of": values_of,
        "text_of": text_of,
        "fields": FIELDS,
        "where": _WHERE,
        "narrowed": any(map(given, FIELDS)),
        "whole_words": whole_words(listed.filters.search),
        "given": given,
    }


def _visible_to_caller(page: Page, filters: TaskFilters) -> TaskFilters:
    """Restrict the filters to tasks that the caller may see."""
    return filters if page.user_id is None else replace(filters, user_id=page.user_id)


def _list_now(page: Page, filters: TaskFilters, place: str) -> Listed:
    source = page.backend.service.source
    stretch = source.ask(lambda views: views.stretch(filters, page.now, parse_place(place)))
    return _listed(page, filters, stretch, source.ask(lambda views: views.census(filters)))


async def _list_as_of(page: Page, filters: TaskFilters, place: str) -> Listed:
    assert page.past is not None
    found = await page.backend.past(
        StretchQuestion(filters, page.past.position, place), StretchAnswer, LIST_WITHIN, page.who
    )
    return _listed(page, filters, found.stretch, found.census)


def _listed(page: Page, filters: TaskFilters, stretch: Stretch, census: Census) -> Listed:
    return Listed(
        filters=filters,
        stretch=stretch,
        total=census.total(filters),
        census=census,
        types=_types(page),
    )


def _types(page: Page) -> list[str]:
    source = page.backend.service.source
    used = set() if page.user_id is not None else source.ask(lambda views: views.types())
    return sorted(used | {task_type.name for task_type in source.registry})


def _headings(page: Page, filters: TaskFilters) -> list[dict[str, str]]:
    """Return the headings with the address of a click, and how the list is sorted by them now."""
    headings = []
    for text, field in HEADINGS:
        now = "" if filters.sort.removeprefix("-") != field else "descending" if filters.sort[0] == "-" else "ascending"
        other = field if now == "descending" else f"-{field}"
        href = page.here(sort=other, place=None) if field else ""
        headings.append({"text": text, "href": href, "sorted": now})
    return headings


def note_of(task: Task, now: Any) -> str:
    """Return the note beside a task in a list: what it waits for, its error, or what it does."""
    due = {"pending": task.scheduled_for, "retrying": task.due_at}.get(task.status)
    parts = (
        "held" if task.held and task.status in WAITING else "",
        "waits for its time" if due is not None and due > now else "",
        task.error
        or (task.message if task.completed_at is None else "")
        or (task.last_error if task.status == "retrying" else ""),
    )
    return "; ".join(filter(None, parts))


def _allowed(page: Page) -> list[Action]:
    """Return the actions that the caller may do."""
    if page.past:
        return []
    return [action for action in ACTIONS.values() if page.may(COMMAND_NEEDS[action.command])]


# --- one command for many -------------------------------------------------------------------------------------------


class ChosenTasks(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks of an action: those that were chosen, or all that pass the filters."""

    ids: tuple[int, ...] = ()
    filters: TaskFilters | None = None


@get("/tasks/confirm", include_in_schema=False, needs=SUBMIT)
async def confirm(
    page: NamedDependency[Page],
    wanted: NamedDependency[TaskFilters],
    action: TextQuery = None,
    of: TextQuery = None,
    id: IdsQuery = None,  # noqa: A002 - the name of the boxes
    sort: SortQuery = None,
    limit: TextQuery = None,
    place: PlaceQuery = None,
) -> Response[Any]:
    """Show how many tasks the action is for, and the form that does it."""
    page.present()
    chosen = _action(page, action or "")
    choice = ChosenTasks(filters=wanted) if of == "all" else ChosenTasks(ids=_ids(id or ()))
    given = page.parameters()
    kept = {name: _joined(getattr(wanted, name)) for name in FIELDS if given.get(name)}
    where = dict(zip(_WHERE, (sort or "", limit or "", place or ""), strict=True))
    if not choice.ids and choice.filters is None:
        return page.redirect(page.url("/tasks", **kept, **where), flash="No task was chosen.", kind="bad")
    number, others, complete = await page.backend.bulk(_counted, page, choice, chosen)
    return page.answer(
        "tasks_confirm.html",
        action=chosen,
        choice=choice,
        number=number,
        others=others,
        complete=complete,
        kept=kept,
        where=where,
        back=page.url("/tasks", **kept, **where),
        bulk=secrets.token_hex(16),
        most=MOST_TASKS,
    )


def _action(page: Page, name: str) -> Action:
    """Return the action. Raises `Malformed`, and `Forbidden` if the caller may not do it."""
    if name not in ACTIONS:
        raise Malformed(f"action: {name[:40]!r} is not an action", field="action")
    check_permission(page.who, COMMAND_NEEDS[ACTIONS[name].command], f"have tasks {ACTIONS[name].verb}")
    return ACTIONS[name]


def _joined(values: object) -> str:
    return text_of(map(str, values)) if isinstance(values, list | tuple) else str(values)


def _ids(ids: Sequence[str]) -> tuple[int, ...]:
    numbers = [part for text in ids for part in text.split(",") if part.strip()]
    if len(numbers) > MOST_TASKS:
        raise InvalidValue(f"id: at most {MOST_TASKS:,} tasks at once", field="id")
    return tuple(dict.fromkeys(task_number(number, "id") for number in numbers))


def _counted(page: Page, choice: ChosenTasks, action: Action) -> tuple[int, int, bool]:
    """Return how many tasks the action is for, how many others it cannot change, and whether the count is complete."""
    source = page.backend.service.source
    if choice.filters is not None:
        filters = choice.filters
        census = source.ask(lambda views: views.census(filters))
        named = values_of(filters.status) or STATUSES
        number = sum(census.by_status[status] for status in named if status in action.of)
        if not census.complete:
            narrowed = _narrowed(filters, action)
            number = len(source.ask(lambda views: views.ids(narrowed, MOST_TASKS + 1))) if narrowed else 0
            return number, 0, number <= MOST_TASKS
        return number, census.total(filters) - number, True
    states = [source.ask(lambda views, one=one: _status_of(page, views, one)) for one in choice.ids]  # type: ignore[misc]
    number = sum(status in action.of for status in states)
    return number, len(states) - number, True


def _status_of(page: Page, views: Any, task_id: int) -> str:
    """Return the task's status; empty if the caller has no such task."""
    try:
        state = views.state(task_id)
    except UnknownTask:
        return ""
    return str(state.status) if page.user_id in (None, state.spec.user_id) else ""


def _narrowed(filters: TaskFilters, action: Action) -> TaskFilters | None:
    """Restrict the filters to tasks that the action can change; None if there are none."""
    statuses = tuple(status for status in values_of(filters.status) or STATUSES if status in action.of)
    return replace(filters, status=statuses) if statuses else None


@post("/tasks/act", include_in_schema=False, status_code=303, needs=SUBMIT)
async def act_on_many(
    page: NamedDependency[Page], access: NamedDependency[Access], bulk_changes: NamedDependency[BulkChanges]
) -> Response[None]:
    """Do the action, in the background if it takes long, and show the result."""
    page.present()
    form = await read_form(page.request)
    fields = {name: str(form.get(name, "")) for name in form}
    action = _action(page, fields.get("action", ""))
    filters = TaskFilters.parse({name: fields.get(name, "") for name in FIELDS})
    if fields.get("of") == "all":
        choice = ChosenTasks(filters=_visible_to_caller(page, filters))
    else:
        choice = ChosenTasks(ids=_ids([str(one) for one in form.getall("id", [])]))
    bulk_id = fields.get("bulk", "")
    if not (bulk_id.isalnum() and bulk_id.isascii()) or len(bulk_id) > 64:  # noqa: PLR2004 - as long as a digest
        raise Malformed("bulk: the form has none", field="bulk", remedy="Open the page of the form again.")
    assert page.who is not None
    owner, asked = page.who.name, _command_of(action, fields, page.who.name)
    where = {name: fields.get(name, "") for name in _WHERE}
    back = page.url("/tasks", **{name: _joined(getattr(filters, name)) for name in FIELDS}, **where)
    bulk = BulkChange(bulk_id, action.text, back)
    mine = f"{owner}/{page.who.user_id}"
    if bulk_changes.begin(mine, bulk):

        def find() -> Sequence[int]:
            found = _chosen_ids(page, choice, action)
            # a task that waits for others would fail if they were cancelled first
            return sorted(found, reverse=True) if action.name == "cancel" else found

        def command(task_id: int) -> Command:
            return replace(asked, task_id=task_id, command_id=f"{bulk_id}:{task_id}")

        send = page.backend.commands_of(page.who, access).send_many
        bulk.work = asyncio.ensure_future(page.backend.change(page.who, send_all, send, bulk, find, command))
        try:
            await asyncio.wait_for(asyncio.shield(bulk.work), _WITHIN)
        except TimeoutError:
            pass  # it goes on
        except Busy:
            bulk_changes.discard(mine, bulk)  # so that the same form can be sent again
            raise
    return page.redirect(f"/tasks/bulk/{bulk_id}")


def _chosen_ids(page: Page, choice: ChosenTasks, action: Action) -> Sequence[int]:
    source = page.backend.service.source
    if choice.filters is None:
        return [one for one in choice.ids if source.ask(lambda views, one=one: _status_of(page, views, one))]  # type: ignore[misc]
    narrowed = _narrowed(choice.filters, action)
    return source.ask(lambda views: views.ids(narrowed, MOST_TASKS)) if narrowed else ()


def _command_of(action: Action, fields: Mapping[str, str], actor: str) -> RetryTask | CancelTask | AdjustTask:
    """Return the command, with a placeholder for the task. Raises `InvalidValue`."""
    common = {"task_id": 1, "reason": fields.get("reason", "").strip(), "actor": actor}
    if not common["reason"]:
        raise InvalidValue("reason: say why, for those who will ask", field="reason")
    match action.name:
        case "retry":
            return command_from_fields(RetryTask, {**common, "force": "force" in fields})
        case "cancel":
            return command_from_fields(CancelTask, {**common, "children": "children" in fields})
        case _:
            return command_from_fields(AdjustTask, {**common, "priority": parse_priority(fields.get("priority", ""))})


@get("/tasks/bulk/{bulk_id:str}", include_in_schema=False, needs=SUBMIT)
async def bulk(
    page: NamedDependency[Page], bulk_changes: NamedDependency[BulkChanges], bulk_id: FromPath[str]
) -> Response[str]:
    """Show the progress or the result of a command for many tasks."""
    return page.answer("tasks_bulk.html", bulk=_bulk_change(page, bulk_changes, bulk_id))


@get("/live/tasks/bulk/{bulk_id:str}", include_in_schema=False, needs=SUBMIT)
async def live_bulk(
    page: NamedDependency[Page], bulk_changes: NamedDependency[BulkChanges], bulk_id: FromPath[str]
) -> Stream:
    """Stream the progress of a command for many tasks."""
    page.present()
    change = _bulk_change(page, bulk_changes, bulk_id)
    return page.follow(lambda shared: shared.parts("tasks_bulk.html", ("bulk",), bulk=change), of=change)


def _bulk_change(page: Page, bulk_changes: BulkChanges, bulk_id: str) -> BulkChange:
    assert page.who is not None
    change = bulk_changes.get(f"{page.who.name}/{page.who.user_id}", bulk_id)
    if change is None:
        raise UnknownRoute(
            "The result of this is no longer kept",
            remedy="The history of each task shows what was done to it, by whom and why.",
        )
    return change


ROUTES = (tasks, live_tasks, confirm, act_on_many, bulk, live_bulk)
