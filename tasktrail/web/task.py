"""The page of one task: progress, actions, story, attempts, files, and the causes of its state."""

import asyncio
import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from math import isfinite, nan
from threading import Lock
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter
from litestar.response import Stream
from markupsafe import escape
from msgspec.structs import replace

from ..actors.core.explanation import Why
from ..actors.pictures import NoPicture
from ..config.settings import parse_seconds
from ..errors import OnlyAtService
from ..events import (
    AdjustTask,
    CancelTask,
    Command,
    CreateTask,
    Recorded,
    RedeliverNotice,
    RetryTask,
    StartTask,
    Task,
    TasktrailError,
)
from ..events.errors import InvalidValue, Malformed, UnknownTask
from ..events.existence import exists
from ..events.recorded import EVENT_TAGS
from ..events.state import FINISHED, WAITING
from ..events.system_events import DeliveryAttempted
from ..events.task_events import ERASED, Completed
from ..expectation import means_of, seconds_left, whole_of
from ..handlers.attempt_output import Output
from ..http.identity import Identity
from ..http.permissions import COMMAND_NEEDS, SEE, SUBMIT
from ..http.queries import AttemptQuery
from ..http.requests import TaskIdPath
from ..projections import NoticeStatus, TaskFilters, TaskQueries
from ..projections.attempts import Attempt
from ..projections.causes import Chain, chain_to
from ..projections.describe import describe
from ..projections.history import Line
from ..projections.queries.walk import Census
from ..projections.story import Story, StoryFold, skim, story_line
from ..times import read_time
from .acting import act, parse_priority, sent
from .formats import advice
from .page import Page
from .shapes import SIDE, DrawnTask, GraphShape, RelatedTasks, TimeShape, graph_shape, time_shape

_FOLDS = 128
"""Tasks whose folded story is remembered."""
_NOTES = 60
"""The most notes of the service about a task that are shown; the last ones."""
_IN_ALL, _WHOLE, _CUT = 8_000, 600, 60
"""Characters of the story: in all, of a line, and of a line once the first number is used up."""
_PRINTED = 8 * 1024
"""Bytes of output that are shown, from its end."""
_NOTICES = 40
_DEADLINE_OF_PICTURE = 40.0
_PARTS = ("head", "actions", "attempts", "story", "files", "graph", "causes", "notices", "result")

Side: TypeAlias = Literal["input", "output"]
SidePath = Annotated[Side, PathParameter(description="Of which file")]


class FileSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the task, as it is now."""

    side: Side
    path: str
    size: int | None = None
    """Bytes; None if it is not there."""
    elsewhere: bool = False
    """Whether it is only on the service's machine, so that nothing is known of it here."""
    picture: str = ""
    """The address of its picture; empty if none can be made."""


class CauseStep(msgspec.Struct, frozen=True, kw_only=True):
    """A link of the chain of causes."""

    position: int
    task_id: int
    at: datetime
    event: str
    text: str
    actor: str
    reason: str


