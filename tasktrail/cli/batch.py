"""`tasktrail batch`: a task for each of many files, followed to the end. `tasktrail batches`: batches and reports."""

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from ..words import about, duration, of_input, percent, size
from .command import CliCommand, pass_session
from .completion import BATCH
from .failing import DONE, INTERRUPTED, REFUSED
from .fields import batch_fields, build_batch
from .parameters import TYPE, GivenPathParam, WholeParam, as_of_option
from .progress import ENDED, Lines, Poller, Reasons, Signals, in_short, is_unexplained, name_lasting_obstacles
from .session import Session
from .tasks import as_text_of
from .terminal import Column, TerminalLayout, plain, print_json, say

if TYPE_CHECKING:
    from ..actors.core.explanation import Obstacle
    from ..api.protocol import Reading, Tasks
    from ..batches.request import MadeBatch, NewBatch
    from ..events import Task
    from ..projections import Batch

_LOOK_EVERY = 0.5
_ALL = "--json lists all"
_ALIKE = 3
"""Files that are named for one reason; the others are counted."""
_SHOWN = 20
"""Files or reasons of one kind that a report lists."""
_PAGE = 200
"""Tasks on one page of a query."""
_BATCHES = (
    Column("BATCH", "name"),
    Column("TASKS", right=True),
    Column("DONE", right=True),
    Column("FAILED", right=True),
    Column("PROGRESS", right=True),
    Column("CREATED"),
)


@click.command(
    "batch",
    cls=CliCommand,
    examples=[
        ("tasktrail batch photos/ --to 'small/{folder}/{stem}.webp' -o width=1280", "every picture below a folder"),
        ("tasktrail batch '*.mov' --to '{stem}-{height}p.mp4' -o height=720 --dry-run", "only say what would be done"),
        ("find . -name '*.pdf' | tasktrail batch - --to pages/ --type document_preview", "a list on standard input"),
        ("tasktrail batch films/ --to web/ --preset web-720p --batch films", "by a preset, under a name of your own"),
    ],
)
@click.argument("inputs", nargs=-1, required=True, type=GivenPathParam(path_type=str), metavar="IN…")
@click.option(
    "--to",
    required=True,
    metavar="PATTERN",
    help="The outputs: a folder, or a path with {stem}, {suffix}, {folder}, {number}, {type} or an "
    "option's name, such as {height}, in it. Folders that are missing are made.",
)
@click.option("--type", "task_type", type=TYPE, metavar="TYPE", help="What to do. Default: by what each file and its "
              "output are, e.g. video_convert for a film that becomes an mp4.")  # fmt: skip
@batch_fields
@click.option("--again", is_flag=True, help="Include files that an earlier batch has done.")
@click.option("--dry-run", is_flag=True, help="Only report what would be done.")
@click.option("--detach", is_flag=True, help="Do not wait for the end; needs a running service.")
@pass_session
def batch_command(
    session: Session,
    /,
    inputs: tuple[str, ...],
    to: str,
    task_type: str | None,
    *,
    again: bool,
    dry_run: bool,
    detach: bool,
    **given: Any,
) -> int:
    """Make a task for each of many files, all created together, and show one line of progress until all have ended.

    IN is a file, a folder with all below it, a pattern in quotes with * ? [ ] or **, or - for a list of paths on
    standard input, one a line. A file is recognised by its content. Nothing starts if two files would get the same
    output. A file is skipped if an earlier batch has done the same with the same content (by size, time and hash).

    The running service does the work; without one, this process does. After Ctrl-C, the same command goes on.

    Exit code 0: all is done, 1: something failed or was refused, 130: left.
    """
    listed = _listed(inputs)
    if not listed:
        say("There is nothing to do: the list on standard input is empty.", err=True)
        return REFUSED
    wanted = build_batch(listed, to, task_type or "", given, again=again, dry_run=dry_run)
    nothing_made = session.batch_without_tasks(wanted, detached=detach)
    if nothing_made is not None:
        return _report_nothing(session, nothing_made, wanted)
    with session.tasks_or_embedded() as (tasks, inside):
        made = tasks.make_batch(wanted)
        if dry_run or not (made.created or made.skipped):
            return _report_nothing(session, made, wanted)
        if session.as_json:
            print_json(made)
        if detach:
            return _report_start(session, made)
        names = _to_follow(tasks, made)
        if inside is not None:  # all tasks of an earlier batch, since it is followed to its end
            first: dict[tuple[str, bool], int] = {}
            for name in names:
                for task in _tasks_of(tasks, name):
                    inside.work_on(task.id)
                    if task.status not in ENDED:
                        first.setdefault((name, task.held), task.id)
            for task_id in first.values():  # the other tasks wait for the same
                name_lasting_obstacles(inside, task_id, partial(say, err=True))
        left_as = "it goes on in the service"
        if inside is not None:
            # A command id belongs to the whole request: without --again it would be another one, and refused.
            how = "without --again" if again and not given["command_id"] else "again"
            left_as = f"it stops here; the same command {how} goes on"
        return _follow(session, tasks, made, names, left_as=left_as)


