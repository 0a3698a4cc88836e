"""`tasktrail run`: one task to its end, with a progress bar, inside this process or through the running service."""

import sys
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from ..base import Command, pass_session
from ..display import ENDED, Display, display_on
from ..failing import DONE, INTERRUPTED, REFUSED
from ..fields import FILE, TYPE, build_command, me, task_fields
from ..follow import until_ended
from ..output import as_text, print_json, print_pairs, say
from ..session import Session
from ..signals import Signals
from ..words import duration, percent, plain

if TYPE_CHECKING:
    from ...events import CreateTask, Task
    from ...service import TaskService
    from ...surface import Tasks

SECOND_CTRL_C = 1.5
"""Seconds after a first Ctrl-C in which a second one cancels."""


@click.command(
    "run",
    cls=Command,
    examples=[
        ("tasktrail run image_thumbnail photo.jpg small.jpg -o width=320", "one picture"),
        ("tasktrail run video_convert in.mov out.mp4 -o crf=28 --max-retries 2", "with options of type and task"),
        ("tasktrail run video_convert in.mov out.mp4 -o crf=28", "the same again resumes it after Ctrl-C or a crash"),
    ],
)
@click.argument("task_type", type=TYPE, metavar="TYPE")
@click.argument("input_file", type=FILE, metavar="[INPUT]", default="")
@click.argument("output_file", type=FILE, metavar="[OUTPUT]", default="")
@task_fields
@pass_session
def command(session: Session, /, task_type: str, input_file: str, output_file: str, **given: Any) -> int:
    """Run one task to its end and show its progress.

    The running service does it when there is one on the data folder; otherwise a service inside this process, which
    works on this task alone: whatever else waits there stays as it is. The first Ctrl-C interrupts (a running service
    goes on by itself), a second one cancels. Running the same type, paths and options again goes on with the unfinished
    task instead of making another.

    Exit code 0: completed, 1: failed or cancelled, 130: interrupted.
    """
    wanted = build_command(session, task_type, input_file, output_file, given)
    with Signals() as signals, session.tasks_or_embedded() as (tasks, inside), display_on(sys.stderr) as display:
        task_id = _find_or_create(tasks, inside, wanted, display)
        ended = until_ended(tasks, task_id, display, signals)
        if ended is None:
            ended = _interrupted(tasks, task_id, display, signals, embedded=inside is not None)
    if ended is None:
        say(_how_to_go_on(task_id, embedded=inside is not None), err=True)
        return INTERRUPTED
    return report(session, ended)


def unfinished_like(tasks: "Tasks", wanted: "CreateTask") -> "Task | None":
    """The oldest unfinished task of the same type, paths and options."""
    from ...projections import TaskFilters

    filters = TaskFilters(status=("pending", "running", "retrying"), type=wanted.type, sort="id", limit=500)
    while True:
        page, _total = tasks.list_tasks(filters)
        for task in page:
            if (task.input_file, task.output_file, task.options) == (
                wanted.input_file,
                wanted.output_file,
                wanted.options,
            ):
                return task
        if len(page) < filters.limit:
            return None
        filters = replace(filters, offset=filters.offset + filters.limit)


def _find_or_create(tasks: "Tasks", inside: "TaskService | None", wanted: "CreateTask", display: Display) -> int:
    there = unfinished_like(tasks, wanted)
    if inside is not None:
        _refuse_to_wait_for_others(tasks, there or wanted)
    if there is None:
        return tasks.send(wanted).task_id
    display.say(f"going on with task {there.id} at {percent(there.progress)}, made {there.created_at:%Y-%m-%d %H:%M}Z")
    if there.held and not wanted.held:
        tasks.start_task(there.id, reason="run again", actor=wanted.actor)
    if inside is not None:
        inside.work_on(there.id)
    return there.id


def _refuse_to_wait_for_others(tasks: "Tasks", task: "Task | CreateTask") -> None:
    """Raises `CannotStartNow` where the task waits for another, which nobody works on while this command runs."""
    from ...events.errors import CannotStartNow, UnknownTask
    from ...events.state import FINISHED

    policies = task.on_dependency_failure
    for number, other in enumerate(task.depends_on):
        try:
            status = tasks.get_task(other).status
        except UnknownTask:
            continue  # the command is refused for it, by name
        policy = policies if isinstance(policies, str) else policies[number : number + 1]
        if status not in FINISHED or (status != "completed" and policy in ("wait", ("wait",))):
            raise CannotStartNow(
                f"It would wait for task {other}, which is {status}, and `run` works on its own task alone",
                field="depends_on",
                remedy="Send it with `tasktrail submit`, and start `tasktrail serve`, which works on all.",
            )


def _interrupted(tasks: "Tasks", task_id: int, display: Display, signals: Signals, *, embedded: bool) -> "Task | None":
    """After the first Ctrl-C: a second one within a moment cancels. The task if it has ended, else none."""
    if signals.last == SIGTERM:
        return None
    what = "interrupting" if embedded else "no longer watching"
    display.say(f"{what} task {task_id}; Ctrl-C again cancels it")
    if signals.next(SECOND_CTRL_C) is None:
        return None
    tasks.cancel_task(task_id, reason="second Ctrl-C", actor=me())
    task = tasks.get_task(task_id)
    display.show(task)
    return task if task.status in ENDED else None


def _how_to_go_on(task_id: int, *, embedded: bool) -> str:
    if embedded:
        return f"task {task_id} is interrupted; the same command again goes on with it, or `tasktrail serve`"
    return f"task {task_id} goes on in the service; `tasktrail watch {task_id}` shows it"


def report(session: Session, task: "Task") -> int:
    """Print how the task ended; answers the exit code."""
    if session.as_json:
        print_json(task)
    elif task.status == "completed":
        say(f"task {task.id} completed in {duration(task.duration)}")
        output = [("output", plain(task.output_file))] if task.output_file else []
        print_pairs([*output, *((plain(name), as_text(value)) for name, value in task.result.items())], indent=2)
    if task.status == "completed":
        return DONE
    why = f": {plain(task.error)}" if task.status == "failed" and task.error else ""
    if not session.as_json:
        say(f"tasktrail: task {task.id} {task.status}{why}", err=True)
        say(f"  `tasktrail history {task.id}` tells its story; run it again for another try.", err=True)
    return REFUSED
