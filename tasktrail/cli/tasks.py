"""`tasktrail list`, `show`, `diff`, `history`, `output`: tasks, their changes, and what they printed."""

import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from ..events.counted import counted, plural
from ..words import duration, moment, percent, size, sum_of
from .change import filter_options, names_some
from .command import CliCommand, pass_session
from .completion import SORT_FIELDS
from .failing import json_bytes
from .fields import with_options
from .notices import in_short
from .parameters import TASK_ID, PointParam, WholeParam, as_of_option
from .session import Session
from .terminal import (
    Column,
    TerminalLayout,
    as_text,
    for_stream,
    localized,
    plain,
    print_json,
    print_pairs,
    say,
    wrapped,
)

if TYPE_CHECKING:
    from ..api.protocol import Reading
    from ..events import Recorded, Task
    from ..handlers.attempt_output import Output
    from ..projections.attempts import Attempt
    from ..projections.history import Line, TaskHistory


_LIST = (
    Column("ID", right=True),
    Column("STATUS"),
    Column("TYPE"),
    Column("DONE", right=True),
    Column("INPUT", "name"),
    Column("CREATED", leaves=1, extra=True),
    Column("PRIORITY", right=True, leaves=2, extra=True),
    Column("MESSAGE", "text", leaves=3),
)


F = TypeVar("F", bound=Callable[..., Any])


def task_filters(function: F) -> F:
    """Add the options that select tasks, and the moment."""
    statuses = "pending (held ones too), running, completed, failed, cancelled, retrying."
    return with_options(function, filter_options(statuses), as_of_option)


def as_text_of(as_of: int | datetime | None) -> str:
    """The value of `--as-of`, as the filters take it."""
    return as_of.isoformat() if isinstance(as_of, datetime) else str(as_of if as_of is not None else "")


@click.command(
    "list",
    cls=CliCommand,
    examples=[
        ("tasktrail list --status running,retrying", "what is going on"),
        ("tasktrail list --status failed --search holiday", "failed tasks with a word in type, paths or error"),
        ("tasktrail list --as-of 2026-08-01T12:00:00Z --json", "as it was then, for a program"),
    ],
)
@task_filters
@click.option(
    "--sort",
    type=SORT_FIELDS,
    default="",
    callback=names_some,
    metavar="FIELD",
    help="created_at, id, updated_at, priority or effective_priority; a - before it reverses the order "
    "(write --sort=-priority). Default: -created_at",
)
@click.option("--limit", default="", callback=names_some, metavar="N", help="At most this many, up to 500. Default: 50")
@click.option("--offset", default="", callback=names_some, metavar="N", help="Leave out the first N.")
@pass_session
def list_command(session: Session, /, as_of: int | datetime | None, **texts: str) -> None:
    """List tasks, newest first. Several values, separated by commas, are alternatives."""
    from ..projections import TaskFilters

    filters = TaskFilters.parse({**texts, "as_of": as_text_of(as_of)})
    with session.reading() as reading:
        tasks, total = reading.list_tasks(filters)
    if session.as_json:
        for task in tasks:
            print_json(task)
        return
    if not tasks:
        narrowed = any(text for name, text in texts.items() if name not in ("sort", "limit", "offset"))
        say(f"All {total} are before --offset {filters.offset}." if total else _no_tasks_note(as_of, narrowed=narrowed))
        return
    layout = session.layout(as_of)
    layout.table(_LIST, (_list_row(task, layout) for task in tasks))
    if total > len(tasks):
        say(f"{len(tasks)} of {total}; --limit and --offset show others.", err=True)


def _no_tasks_note(as_of: int | datetime | None, *, narrowed: bool) -> str:
    then = "" if as_of is None else f" as of {moment(as_of) if isinstance(as_of, datetime) else f'position {as_of}'}"
    if narrowed:
        return f"No task passes the filters{then}."
    return f"There were no tasks{then}." if then else "There are no tasks."


def _list_row(task: "Task", layout: TerminalLayout) -> tuple[str, ...]:
    return (
        str(task.id),
        task.status,
        task.type,
        percent(task.progress),
        PurePath(task.input_file).name,
        layout.when(task.created_at),
        str(task.priority),
        _message(task, layout),
    )


