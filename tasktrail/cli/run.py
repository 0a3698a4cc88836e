"""`tasktrail run` and `demo`: one task to its end with a progress bar, and the demo of all task types."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from signal import SIGTERM
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from ..api.spreading import FILM, OF_THE_PARTS
from ..events.errors import CannotStartNow, IllegalTransition, InvalidValue
from ..words import duration, moment, percent
from .command import CliCommand, pass_session
from .failing import DONE, INTERRUPTED, REFUSED
from .fields import TASK_FLAGS, build_command, default_actor, task_field_options
from .parameters import FILE, OPEN, TYPE, GivenPathParam
from .progress import ENDED, Display, Signals, display_on, name_lasting_obstacles, until_ended
from .session import Session
from .spread import FilmWithParts, failed_parts, parts_of, spread_option, try_spread
from .terminal import as_text, plain, print_json, print_pairs, say

if TYPE_CHECKING:
    from ..api.protocol import Tasks
    from ..api.service import TaskService
    from ..events import CreateGraph, CreateTask, GraphTask, Task


SECOND_CTRL_C = 1.5
"""Seconds after a first Ctrl-C within which a second one cancels."""
_NOT_THE_TASKS = frozenset({"options", "parents", "suffix", "held", "command_id", "actor", "reason", "traceparent"})


@click.command(
    "run",
    cls=CliCommand,
    examples=[
        ("tasktrail run image_thumbnail photo.jpg small.jpg -o width=320", "one picture"),
        ("tasktrail run video_convert in.mov out.mp4 -o crf=28 --max-retries 2", "with options of type and task"),
        ("tasktrail run video_convert in.mov out.mp4 -o crf=28", "the same again resumes it after Ctrl-C or a crash"),
        ("tasktrail run video_convert in.mov out.mp4 --spread 3", "one film, encoded by three nodes"),
    ],
)
@click.argument("task_type", type=TYPE, metavar="TYPE")
@click.argument("input_file", type=FILE, metavar="[INPUT]", default="")
@click.argument("output_file", type=FILE, metavar="[OUTPUT]", default="")
@spread_option
@task_field_options
@pass_session
def run_command(
    session: Session, /, task_type: str, input_file: str, output_file: str, *, spread: int | None, **given: Any
) -> int:
    """Run one task to its end and show its progress.

    If a service runs on the data folder, it does the work. Otherwise a service inside this process does, for this task
    alone: other tasks there are left as they are. The first Ctrl-C interrupts the task (a running service goes on with
    it), a second one cancels it. The same type, paths and options again go on with the unfinished task instead of
    making another.

    With --spread the parts of a film are tasks of their own, shown as one; a second Ctrl-C cancels all of them.

    Exit code 0: completed, 1: failed or cancelled, 130: interrupted.
    """
    wanted = build_command(session, task_type, input_file, output_file, given)
    if wanted.held:
        raise CannotStartNow(
            "`run` works until the task has ended, and a held task would never begin",
            field="held",
            remedy="Send it with `tasktrail submit --held`; `tasktrail start` or `run` without --held begins it.",
        )
    with Signals() as signals, session.tasks_or_embedded(wanted) as (tasks, inside), display_on(sys.stderr) as display:
        parts = None if spread is None else try_spread(tasks, wanted, spread, display)
        task_id = _find_or_create(tasks, inside, wanted, display, _set_of(given), parts)
        if inside is not None:
            name_lasting_obstacles(inside, task_id, display.say)
        whole = FilmWithParts(tasks) if parts else tasks
        ended = until_ended(whole, task_id, display, signals)
        if ended is None:
            ended = _interrupted(tasks, task_id, display, signals, embedded=inside is not None)
        how = "" if ended else _resume_hint(task_id, inside)
        failed = failed_parts(tasks, ended) if ended else []
    if ended is None:
        say(how, err=True)
        return INTERRUPTED
    code = report(session, ended)
    if not session.as_json:
        for line in failed:
            say(line, err=True)
    return code


def unfinished_like(tasks: "Tasks", wanted: "CreateTask | GraphTask") -> "Task | None":
    """Return the oldest unfinished task of the same type, paths and options."""
    from ..api.pages import from_pages
    from ..projections import TaskFilters

    filters = TaskFilters(status=OPEN, type=wanted.type, sort="id", limit=500)
    with suppress(InvalidValue):  # narrows the search to this file; not every path can be searched for
        filters = replace(filters, search=wanted.output_file or wanted.input_file)
    page, total = tasks.list_tasks(filters)
    if total > len(page):  # a task that ends meanwhile would move others to a page that was already read
        filters = replace(filters, as_of=tasks.stats().position)
        page, total = tasks.list_tasks(filters)
    for task in from_pages(tasks, filters, page, total):
        if (task.input_file, task.output_file, task.options) == (
            wanted.input_file,
            wanted.output_file,
            wanted.options,
        ):
            return task if filters.as_of == "" else tasks.get_task(task.id)
    return None


def _find_or_create(
    tasks: "Tasks",
    inside: "TaskService | None",
    wanted: "CreateTask",
    display: Display,
    named: list[str],
    parts: "CreateGraph | None" = None,
) -> int:
    existing = unfinished_like(tasks, parts.tasks[-1] if parts else wanted)
    if inside is not None:
        _refuse_to_wait_for_others(tasks, wanted if parts else existing or wanted)
    if existing is None:
        return tasks.send(parts).ids[FILM] if parts else tasks.send(wanted).task_id
    makers = parts_of(tasks, existing)
    first = makers[0] if makers else existing  # options about the start are about the parts
    _refuse_another_time(first, wanted, named, [task.id for task in makers[1:]])
    display.say(
        f"going on with task {existing.id} at {percent(existing.progress)}, made {existing.created_at:%Y-%m-%d %H:%M}Z"
    )
    differing = [
        _difference(name, task, wanted)
        for name in named
        for task in [first if name in OF_THE_PARTS else existing]
        if getattr(task, name) != getattr(wanted, name)
    ]
    if differing:
        differences = ", ".join(differing)
        display.say(
            f"not applied: {differences}; `tasktrail adjust {existing.id}` changes what can be, `cancel` ends it"
        )
    for task in (*makers, existing):
        if task.held and not wanted.held:
            tasks.start_task(task.id, reason="run again", actor=wanted.actor)
        if inside is not None:
            inside.work_on(task.id)
    return existing.id


def _set_of(given: dict[str, Any]) -> list[str]:
    """Return the task's fields on the command line, without those by which an unfinished task is found."""
    return [name for name, value in given.items() if value is not None and name not in _NOT_THE_TASKS]


