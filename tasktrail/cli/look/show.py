"""`tasktrail show`: one task, field by field."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..operate.notices import in_short
from ..output import as_text, print_json, print_pairs, say
from ..session import Session
from ..times import Point
from ..words import TASK_ID, duration, localized, moment, percent, size
from .output import last_lines
from .why import sum_of

if TYPE_CHECKING:
    from ...events import Task

_BYTES = {"estimated_memory", "estimated_temp", "memory_used", "temp_used"}
_SECONDS = {"duration", "retry_delay", "estimated_time", "timeout", "cpu_used", "time_used", "retry_max_delay"}
_SECONDS |= {"queue_timeout", "total_timeout", "heartbeat_timeout", "no_progress_timeout"}

_INNER = {"estimate", "life", "version"}
"""Of use to a program, or to whoever looks for a fault."""
_OF_WAITING = {"effective_priority", "priority_terms"}


@click.command(
    "show",
    cls=Command,
    examples=[
        ("tasktrail show 3", "what is to be known of task 3"),
        ("tasktrail show 3 --wide", "every field, those that are unset as well"),
        ("tasktrail show 3 --as-of 120", "as it was when the log ended at position 120"),
        ("tasktrail show 3 --json", "for a program"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--as-of", type=Point(), help="As it was at a position of the log, or at a time, e.g. -2h.")
@pass_session
def command(session: Session, task_id: int, as_of: int | datetime | None) -> None:
    """Show one task; times are UTC.

    On a terminal the fields that say something are shown: not what is unset, and not what nobody has asked for. With
    --wide, with --json and in a pipe all are.
    """
    with session.reading() as reading:
        task = reading.get_task(task_id, as_of=as_of)
        brief = session.as_json or as_of is not None
        notices = [] if brief else reading.notices(task_id)
        failed = bool(task.error) or task.status == "retrying"
        printed = last_lines(reading, task_id, task.attempt) if failed and task.attempt and not brief else []
    if session.as_json:
        print_json(task)
    else:
        print_pairs(
            [*pairs(task, every=session.paper().width is None), *([("notices", in_short(notices))] if notices else [])]
        )
        for line in printed:
            say(line)


def pairs(task: "Task", *, every: bool = True) -> list[tuple[str, str]]:
    """The task's fields with their values in words, under the names that JSON uses; `every`: also those at rest."""
    told = {name: _in_words(name, getattr(task, name)) for name in task.__struct_fields__}
    if not task.depends_on:
        told["on_dependency_failure"] = "-"  # what is recorded then is about nothing
    return [(name, text) for name, text in told.items() if every or not _is_at_rest(task, name, text)]


def _is_at_rest(task: "Task", name: str, text: str) -> bool:
    from ...events import CreateTask

    usual = dict(zip(reversed(CreateTask.__struct_fields__), reversed(CreateTask.__struct_defaults__), strict=False))
    waits = task.status in ("pending", "retrying")
    return (
        text in ("-", "0")
        or (name in usual and getattr(task, name) == usual[name])
        or name in _INNER
        or (name in _OF_WAITING and not waits)
    )


def _in_words(name: str, value: object) -> str:
    from ...events.task import Children
    from ...events.task_events import PriorityTerms

    match value:
        case datetime():
            return moment(value)
        case int() | float() if name in _BYTES:
            return size(value) if value else "-"
        case int() | float() if name in _SECONDS:
            return duration(value) if value else "-"
        case PriorityTerms():
            return sum_of(value)
        case Children():
            counts = ", ".join(f"{number} {status}" for status, number in value.by_status.items())
            return f"{value.total}: {counts}; {percent(value.progress)} in the mean"
        case str() if name == "message":
            return as_text(localized(value))
        case float() if name == "progress":
            return percent(value)
        case _:
            return as_text(value)