def _message(task: "Task", layout: TerminalLayout) -> str:
    """Return what a waiting task waits for, as far as its own state shows; then its error or what it does."""
    from ..events.state import WAITING

    due = {"pending": task.scheduled_for, "retrying": task.due_at}.get(task.status)
    parts = (
        "held" if task.held and task.status in WAITING else "",
        f"due {layout.when(due)}" if due is not None and due > layout.now else "",
        task.error
        or (localized(task.message) if task.completed_at is None else "")
        or (task.last_error if task.status == "retrying" else ""),
    )
    return "; ".join(filter(None, parts))


_BYTES = {"estimated_memory", "estimated_temp", "memory_used", "temp_used"}
_SECONDS = {"duration", "retry_delay", "estimated_time", "timeout", "cpu_used", "time_used", "retry_max_delay"}
_SECONDS |= {"queue_timeout", "total_timeout", "heartbeat_timeout", "no_progress_timeout"}

_INNER = {"estimate", "life", "version"}
"""Fields that help only programs, or the search for a fault."""
_OF_WAITING = {"effective_priority", "priority_terms"}


@click.command(
    "show",
    cls=CliCommand,
    examples=[
        ("tasktrail show 3", "what is worth knowing about task 3"),
        ("tasktrail show 3 --wide", "every field, even if unset"),
        ("tasktrail show 3 --as-of 120", "as it was when the log ended at position 120"),
        ("tasktrail show 3 --json", "for a program"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@as_of_option
@pass_session
def show_command(session: Session, task_id: int, as_of: int | datetime | None) -> None:
    """Show one task; times are UTC.

    On a terminal, fields that are unset or have their default are left out. With --wide, with --json and in a pipe all
    are shown. With --as-of, as_of_position is the last record that counts.
    """
    with session.reading() as reading:
        task = reading.get_task(task_id, as_of=as_of)
        position = reading.stats(as_of=as_of).position if isinstance(as_of, datetime) else as_of
        brief = session.as_json or as_of is not None
        notices = [] if brief else reading.notices(task_id)
        failed = bool(task.error) or task.status == "retrying"
        printed = last_lines(reading, task_id, task.attempt) if failed and task.attempt and not brief else []
    if session.as_json:
        print_json(task if position is None else msgspec.to_builtins(task) | {"as_of_position": position})
    else:
        print_pairs(
            [
                *([("as_of", moment(as_of))] if isinstance(as_of, datetime) else []),
                *([] if position is None else [("as_of_position", str(position))]),
                *field_pairs(task, every=session.layout().width is None),
                *([("notices", in_short(notices))] if notices else []),
            ]
        )
        for line in printed:
            say(line)


def field_pairs(task: "Task", *, every: bool = True) -> list[tuple[str, str]]:
    """Return the task's fields with their values in words, under the names that JSON uses.

    With `every`, all fields, one line each. Without it, fields without information are left out, and each entry of
    the result has its own line.
    """
    texts = {name: _in_words(name, getattr(task, name)) for name in task.__struct_fields__}
    if not task.depends_on:
        texts["on_dependency_failure"] = "-"  # without dependencies the recorded value means nothing
    if every:
        return list(texts.items())
    pairs: list[tuple[str, str]] = []
    for name, text in texts.items():
        if _is_at_rest(task, name, text):
            continue
        if name == "result":
            # A 0 is a result; an empty list or text is none.
            inner = [(f"  {plain(key)}", as_text(value)) for key, value in task.result.items() if value not in _EMPTY]
            pairs += [(name, ""), *inner] if inner else []
        else:
            pairs.append((name, text))
    return pairs


_EMPTY: tuple[Any, ...] = (None, "", [], {})


def _is_at_rest(task: "Task", name: str, text: str) -> bool:
    from ..events import CreateTask

    usual = dict(zip(reversed(CreateTask.__struct_fields__), reversed(CreateTask.__struct_defaults__), strict=False))
    waits = task.status in ("pending", "retrying")
    return (
        text in ("-", "0")
        or (name in usual and getattr(task, name) == usual[name])
        or name in _INNER
        or (name in _OF_WAITING and not waits)
        or (name == "checkpoint" and task.status == "completed")  # nothing will resume from it
    )


def _in_words(name: str, value: object) -> str:
    from ..events.task import Children
    from ..events.task_events import PriorityTerms, ReadInput

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
        case ReadInput():
            at = datetime.fromtimestamp(value.modified // 10**9, UTC)
            text = f"{size(value.size)}, modified {moment(at)}"
            return f"{text}, sha256 {value.sha256}" if value.sha256 else text
        case tuple() if value and all(isinstance(one, int | str) for one in value):
            return plain(", ".join(map(str, value)))
        case str() if name == "message":
            return as_text(localized(value))
        case float() if name == "progress":
            return percent(value)
        case _:
            return as_text(value)


_SHOWN_ATTEMPTS = 3
"""The most failed attempts whose last lines are shown; the latest ones."""
_OFTEN = {"progressed", "checkpointed"}
_NUMBERS = ("REACHED", "RAN", "WAITED", "CHECKPOINTS", "MEMORY", "CPU")
_ATTEMPTS = (
    Column("ATTEMPT", right=True),
    Column("OUTCOME"),
    *(Column(name, right=True, leaves=place) for place, name in enumerate(_NUMBERS, 1)),
    Column("ERROR", "text", leaves=9),
)


_CHANGES = (
    Column("ID", right=True),
    Column("TYPE"),
    Column("BEFORE"),
    Column("AFTER"),
    Column("DONE", right=True),
    Column("RECORDS", right=True, leaves=1),
    Column("ERROR", "text", leaves=2),
)


@click.command(
    "diff",
    cls=CliCommand,
    examples=[
        ("tasktrail diff --from -1d", "what became of the tasks since yesterday at this time"),
        ("tasktrail diff --from 2026-08-01T12:00:00Z --to 2026-08-02T12:00:00Z", "in a day that is over"),
        ("tasktrail diff --from 120 --json", "since a position of the log, for a program"),
    ],
)
@click.option("--from", "begin", type=PointParam(), required=True, help="A position of the log, or a time, e.g. -2h.")
@click.option("--to", "end", type=PointParam(), help="The same. Default: now")
@pass_session
def diff_command(session: Session, begin: int | datetime, end: int | datetime | None) -> None:
    """Show every task that has records between two points, before and after."""
    layout, rows = session.layout(), []
    for change in session.environment.changes(session, begin, end):
        if session.as_json:
            print_json(change)
            continue
        before, after = change.before.status if change.before else "-", change.after
        cells = (before, after.status, percent(after.progress), str(change.records), after.error)
        rows.append((str(change.task_id), after.type, *cells))
    if session.as_json:
        return
    if rows:
        layout.table(_CHANGES, rows)
    else:
        say("No task has a record in between.")


@click.command(
    "history",
    cls=CliCommand,
    examples=[
        ("tasktrail history 3", "how task 3 came to be what it is"),
        ("tasktrail history 3 --all", "every single report of progress"),
        ("tasktrail history 3 --tree", "what led to what, from the command on"),
        ("tasktrail history 3 --json", "the recorded events as JSON Lines"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--all", "everything", is_flag=True, help="Do not fold series of progress and checkpoints into one line.")
@click.option("--tree", "as_tree", is_flag=True, help="Set each record below the one that led to it.")
@pass_session
def history_command(session: Session, task_id: int, *, everything: bool, as_tree: bool) -> None:
    """Show what happened to a task, when, by whom and why, and what became of each attempt."""
    with session.reading_and_live() as (reading, live):
        records = reading.events(task_id)
        if session.as_json:
            from ..projections.causes import tree

            places = tree(records) if as_tree else {}
            for record in records:
                place = places.get(record.position)
                more = {"cause": place.cause or None, "depth": place.depth} if place else {}
                click.echo(for_stream(json_bytes(record.flat() | more), sys.stdout))
            return
        if gone := _why_gone(reading, records):
            say(gone)
            stubs, verb = counted(len(records), "stub"), plural(len(records), "stands", "stand")
            say(f"{stubs}, from position {records[0].position} to {records[-1].position}, {verb} for it")
            return
        records = sorted((*records, *reading.notes(task_id)), key=lambda record: record.position)
        from ..projections.history import history as story_of

        story = story_of(task_id, records, session.environment.now())
        failed = [attempt.number for attempt in story.attempts if attempt.error]
        printed = [line for number in failed[-_SHOWN_ATTEMPTS:] for line in last_lines(reading, task_id, number)]
    if as_tree:
        _print_tree(story, records, session.layout(), everything=everything)
        return
    is_cut = story.still == "runs" and not (live or session.is_log_shared())
    _print_story(story, session.layout(), everything=everything, is_cut=is_cut)
    for line in printed:
        say(line)


def _why_gone(reading: "Reading", records: Sequence["Recorded"]) -> str:
    """Return where and by which rule a task was forgotten, if only stubs of it are left; else an empty text."""
    from ..events.errors import TaskForgotten
    from ..events.recorded import Stub

    if isinstance(records[0].event, Stub):
        try:
            reading.get_task(records[0].task_id)
        except TaskForgotten as error:
            return error.message
    return ""


def _print_story(story: "TaskHistory", layout: TerminalLayout, *, everything: bool, is_cut: bool) -> None:
    """Print a task's history. `is_cut`: no service works on the attempt that has no recorded end."""
    click.echo(f"Task {story.task_id}" + ("; times are UTC" if layout.width is None else ""))
    for line in story.lines if everything else collapsed(story.lines):
        _print_line(line, layout)
    if story.attempts:
        click.echo("")
        layout.table(_ATTEMPTS, map(_attempt, story.attempts))
    if is_cut:  # until when it ran is not known
        say(f"\nwaited {duration(story.waited)}; no end of the last attempt is recorded, and no service runs")
        return
    still = f"; it still {story.still}" if story.still else ""
    say(f"\nwaited {duration(story.waited)}, ran {duration(story.ran)}{still}")


def _print_tree(
    story: "TaskHistory", records: Iterable["Recorded"], layout: TerminalLayout, *, everything: bool
) -> None:
    from ..projections.causes import tree

    records = list(records)
    lines = {line.position: line for line in (story.lines if everything else collapsed(story.lines))}
    places = tree(records)
    roots: list[tuple[str, list[int]]] = []
    below: dict[int, list[int]] = {}
    for record in records:
        if record.position not in lines:
            continue
        cause = places[record.position].cause
        led = f"position {cause}" if cause else f"command {plain(record.command_id)}" if record.command_id else ""
        if cause in lines:
            below.setdefault(cause, []).append(record.position)
        elif led and roots and roots[-1][0] == led:
            roots[-1][1].append(record.position)
        else:
            roots.append((led, [record.position]))
    for led, siblings in roots:
        say(led or "by itself")
        _print_branches(siblings, below, lines, layout)


def _print_branches(
    siblings: list[int], below: dict[int, list[int]], lines: dict[int, "Line"], layout: TerminalLayout
) -> None:
    """Print depth first. The last record that a record led to continues right below it, and the others branch off.

    Otherwise each retry would be three levels deeper.
    """
    waiting = [("", siblings)]
    while waiting:
        before, (position, *others) = waiting.pop()
        corner, room = ("└─ ", "   ") if position == siblings[-1] else ("", "")
        fork, below_it = ("├─ ", "│  ") if others else (corner, room)
        if others:
            waiting.append((before, others))
        if position in below:
            waiting.append((before + below_it, below[position]))
        line = lines[position]
        text = plain(line.text.removeprefix(f"{line.event}: ")) + _actor_and_reason(line)
        entry, indent, hang = f"{line.position} {line.event}: {text}", before + fork, f"{before}{below_it}  "
        rows = [indent + entry] if layout.width is None else wrapped(entry, layout.width, indent=indent, hang=hang)
        click.echo("\n".join(rows))


def _actor_and_reason(line: "Line") -> str:
    """Return in brackets who did it and why; empty without an actor."""
    reason = f": {plain(localized(line.reason))}" if line.reason else ""
    return f"  ({plain(line.actor)}{reason})" if line.actor else ""


def _print_line(line: "Line", layout: TerminalLayout) -> None:
    when = layout.when(line.recorded_at)
    before = f"{line.position:>6}  {when:>9}  {'+' + duration(line.after):>8}  {line.event:<12}  "
    if layout.width is None:
        click.echo(f"{before}{plain(line.text)}{_actor_and_reason(line)}")
        return
    text = plain(line.text) + _actor_and_reason(line)
    longest = max(24, *map(len, text.split()))
    hang = " " * next((room for room in (len(before), 10) if room + longest <= layout.width), 0)
    click.echo("\n".join(wrapped(text, layout.width, indent=before, hang=hang)))


def collapsed(lines: Iterable["Line"]) -> Iterator["Line"]:
    """Yield the lines, replacing each series of progress and checkpoints by its last line."""
    from msgspec.structs import replace

    series: list[Line] = []
    for line in (*lines, None):
        if line is not None and line.event in _OFTEN:
            series.append(line)
            continue
        if series:
            last, more = series[-1], len(series) - 1
            text = f"{last.text} (and {more} before)" if more else last.text
            yield replace(last, text=text, after=sum(one.after for one in series))
            series = []
        if line is not None:
            yield line


def _attempt(attempt: "Attempt") -> tuple[str, ...]:
    return (
        str(attempt.number),
        (attempt.outcome or "running").replace("_", " "),
        percent(attempt.progress),
        duration(attempt.duration) if attempt.duration is not None else "",
        duration(attempt.waited),
        str(attempt.checkpoints),
        size(attempt.memory_used) if attempt.memory_used else "",
        duration(attempt.cpu_used) if attempt.cpu_used else "",
        attempt.error,
    )


_LINES_SHOWN = 5
"""The number of last lines of a failed attempt's output that are shown."""
_LAST = 4096
_LOOK_EVERY = 0.3


@click.command(
    "output",
    cls=CliCommand,
    examples=[
        ("tasktrail output 3", "what the latest attempt of task 3 and its programs printed"),
        ("tasktrail output 3 --attempt 1", "the same of its first attempt"),
        ("tasktrail output 3 --follow", "what is there, and what follows until the attempt ends"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--attempt", type=WholeParam(min=1), metavar="N", help="Which attempt. Default: the latest")
@click.option("--follow", is_flag=True, help="Go on until the attempt has ended; Ctrl-C ends it before.")
@pass_session
def output_command(session: Session, task_id: int, attempt: int | None, *, follow: bool) -> None:
    """Print what an attempt and its child programs have printed, and the traceback of its failure.

    Of long output, only the beginning and the end are kept (key `max_output`). Colours are left out, and other control
    characters are spelled out. With --json and --follow, each part is an object.
    """
    with session.reading() as reading:
        part = reading.output(task_id, attempt)
        _print_output(session, part)
        while follow and part.running:
            threading.Event().wait(_LOOK_EVERY)
            part = reading.output(task_id, part.attempt, after=part.next)
            if part.text or not session.as_json:
                _print_output(session, part)
        if not session.as_json and not part.size:
            click.echo(_why_nothing(reading, task_id, part), err=True)


def _why_nothing(reading: "Reading", task_id: int, part: "Output") -> str:
    from ..events.task_events import ERASED

    if reading.get_task(task_id).input_file == ERASED:
        return f"the output of task {task_id}, if any, was erased"
    return f"task {task_id} has printed nothing{' yet' if part.running or not part.attempt else ''}"


def _print_output(session: Session, part: "Output") -> None:
    from ..handlers.attempt_output import shown

    if session.as_json:
        print_json(part)
    else:
        text = shown(part.text.encode())  # a service at a given address may not be trustworthy
        click.echo(text, nl=not part.running and bool(text) and not text.endswith("\n"))


def last_lines(reading: "Reading", task_id: int, attempt: int) -> list[str]:
    """Return the command that prints an attempt's output, and its last lines; empty if it printed nothing."""
    part = reading.output(task_id, attempt, last=_LAST)
    if not part.size:
        return []
    head = f"attempt {attempt} printed {size(part.size)} (tasktrail output {task_id} --attempt {attempt}), at the end:"
    lines = [line for line in part.text.splitlines() if line.strip()][-_LINES_SHOWN:]
    return [head, *(f"  {plain(line)}" for line in lines)]