class Try(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to deliver a notice."""

    at: datetime
    text: str


class ShownTask(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the page."""

    task: Task
    left: float | None
    """Estimated seconds until it ends."""
    story: Story
    lines: tuple[Line, ...]
    notes_left_out: int
    timeline: TimeShape | None
    graph: GraphShape | None
    children: Census | None
    causes: tuple[CauseStep, ...]
    cause_command: str
    causes_complete: bool
    made: bool = False
    """Whether the output's hash is recorded."""
    files: tuple[FileSeen, ...] = ()
    why: Why | None = None
    output: Output | None = None
    attempt: int = 0
    """The attempt whose output is shown."""
    notices: tuple[NoticeStatus, ...] = ()
    notices_left_out: int = 0
    tries: dict[str, list[Try]] = {}
    """Notice → its last deliveries."""


# --- the page -------------------------------------------------------------------------------------------------------


@get("/tasks/{task_id:int}", include_in_schema=False, needs=SEE)
async def task_page(
    page: NamedDependency[Page], stories: NamedDependency["Stories"], task_id: TaskIdPath, attempt: AttemptQuery = None
) -> Response[str]:
    """One task, now or as of an earlier moment."""
    return page.answer("task.html", **await page.ask(_shown, page, stories, task_id, attempt))


@get("/live/tasks/{task_id:int}", include_in_schema=False, needs=SEE)
async def live_task(
    page: NamedDependency[Page], stories: NamedDependency["Stories"], task_id: TaskIdPath, attempt: AttemptQuery = None
) -> Stream:
    """Stream the parts of the page that change."""
    page.present()
    await page.own_task(task_id)

    def parts(shared: Page) -> dict[str, str]:
        return shared.parts("task.html", _PARTS, **_shown(shared, stories, task_id, attempt))

    return page.follow(parts, task_id=task_id)


def _shown(page: Page, stories: "Stories", task_id: int, attempt: int | None) -> dict[str, Any]:
    seen = look(page, stories, task_id, attempt)
    # The same if the button is pressed again, and another one as soon as anything was recorded about the task.
    once = f"{sha256(f'{stories.salt}:{task_id}:{seen.task.version}'.encode()).hexdigest()[:32]}:"
    return {
        "seen": seen,
        "task": seen.task,
        "may": _may(page, seen.task),
        "once": once,
        "all_fields": _fields(seen.task),
        "erased": ERASED,
        "finished": FINISHED,
        "provenance": _provenance(page) if seen.made else "",
    }


def look(page: Page, stories: "Stories", task_id: int, attempt: int | None) -> ShownTask:
    """Collect the content. Raises `UnknownTask`, also for a task that the caller may not see."""
    task = page.service.get_task(task_id, as_of=page.point)
    story, last = _story(page, stories, task)
    noted, left_out = _notes(page, task_id)
    chain = _chain(page, last)
    children = None if page.past else _children(page, task_id)
    seen = ShownTask(
        task=task,
        left=_time_left(task, story.attempts, page.now, {} if page.past else means_of(page.backend.service.stats())),
        story=story,
        lines=_merged(story.lines, [story_line(record, None) for record in noted]),
        notes_left_out=left_out,
        timeline=_timeline(task, story, page.now),
        graph=_graph(page, task, children),
        children=children,
        causes=tuple(map(_step, chain.records)),
        cause_command=chain.command_id,
        causes_complete=chain.complete,
        made=last is not None and isinstance(last.event, Completed) and bool(last.event.made_sha256),
    )
    return seen if page.past else _with_present(page, seen, noted, task.attempt if attempt is None else attempt)


def _with_present(page: Page, seen: ShownTask, noted: list[Recorded], attempt: int) -> ShownTask:
    """Add what is not recorded, or not kept for earlier moments."""
    service, task = page.backend.service, seen.task
    notices = service.source.ask(lambda views: views.notices(task.id))
    return replace(
        seen,
        files=_files(page, task),
        why=page.service.why(task.id) if task.status in WAITING else None,
        output=_printed(page, task, attempt),
        attempt=attempt,
        notices=tuple(notices[-_NOTICES:]),
        notices_left_out=max(0, len(notices) - _NOTICES),
        tries=_tries(noted),
    )


def _story(page: Page, stories: "Stories", task: Task) -> tuple[Story, Recorded | None]:
    """Return the task's story up to the moment that is shown, and its last record."""

    def read(version: int, limit: int) -> list[Recorded]:
        return page.backend.service.events_after(task.id, version, limit)

    if not page.past and task.input_file != ERASED:
        return stories.up_to(task.id, task.version, read)
    fold = StoryFold()  # a story that was kept from before an erasure has what was erased
    skim(fold, read, task.version)
    return fold.story(), fold.last


def _children(page: Page, task_id: int) -> Census | None:
    """Count the children by status, among those that the caller may see; None if there are none."""
    filters = TaskFilters(parent_task_id=task_id, user_id=() if page.user_id is None else page.user_id)
    census = page.backend.service.source.ask(lambda views: views.census(filters))
    return census if any(census.by_status.values()) else None


class Stories:
    """Keeps the stories of recent tasks, so that each new record of a task is read once. Thread-safe."""

    def __init__(self) -> None:
        self.salt = secrets.token_hex(16)
        """Hashed into the command ids of forms, so that no one can use one up without having seen the form."""
        self._lock = Lock()
        self._folds: OrderedDict[int, tuple[Lock, StoryFold]] = OrderedDict()

    def up_to(
        self, task_id: int, version: int, read: Callable[[int, int], list[Recorded]]
    ) -> tuple[Story, Recorded | None]:
        """Return the story up to at least `version` of the task, and its last record."""
        with self._lock:
            reading, fold = self._folds.setdefault(task_id, (Lock(), StoryFold()))
            self._folds.move_to_end(task_id)
            while len(self._folds) > _FOLDS:
                self._folds.popitem(last=False)
        with reading:
            skim(fold, read, version)
            return fold.story(), fold.last


def _notes(page: Page, task_id: int) -> tuple[list[Recorded], int]:
    """Return the last notes of the service about the task, and how many there are before them."""
    positions = page.backend.service.source.ask(lambda views: views.notes(task_id))
    positions = [position for position in positions if page.past is None or position <= page.past.position]
    log = page.backend.service.source.log()
    records = [record for position in positions[-_NOTES:] for record in log.read(position - 1, 1)]
    return records, max(0, len(positions) - _NOTES)


def _tries(noted: list[Recorded]) -> dict[str, list[Try]]:
    tries: dict[str, list[Try]] = {}
    for record in noted:
        if isinstance(record.event, DeliveryAttempted):
            end = "delivered" if record.event.ok else "given up" if record.event.final else "not delivered"
            one = Try(at=record.recorded_at, text=f"{end}: {record.event.detail}" if record.event.detail else end)
            tries.setdefault(record.event.notice_id, []).append(one)
    return tries


def _merged(lines: tuple[Line, ...], notes: list[Line]) -> tuple[Line, ...]:
    """Merge all lines in order. The newest are whole; when they have filled the room, the older ones are cut."""
    merged: list[Line] = []
    room = _IN_ALL
    for line in sorted((*lines, *notes), key=lambda line: line.position, reverse=True):
        most = _WHOLE if room > 0 else _CUT
        room -= len(line.text[:most]) + len(line.reason[:most])
        merged.append(replace(line, text=_cut(line.text, most), reason=_cut(line.reason, most)))
    return tuple(reversed(merged))


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"


def _timeline(task: Task, story: Story, now: datetime) -> TimeShape | None:
    if not story.attempts:
        return None
    begin = task.created_at if not story.attempts_left_out else story.attempts[0].started_at
    return time_shape(story.attempts, begin, task.completed_at or now)


def _time_left(task: Task, attempts: tuple[Attempt, ...], now: datetime, means: Mapping[str, float]) -> float | None:
    """Estimate the seconds until the running attempt is done. `means`: usual times by type."""
    if task.status != "running" or task.started_at is None or not attempts:
        return None
    curve = attempts[-1].curve
    began = curve[0].progress if curve and attempts[-1].resumed else 0.0
    ran = (now - task.started_at).total_seconds()
    return seconds_left(task.progress, ran, whole_of(task, means), began=began)


def _graph(page: Page, task: Task, children: Census | None) -> GraphShape | None:
    source, bound = page.backend.service.source, page.user_id

    def node(task_id: int) -> DrawnTask:
        if page.past:
            return DrawnTask(id=task_id)
        try:
            state = source.ask(lambda views: views.state(task_id))
        except UnknownTask:
            return DrawnTask(id=task_id)
        if bound not in (None, state.spec.user_id):
            return DrawnTask(id=task_id)
        return DrawnTask(id=task_id, type=state.spec.type, status=state.status)

    def below(views: TaskQueries) -> list[Task]:
        filters = TaskFilters(parent_task_id=task.id, user_id=() if bound is None else bound, sort="id", limit=SIDE + 1)
        return list(views.stretch(filters, page.now).tasks)

    kids = source.ask(below) if children else []
    after = [] if page.past else source.ask(lambda views: views.dependants(task.id, SIDE + 1))
    if bound is not None:
        after = [task_id for task_id in after if page.backend.service.is_of(task_id, bound)]
    related = RelatedTasks(
        center=DrawnTask(id=task.id, type=task.type, status=task.status),
        parent=node(task.parent_task_id) if task.parent_task_id else None,
        dependencies=tuple(map(node, task.depends_on[:SIDE])),
        more_dependencies=max(0, len(task.depends_on) - SIDE),
        dependants=tuple(map(node, after[:SIDE])),
        more_dependants=len(after) > SIDE,
        children=tuple(DrawnTask(id=kid.id, type=kid.type, status=kid.status) for kid in kids[:SIDE]),
        more_children=len(kids) > SIDE,
    )
    return None if related.alone else graph_shape(related)


def _chain(page: Page, last: Recorded | None) -> Chain:
    if last is None:
        return Chain(records=())
    log, bound = page.backend.service.source.log(), page.user_id

    def read(position: int) -> Recorded | None:
        found = next(iter(log.read(position - 1, 1)), None)
        return found if found is not None and page.backend.service.is_of(found.task_id, bound) else None

    def before(record: Recorded) -> Recorded | None:
        return next(iter(log.read_task_after(record.task_id, record.version - 2, 1)), None)

    return chain_to(last, read, before)


def _step(record: Recorded) -> CauseStep:
    return CauseStep(
        position=record.position,
        task_id=record.task_id,
        at=record.recorded_at,
        event=EVENT_TAGS[type(record.event)],
        text=describe(record.event),
        actor=record.actor,
        reason=record.reason,
    )


def _fields(task: Task) -> list[tuple[str, Any]]:
    return [(name, getattr(task, name)) for name in task.__struct_fields__ if name != "children"]


# --- the task's files -----------------------------------------------------------------------------------------------


def _printed(page: Page, task: Task, attempt: int | None) -> Output | None:
    """Return the end of the attempt's printed output; None without an attempt, or if only the service has it."""
    try:
        return page.backend.service.output(task.id, attempt, last=_PRINTED) if task.attempt else None
    except OnlyAtService:
        return None


def _provenance(page: Page) -> Literal["signed", "no key", ""]:
    """Whether the service can sign the output's provenance; empty if the page does not offer it."""
    if page.past or page.reader:
        return ""
    return "signed" if exists(page.backend.service.paths.seal_key) else "no key"


def _files(page: Page, task: Task) -> tuple[FileSeen, ...]:
    sides: tuple[tuple[Side, str], ...] = (("input", task.input_file), ("output", task.output_file))
    return tuple(_file(page, task, side, path) for side, path in sides if path)


def _file(page: Page, task: Task, side: Side, path: str) -> FileSeen:
    if not page.backend.service.shows_files(path, side):
        return FileSeen(side=side, path=path, elsewhere=True)
    try:
        status = os.stat(path)  # noqa: PTH116 - a text
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
    except (OSError, ValueError):
        return FileSeen(side=side, path=path)
    stamp = page.backend.service.pictures.stamp(path, side)
    address = page.url(f"/tasks/{task.id}/picture/{side}", v=stamp[:16]) if stamp else ""
    return FileSeen(side=side, path=path, size=size, picture=address)


_PICTURE_HEADERS = {"content-security-policy": "default-src 'none'; sandbox; frame-ancestors 'none'"}


@get("/tasks/{task_id:int}/picture/{side:str}", include_in_schema=False, needs=SEE)
async def task_picture(
    page: NamedDependency[Page], task_id: TaskIdPath, side: SidePath, v: Annotated[str | None, "its version"] = None
) -> Response[bytes]:
    """Return a small picture of the input or output as it is now, or a picture of words if there is none."""
    page.present()
    found = await page.own_task(task_id)
    path = found.input_file if side == "input" else found.output_file
    try:
        wanted = await page.ask(page.backend.service.pictures.picture, path, side)
        data = await asyncio.wait_for(asyncio.wrap_future(wanted), _DEADLINE_OF_PICTURE)
    except (NoPicture, TimeoutError) as error:
        message = error.message if isinstance(error, NoPicture) else "It takes long to draw; look again later"
        return Response(_placard(message), media_type="image/svg+xml", headers=_PICTURE_HEADERS)
    etag = f'"{sha256(data).hexdigest()[:32]}"'
    kept = "private, max-age=86400" if v else "private, no-cache"
    headers = {**_PICTURE_HEADERS, "cache-control": kept, "etag": etag}
    if page.request.headers.get("if-none-match") == etag:
        return Response(b"", status_code=304, headers=headers, media_type="image/jpeg")
    return Response(data, media_type="image/jpeg", headers=headers)


def _placard(words: str) -> bytes:
    """Draw words: an image that cannot be shown says why, and the browser's console stays empty."""
    words = " ".join(words.split())[:180]
    rows = [words[start : start + 46] for start in range(0, len(words), 46)]
    lines = "".join(f'<tspan x="16" dy="20">{escape(row)}</tspan>' for row in ("No picture:", *rows))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" width="360" height="140" viewBox="0 0 360 140">'
        '<rect width="360" height="140" fill="#8884"/>'
        f'<text y="16" font-family="sans-serif" font-size="13" fill="#777">{lines}</text></svg>'
    ).encode()