def _listed(inputs: Sequence[str]) -> list[str]:
    """Return the inputs, with the list on standard input in place of a dash."""
    from ..events.errors import InvalidValue

    paths: list[str] = []
    for one in inputs:
        if one != "-":
            paths.append(one)
            continue
        text = os.fsdecode(sys.stdin.buffer.read())
        lines = text.split("\0") if "\0" in text else text.replace("\r\n", "\n").split("\n")
        paths += [line for line in lines if line]
    for one in paths:
        shown = os.fsencode(one).decode("utf-8", "backslashreplace")
        if shown != one:
            raise InvalidValue(
                f"'{shown}' has a name that is not UTF-8",
                field="inputs",
                remedy="Rename it, e.g. with `convmv`, or name its folder: in there only this file is refused.",
            )
    return paths


def _to_follow(tasks: "Tasks", made: "MadeBatch") -> list[str]:
    """Return the batches to follow to their end: this one, and earlier ones that already do what was asked for."""
    names = [made.batch] if made.created else []
    open_ids = {one.task_id for one in made.skipped if one.open}
    while open_ids:
        task_id = min(open_ids)
        name = tasks.get_task(task_id).batch
        names.append(name)
        open_ids -= {task_id, *(task.id for task in _tasks_of(tasks, name))}
    return list(dict.fromkeys(names))


def _tasks_of(reading: "Reading", batch: str, as_of: str = "") -> Iterator["Task"]:
    """Yield the tasks of a batch by id. Pages are fetched only as far as the caller reads."""
    from ..api.pages import from_pages
    from ..projections import TaskFilters

    asked = TaskFilters(batch=(batch,), sort="id", limit=_PAGE, as_of=as_of)
    yield from from_pages(reading, asked, *reading.list_tasks(asked))


def _follow(session: Session, tasks: "Tasks", made: "MadeBatch", names: Sequence[str], *, left_as: str) -> int:
    """Show how far the batches are, then what became of them. `left_as`: what to say of them after Ctrl-C."""
    began = time.monotonic()
    batches: list[Batch] = []
    left = False
    with Signals() as signals, _line(sys.stderr.isatty()) as show:
        poller, waiting = Poller(Lines(err=True)), _FirstWaiting(tasks, names)
        first: float | None = None
        while names:
            seen = poller.ask(lambda: [tasks.batch(name) for name in names])
            if seen is not None:
                batches = seen
                done = _percent_of_all(batches)
                first = done if first is None else first
                held_by = () if _runs(batches) else poller.ask(waiting.held_by) or ()
                show(done, _words(batches, _seconds_left(done - first, 100 - done, time.monotonic() - began)), held_by)
                if all(batch.completed_at for batch in batches):
                    break
            if signals.next(_LOOK_EVERY) is not None:
                left = True
                break
    if left:  # printed once the line of progress is gone
        for name in names:
            say(
                f"left batch {plain(name)}: {left_as}; `tasktrail batches {shlex.quote(name)}` tells how far it is",
                err=True,
            )
        return INTERRUPTED
    if session.as_json:
        for batch in batches:
            print_json(batch)
        return _code(made, batches)
    for batch in batches:
        _report(tasks, batch)
    _report_rest(made)
    return _code(made, batches)