def _difference(name: str, existing: "Task", wanted: "CreateTask") -> str:
    option = TASK_FLAGS.get(name, f"--{name.replace('_', '-')}")
    return f"{option} (here {plain(as_text(getattr(wanted, name)))}, there {plain(as_text(getattr(existing, name)))})"


def _refuse_another_time(existing: "Task", wanted: "CreateTask", named: list[str], others: list[int]) -> None:
    """Raise `CannotStartNow` if the unfinished task, and others of its film, would run at another time."""
    if "scheduled_for" in named and existing.scheduled_for != wanted.scheduled_for:
        due = f"is for {moment(existing.scheduled_for)}" if existing.scheduled_for else "has no time"
        also = f" (and that of {', '.join(map(str, others))})" if others else ""
        raise CannotStartNow(
            f"Task {existing.id} is the same, unfinished, and {due}",
            field="scheduled_for",
            remedy=f"`tasktrail adjust {existing.id} --scheduled-for` changes it{also}; without it `run` goes on.",
        )


def _refuse_to_wait_for_others(tasks: "Tasks", task: "Task | CreateTask") -> None:
    """Raise `CannotStartNow` if the task waits for another, which no process works on while this command runs."""
    from ..events.errors import UnknownTask
    from ..events.state import FINISHED

    policies = task.on_dependency_failure
    for number, other in enumerate(task.depends_on):
        try:
            status = tasks.get_task(other).status
        except UnknownTask:
            continue  # the command will be refused for it, by name
        policy = policies if isinstance(policies, str) else policies[number : number + 1]
        if status not in FINISHED or (status != "completed" and policy in ("wait", ("wait",))):
            raise CannotStartNow(
                f"It would wait for task {other}, which is {status}, but `run` works only on its own task",
                field="depends_on",
                remedy="Send it with `tasktrail submit`, and start `tasktrail serve`, which works on all.",
            )


def _interrupted(tasks: "Tasks", task_id: int, display: Display, signals: Signals, *, embedded: bool) -> "Task | None":
    """Handle the first Ctrl-C; a second one soon after cancels. Returns the task if it has ended, else None."""
    if signals.last == SIGTERM:
        return None
    what = "interrupting" if embedded else "no longer watching"
    display.say(f"{what} task {task_id}; Ctrl-C again cancels it")
    if signals.next(SECOND_CTRL_C) is None:
        return None
    parts = parts_of(tasks, tasks.get_task(task_id))
    tasks.cancel_task(task_id, reason="second Ctrl-C", actor=default_actor())
    for part in parts:
        if part.status not in ENDED:
            with suppress(IllegalTransition):  # it has just ended
                tasks.cancel_task(part.id, reason="second Ctrl-C", actor=default_actor())
    task = tasks.get_task(task_id)
    display.show(task)
    return task if task.status in ENDED else None


def _resume_hint(task_id: int, inside: "TaskService | None") -> str:
    if inside is not None:
        task = inside.get_task(task_id)
        if not task.attempt:
            due = task.scheduled_for
            again = "the same command without that time waits again" if due else "the same command waits again"
            if due and due > datetime.now(UTC):
                return (
                    f"task {task_id} has not begun and waits until {moment(due)}; {again}, `tasktrail serve` starts it "
                    "when it is due"
                )
            return f"task {task_id} has not begun; {again}, or `tasktrail serve`"
        return f"task {task_id} is interrupted; the same command again goes on with it, or `tasktrail serve`"
    return f"task {task_id} goes on in the service; `tasktrail watch {task_id}` shows it"


def report(session: Session, task: "Task") -> int:
    """Print how the task ended. Returns the exit code."""
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
        again = "correct the cause and run it again." if why else "run it again for another try."
        say(f"  `tasktrail history {task.id}` shows what happened; {again}", err=True)
    return REFUSED


@click.command(
    "demo",
    cls=CliCommand,
    examples=[
        ("tasktrail demo", "takes under two minutes; its files stay in ./.demo"),
        ("tasktrail demo --keep", "and then leaves the page with its tasks open, until Ctrl-C"),
    ],
)
@click.option("--work", type=GivenPathParam(file_okay=False), metavar="DIR", help="Where. Default: ./.demo")
@click.option("--keep", is_flag=True, help="Leave the service running at the end, until Ctrl-C.")
def demo_command(work: Path | None, *, keep: bool) -> int:
    """Run every task type on real files, with a kill -9 in the middle of a transcode.

    It ends by printing the address of the page with its tasks.
    """
    from ..handlers.contract import MEDIA, require_packages
    from ..handlers.registry import Registry

    for task_type in Registry.load():
        if task_type.packages.install == MEDIA:
            require_packages(task_type)
    from ..demo.story import run

    return run(work, keep=keep)
