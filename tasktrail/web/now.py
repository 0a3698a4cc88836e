"""The page Now: running, waiting and failed tasks, the use of the machine, and charts of the last day."""

from datetime import datetime, timedelta
from typing import Any

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.response import Stream

from ..actors.core.board import QueueBoard, Queued, Resources, RunningNow, queue_board
from ..actors.core.explanation import Obstacle, reasons_of
from ..actors.core.state import SchedulerState
from ..api.reader_process import Standing, StandingQuestion
from ..events import RetryTask, Task, TasktrailError
from ..events.counted import plural
from ..events.errors import TooCostly
from ..events.task import reserved_space
from ..expectation import means_of, seconds_left
from ..http.identity import Identity
from ..http.permissions import SEE, SUBMIT
from ..http.requests import task_number
from ..projections import TaskFilters
from ..projections.queries.activity import Span
from ..words import size
from . import charts
from .acting import act, sent
from .formats import exact
from .page import Page

RUNNING_SHOWN = 50
_QUEUE_SHOWN = 8
FAILURES_SHOWN = 8
HOUR, DAY = 60, 24 * 60
THEN_WITHIN = 30.0
"""Seconds that a fold of the log may take. No one looks at an empty page for longer."""
OWN_PARTS = ("running", "queue", "failures")
WHOLE_PARTS = ("numbers", "resources", "activity")
"""Parts about all tasks, which callers bound to a user do not get."""


class RunningRow(msgspec.Struct, frozen=True, kw_only=True):
    """A running attempt, with its expected remaining time."""

    id: int
    type: str
    input_file: str
    message: str
    progress: float
    stopping: bool = False
    started_at: datetime | None
    left: float | None
    """Seconds."""
    memory: int = 0
    """Bytes that it uses now; 0 if unknown."""
    reserved: int = 0


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """A task at the head of the queue, and why it waits."""

    id: int
    type: str
    input_file: str
    since: datetime
    reasons: tuple[str, ...] = ()
    otherwise: str = ""
    """Shown when there is no reason."""


@get("/", include_in_schema=False, needs=SEE)
async def now(page: NamedDependency[Page]) -> Response[str]:
    """Show the state of the service, now or at the moment asked for."""
    values = await standing_as_of(page) if page.past else await page.ask(standing, page)
    return page.answer("now.html", **values)


@get("/live", include_in_schema=False, needs=SEE)
async def live_now(page: NamedDependency[Page]) -> Stream:
    """Stream the parts of the page that change."""
    names = OWN_PARTS if page.user_id is not None else (*OWN_PARTS, *WHOLE_PARTS)
    return page.follow(lambda shared: shared.parts("now.html", names, **standing(shared)))


@post("/retry", include_in_schema=False, needs=SUBMIT)
async def retry(page: NamedDependency[Page], who: NamedDependency[Identity]) -> Response[None]:
    """Give a task that has failed another life."""
    page.present()
    typed = await sent(page.request)
    task = await page.own_task(task_number(typed.get("task_id", ""), "task_id"))
    try:
        await act(page.backend, who, RetryTask, {"task_id": task.id, "reason": "retried on the page"})
    except TasktrailError as error:
        return page.redirect("/", flash=f"Task {task.id} is not retried: {error.message}", kind="bad")
    return page.redirect("/", flash=f"Task {task.id} is retried.")


def standing(page: Page) -> dict[str, Any]:
    """Return all that the page shows, from kept numbers and the Scheduler's memory, whatever the number of tasks."""
    service, user = page.backend.service, page.user_id
    live = service.source.live

    def look(state: SchedulerState, at: datetime) -> tuple[QueueBoard, list[tuple[Queued, tuple[Obstacle, ...]]]]:
        board = queue_board(state, at, _QUEUE_SHOWN, live=live)
        return board, [(one, reasons_of(state, state.tasks[one.task_id], at, live=live)) for one in board.entries]

    stats = service.stats()
    if user is None:
        board, reasons = service.source.state(look)
    else:
        board = page.service.queue(_QUEUE_SHOWN)
        reasons = [(one, page.service.why(one.task_id).reasons) for one in board.entries]
    means, memory = means_of(stats), service.memory_of_attempts()
    running = [_running(one, means, memory, page.now) for one in board.running if user in (None, one.user_id)]
    whole = user is None
    nodes = service.nodes() if whole else []
    return {
        "note": "",
        "whole": whole,
        "stats": stats if whole else None,
        "board": board if whole else None,
        "at_once": _at_once(board.resources),
        "nodes": nodes if len(nodes) > 1 else [],
        "running": running[:RUNNING_SHOWN],
        "running_total": len(running),
        "waiting_in_words": _waiting_in_words(board),
        "queue": [_waiting(one, why, whole=whole) for one, why in reasons],
        "may_retry": page.may(SUBMIT) and not page.past,
        "failures": page.service.list_tasks(TaskFilters(status="failed", sort="-updated_at", limit=FAILURES_SHOWN))[0],
        **(activity(page) if whole else {}),
    }