def _percent_of_all(batches: Iterable["Batch"]) -> float:
    """Return the percentage done of all batches together."""
    known = list(batches)
    return sum(batch.progress * batch.total for batch in known) / sum(batch.total for batch in known)


def _seconds_left(done: float, remaining: float, seconds: float) -> float | None:
    return remaining * seconds / done if done > 0.5 and remaining > 0 else None  # noqa: PLR2004 - too little to tell


def _words(batches: Sequence["Batch"], seconds_left: float | None) -> str:
    count = {
        status: sum(batch.by_status.get(status, 0) for batch in batches)
        for status in ("completed", "failed", "cancelled")
    }
    words = [f"{count['completed']} of {sum(batch.total for batch in batches)} done"]
    words += [f"{count[status]} {status}" for status in ("failed", "cancelled") if count[status]]
    words += [f"{about(seconds_left)} left"] if seconds_left is not None else []
    return ", ".join(words)


def _runs(batches: Iterable["Batch"]) -> bool:
    return any(batch.by_status.get("running") for batch in batches)


_FIRST = 20
"""How many waiting tasks are searched for one that is neither held nor too early."""


class _FirstWaiting:
    """Says what keeps the first task of some batches that is neither held nor too early from starting."""

    def __init__(self, tasks: "Tasks", names: Sequence[str]) -> None:
        from ..projections import TaskFilters

        self._tasks = tasks
        self._asked = TaskFilters(batch=tuple(names), status=("pending", "retrying"), sort="id", limit=_FIRST)
        self._reasons = Reasons()
        self._task_id = 0

    def held_by(self) -> "Sequence[Obstacle]":
        """Return the obstacles, as far as they are known."""
        page, _total = self._tasks.list_tasks(self._asked)
        first = next(filter(is_unexplained, page), None)
        if first is None:
            return ()
        if first.id != self._task_id:
            self._task_id, self._reasons = first.id, Reasons()
        return self._reasons.of(self._tasks, first)


Show: TypeAlias = "Callable[[float, str, Sequence[Obstacle]], None]"
"""Shows how much is done in percent and in words, and what keeps the rest waiting."""