# --- what can be done to it -----------------------------------------------------------------------------------------


def _may(page: Page, task: Task) -> frozenset[str]:
    """Return the actions that are possible now and that the caller may do."""
    if page.past:
        return frozenset()
    waits, over = task.status in WAITING, task.status in FINISHED
    wanted: dict[str, tuple[bool, type[Command]]] = {
        "start": (waits, StartTask),
        "cancel": (not over, CancelTask),
        "retry": (task.status in ("failed", "cancelled"), RetryTask),
        "adjust": (waits, AdjustTask),
        "redeliver": (True, RedeliverNotice),
        "submit": (task.type in page.backend.service.source.registry, CreateTask),
    }
    return frozenset(name for name, (sensible, kind) in wanted.items() if sensible and page.may(COMMAND_NEEDS[kind]))


@post("/tasks/{task_id:int}/act", include_in_schema=False, status_code=303, needs=SUBMIT)
async def act_on_one(
    page: NamedDependency[Page], who: NamedDependency[Identity], task_id: TaskIdPath
) -> Response[None]:
    """Do the action, and show the task with the result."""
    page.present()
    fields = await sent(page.request)
    here = f"/tasks/{task_id}"
    try:
        kind, wish = _command(fields, page.now)
        await page.own_task(task_id)
        await act(page.backend, who, kind, {"task_id": task_id, **wish})
    except UnknownTask:
        raise
    except TasktrailError as error:
        message = f"{error.message}. {advice(error)}".strip()
        return page.redirect(here, flash=message, kind="bad")
    return page.redirect(here, flash=_DONE[fields["action"]])