async def standing_as_of(page: Page) -> dict[str, Any]:
    """Return all that the page shows of an earlier moment.

    If the views cannot answer, a fold of the log does. If that takes too long, the page says so instead.
    """
    question = StandingQuestion(page.as_of, FAILURES_SHOWN, page.user_id)
    try:
        answer = await page.backend.past(question, Standing, THEN_WITHIN, page.who)
    except TooCostly as error:
        return _unknown(f"{error.message}: the log is long up to there. One task's page shows its past at once.")
    whole = page.user_id is None
    charted = _charted(answer.hour, answer.day) if whole else {}
    memory, temp = size(answer.reserved_memory), size(answer.reserved_temp)
    note = f"For what ran, {memory} of memory and {temp} of temp space were reserved. " if answer.running else ""
    note += "What the machine had is not recorded, so it is not shown."
    return {
        **_unknown(note),
        "stats": answer.stats if whole else None,
        "whole": whole,
        "running": [_ran(one) for one in answer.running],
        "running_total": answer.stats.counts["running"] if whole else len(answer.running),
        "waiting_in_words": f"{answer.stats.counts['pending'] + answer.stats.counts['retrying']:,} waited",
        "queue": [_waited(one, page.now) for one in answer.waiting],
        "failures": answer.failures,
        **charted,
    }


def _unknown(note: str) -> dict[str, Any]:
    """Return the values of a page without content, but with a note."""
    empty = {"whole": False, "stats": None, "board": None, "at_once": 0, "running_total": 0, "waiting_in_words": ""}
    lists: dict[str, Any] = {name: [] for name in ("nodes", "running", "queue", "failures")}
    return {**empty, **lists, "note": note, "may_retry": False}


def _ran(task: Task) -> RunningRow:
    return RunningRow(
        id=task.id,
        type=task.type,
        input_file=task.input_file,
        message=task.message,
        progress=task.progress,
        started_at=task.started_at,
        left=None,
        reserved=reserved_space(task).memory,
    )


def _waited(task: Task, at: datetime) -> Waiting:
    """Return why a task waited, as far as its own state shows; no other reasons are recorded."""
    reasons = ["It was held until somebody started it."] if task.held else []
    not_before = max((due for due in (task.due_at, task.scheduled_for) if due and due > at), default=None)
    reasons += [f"Not before {exact(not_before)}."] if not_before else []
    others = ", ".join(f"#{number}" for number in task.depends_on)
    reasons += [f"It waited for {others}."] if others else []
    return Waiting(
        id=task.id,
        type=task.type,
        input_file=task.input_file,
        since=task.created_at,
        reasons=tuple(reasons),
        otherwise="It waited for its turn and for room.",
    )


def _running(one: RunningNow, means: dict[str, float], memory: dict[tuple[int, int], int], now: datetime) -> RunningRow:
    ran = (now - one.started_at).total_seconds() if one.started_at else 0.0
    whole = means.get(one.type) or one.expected
    return RunningRow(
        id=one.task_id,
        type=one.type,
        input_file=one.input_file,
        message=one.message,
        progress=one.progress,
        stopping=one.stopping,
        started_at=one.started_at,
        left=seconds_left(one.progress, ran, whole, began=None if one.resumed else 0.0),
        memory=memory.get((one.task_id, one.attempt), 0),
        reserved=one.memory,
    )


def _waiting(one: Queued, reasons: tuple[Obstacle, ...], *, whole: bool) -> Waiting:
    """Return a task's reasons. A caller bound to a user gets no details about the machine and other tasks."""
    return Waiting(
        id=one.task_id,
        type=one.type,
        input_file=one.input_file,
        since=one.waiting_since,
        reasons=tuple(reason.detail if whole else str(reason.reason) for reason in reasons),
        otherwise="It starts next.",
    )


def _at_once(resources: Resources) -> int:
    """Return how many attempts can run at once: at most the number of workers, whatever the limit. 0: unknown."""
    return min((number for number in (resources.max_concurrent, resources.slots) if number), default=0)


def _waiting_in_words(board: QueueBoard) -> str:
    parts = [f"{board.ready:,} ready"]
    parts += [f"{board.blocked:,} {plural(board.blocked, 'waits', 'wait')} for others"] if board.blocked else []
    parts += [f"{board.aside:,} {plural(board.aside, 'does', 'do')} not fit"] if board.aside else []
    return ", ".join(parts)


def _minute_ago(now: datetime) -> datetime:
    """Return a time within the last full minute."""
    return now - timedelta(minutes=1)


def activity(page: Page) -> dict[str, Any]:
    """Return the charts up to the last full minute: they change once a minute."""
    minute = int(page.now.timestamp() // 60)
    kept: dict[int, dict[str, Any]] = page.request.app.state.activity
    if minute not in kept:
        hour, day = page.backend.service.source.ask(
            lambda views: (
                views.activity(_minute_ago(page.now), HOUR, 1),
                views.activity(_minute_ago(page.now), DAY, 30),
            )
        )
        made = _charted(hour, day)
        kept.clear()
        kept[minute] = made
    return kept[minute]


def _charted(hour: list[Span], day: list[Span]) -> dict[str, Any]:
    return {
        "hour": hour,
        "day": day,
        "hour_rates": charts.rates(hour, "a minute"),
        "hour_waits": charts.waits(hour),
        "day_rates": charts.rates(day, "in half an hour"),
        "day_waits": charts.waits(day),
    }


ROUTES = (now, live_now, retry)