@contextmanager
def _line(live: bool) -> Iterator[Show]:  # noqa: FBT001 - private
    """Show one line that is redrawn on a terminal; else a new line every ten percent, and for a new reason to wait."""
    if not live:
        last, shown = -1, set[str]()

        def print_step(done: float, words: str, held_by: "Sequence[Obstacle]") -> None:
            nonlocal last
            new = {one.reason for one in held_by[:1]} - shown
            if int(done // 10) != last or new:
                last = int(done // 10)
                shown.update(new)
                say(f"{percent(done)} {_and_waits(words, held_by)}", err=True)

        yield print_step
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(bar_width=24), TaskProgressColumn(), TextColumn("{task.description}", markup=False))
    progress: AbstractContextManager[Progress] = Progress(*columns, console=Console(stderr=True), transient=True)
    with progress as drawn:
        bar = drawn.add_task("", total=100)
        yield lambda done, words, held_by: drawn.update(bar, completed=done, description=_and_waits(words, held_by))


def _and_waits(words: str, held_by: "Sequence[Obstacle]") -> str:
    return f"{words}; waiting: {plain(in_short(held_by))}" if held_by else words


def _code(made: "MadeBatch", batches: Iterable["Batch"]) -> int:
    good = not made.refused and not any(one.failed for one in made.skipped)
    good = good and all(batch.by_status.get("completed", 0) == batch.total for batch in batches)
    return DONE if good and (made.created or made.skipped) else REFUSED


def _report(reading: "Reading", batch: "Batch", as_of: str = "") -> None:
    """Report a batch: numbers, bytes, time, and why tasks failed. `as_of`: the moment; empty: now."""
    counts = ", ".join(f"{number} {status}" for status, number in batch.by_status.items())
    took = (batch.completed_at - batch.created_at).total_seconds() if batch.completed_at else None
    say(f"batch {plain(batch.batch)}: {counts}" + (f", in {duration(took)}" if took is not None else ""))
    if batch.bytes_before and not batch.bytes_after:  # its type does not report the size of outputs
        say(f"  {size(batch.bytes_before)} were read")
    elif batch.bytes_after:
        share = f", {of_input(batch.bytes_after, batch.bytes_before)}" if batch.bytes_before else ""
        say(f"  {size(batch.bytes_before)} became {size(batch.bytes_after)}{share}")
    if batch.originals_kept:
        _name_some(
            "originals that stay",
            batch.originals_kept,
            (f"{plain(task.input_file)}: {plain(why)} (task {task.id})" for task, why in _kept(reading, batch, as_of)),
            f"`tasktrail list --batch {shlex.quote(batch.batch)} --status completed --json`",
        )
    failed = batch.by_status.get("failed", 0)
    _name_some(
        "failed",
        failed,
        (
            f"{plain(task.input_file)}: {plain(task.error)} (task {task.id})"
            for task in _failures(reading, batch, as_of)
        ),
        f"`tasktrail list --batch {shlex.quote(batch.batch)} --status failed`",
    )


def _failures(reading: "Reading", batch: "Batch", as_of: str) -> list["Task"]:
    from ..projections import TaskFilters

    if not batch.by_status.get("failed"):
        return []
    asked = TaskFilters(batch=(batch.batch,), status=("failed",), sort="id", limit=_SHOWN, as_of=as_of)
    return reading.list_tasks(asked)[0]


def _kept(reading: "Reading", batch: "Batch", as_of: str) -> Iterator[tuple["Task", str]]:
    """Yield the tasks whose originals were kept, with the reason. Pages are fetched only as far as the caller reads."""
    for task in _tasks_of(reading, batch.batch, as_of):
        original = task.result.get("original")
        if isinstance(original, dict) and original.get("kept"):
            yield task, str(original["kept"])


def _report_rest(made: "MadeBatch") -> None:
    """Report the files for which no task was made, and why."""
    if made.repeated:
        say("this command id has made the batch before; it is shown without what was skipped, left out or refused then")
    done = [one for one in made.skipped if not (one.failed or one.open)]
    going_on = sum(one.open for one in made.skipped)
    bad = [one for one in made.skipped if one.failed]
    if going_on:
        say(f"skipped: {_files(going_on)} that an earlier batch is to do, or is doing")
    if done:
        say(f"skipped: {_files(len(done))} that an earlier batch has done; --again does them once more")
    failures = (f"{plain(one.input_file)}: {plain(one.why)}" for one in bad)
    _name_some("failed before, on the same content", len(bad), failures, _ALL)
    _name_alike("left out", [(one.why, "", one.input_file) for one in made.left_out])
    refusals = [(one.problem["detail"], one.problem.get("remedy", ""), one.input_file) for one in made.refused]
    _name_alike("refused", refusals)
    if not (made.created or made.skipped or made.repeated):
        say("There is nothing to do.", err=True)


def _name_alike(title: str, entries: Sequence[tuple[str, str, str]]) -> None:
    """Print files with reasons and remedies. A reason that many files share is printed once."""
    alike: dict[tuple[str, str], list[str]] = {}
    for why, remedy, path in entries:
        alike.setdefault((why, remedy), []).append(path)
    lines: list[str] = []
    for (why, remedy), paths in alike.items():
        if len(paths) <= _ALIKE:
            lines += [f"{plain(path)}: {plain(why)}" for path in paths]
        else:
            named = ", ".join(map(plain, paths[:_ALIKE]))
            lines.append(f"{plain(why)}: {named} and {len(paths) - _ALIKE:,} more; {_ALL}")
        if remedy:
            lines[-1] += f". {plain(remedy)}"
    if entries:
        say(f"{title}: {len(entries):,}")
    for line in lines[:_SHOWN]:
        say(f"  {line}", hang="    ")
    if lines[_SHOWN:]:
        say(f"  and more; {_ALL}")


def _files(number: int) -> str:
    return f"{number:,} {'file' if number == 1 else 'files'}"


def _tasks(number: int) -> str:
    return f"{number:,} {'task' if number == 1 else 'tasks'}"


def _name_some(title: str, number: int, lines: Iterable[str], more: str) -> None:
    if not number:
        return
    say(f"{title}: {number}")
    shown = [line for line, _ in zip(lines, range(_SHOWN), strict=False)]
    for line in shown:
        say(f"  {line}", hang="    ")
    if number > len(shown):
        say(f"  and {number - len(shown)} more; {more}")


def _report_nothing(session: Session, made: "MadeBatch", wanted: "NewBatch") -> int:
    """Report what a batch would have done, or why there is nothing to do."""
    if session.as_json:
        print_json(made)
    elif not wanted.dry_run:
        _report_rest(made)
    else:
        say(f"batch {plain(made.batch)} would have {_tasks(len(made.created))}")
        for one in made.created:
            say(f"  {one.type}: {plain(one.input_file)} → {plain(one.output_file)}", hang="    ")
        if made.created and wanted.original != "keep":
            then = f"moved below {plain(wanted.original_folder)}" if wanted.original == "move" else "removed"
            say(f"Each original will be {then} once its result is there, whole and smaller; else it stays.")
        _report_rest(made)
    return _code(made, ())


def _report_start(session: Session, made: "MadeBatch") -> int:
    if not session.as_json:
        if made.created:
            ask = f"`tasktrail batches {shlex.quote(made.batch)}` tells how far"
            say(f"batch {plain(made.batch)}: {_tasks(len(made.created))}; {ask}")
        _report_rest(made)
    return _code(made, ())


@click.command(
    "batches",
    cls=CliCommand,
    examples=[
        ("tasktrail batches", "the newest, and how far they are"),
        ("tasktrail batches holiday", "the results of one: numbers, bytes, time, and why tasks have failed"),
        ("tasktrail batches holiday --as-of 'yesterday 12:00'", "how far it was then"),
    ],
)
@click.argument("names", nargs=-1, type=BATCH, metavar="[BATCH…]")
@click.option("--limit", type=WholeParam(1, 500), default=20, metavar="N", help="At most this many. Default: 20")
@as_of_option
@pass_session
def batches_command(session: Session, names: tuple[str, ...], limit: int, as_of: int | datetime | None) -> int:
    """List the newest batches, or report the results of some."""
    from ..events.errors import UnknownBatch

    for name in names:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        if shown != name:  # a query cannot carry such a name
            raise UnknownBatch(f"No task belongs to a batch '{shown}'", field="batch")
    with session.reading() as reading:
        batches = [reading.batch(name, as_of=as_of) for name in names] if names else reading.batches(limit, as_of=as_of)
        if session.as_json:
            for batch in batches:
                print_json(batch)
        elif names:
            for batch in batches:
                _report(reading, batch, as_text_of(as_of))
        elif not batches and as_of is not None:
            click.echo("There was no batch then.")
        elif not batches:
            say("There is no batch. `tasktrail batch --help` tells how to make one.")
        else:
            layout = session.layout(as_of)
            layout.table(_BATCHES, (_row(batch, layout) for batch in batches))
    return DONE


def _row(batch: "Batch", layout: TerminalLayout) -> tuple[str, ...]:
    return (
        batch.batch,
        str(batch.total),
        str(batch.by_status.get("completed", 0)),
        str(batch.by_status.get("failed", 0)),
        percent(batch.progress),
        layout.when(batch.created_at),
    )