_DONE = {
    "start": "The task is to start.",
    "cancel": "The task is cancelled.",
    "retry": "The task has another life.",
    "adjust": "The task is adjusted.",
    "hold": "The task is held until it is started.",
    "redeliver": "The notice is sent again.",
}


def _command(fields: Mapping[str, str], now: datetime) -> tuple[type[Command], dict[str, Any]]:
    """Return the kind of command that a form asks for, and its fields without the task. Raises `InvalidValue`."""
    common = {"reason": fields.get("reason", "").strip(), "command_id": fields.get("command_id", "")}
    match fields.get("action", ""):
        case "start":
            return StartTask, common
        case "cancel":
            return CancelTask, {**common, "children": "children" in fields}
        case "retry":
            delay = _seconds("delay", fields.get("delay", "").strip() or "0")
            return RetryTask, {**common, "force": "force" in fields, "delay": delay}
        case "hold":
            return AdjustTask, {**common, "held": True}
        case "redeliver":
            return RedeliverNotice, {**common, "notice_id": fields.get("notice_id", "")}
        case "adjust":
            return AdjustTask, {**common, **_changes(fields, now)}
        case other:
            raise Malformed(f"action: {other[:40]!r} is not an action on a task", field="action")


def _changes(fields: Mapping[str, str], now: datetime) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    if priority := fields.get("priority", "").strip():
        changes["priority"] = parse_priority(priority)
    if when := fields.get("scheduled_for", "").strip():
        try:
            changes["scheduled_for"] = read_time(when, now)
        except (ValueError, OverflowError):
            raise InvalidValue(
                f"scheduled_for: {when[:40]!r} is not a time",
                field="scheduled_for",
                remedy="Write a time such as 2026-01-31 12:00, or a distance such as +2h.",
            ) from None
    if not changes:
        raise InvalidValue("Nothing was changed: give a priority or a time", field="priority")
    return changes


def _seconds(field: str, text: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError:
        seconds = nan
    if not isfinite(seconds):
        raise InvalidValue(
            f"{field}: {text[:40]!r} is no duration", field=field, remedy="Write seconds, or a duration such as 10m."
        )
    return seconds


ROUTES = (task_page, live_task, task_picture, act_on_one)
