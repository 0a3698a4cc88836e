"""`tasktrail history`: a task's story, event by event, and its attempts."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..failing import encode
from ..layout import Column, wrapped
from ..output import Paper, say
from ..session import Session
from ..words import TASK_ID, duration, localized, percent, plain, size
from .output import last_lines

if TYPE_CHECKING:
    from ...projections.history import Attempt, Line, TaskHistory

_TOLD = 3
"""Failed attempts of which the last lines are shown, the latest ones."""
_OFTEN = {"progressed", "checkpointed"}
_NUMBERS = ("REACHED", "RAN", "WAITED", "CHECKPOINTS", "MEMORY", "CPU")
_ATTEMPTS = (
    Column("ATTEMPT", right=True),
    Column("OUTCOME"),
    *(Column(name, right=True, leaves=place) for place, name in enumerate(_NUMBERS, 1)),
    Column("ERROR", "text", leaves=9),
)


@click.command(
    "history",
    cls=Command,
    examples=[
        ("tasktrail history 3", "how task 3 came to be what it is"),
        ("tasktrail history 3 --all", "every single report of progress"),
        ("tasktrail history 3 --json", "the recorded events as JSON Lines"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--all", "everything", is_flag=True, help="Do not fold series of progress and checkpoints into one line.")
@pass_session
def command(session: Session, task_id: int, *, everything: bool) -> None:
    """Show what happened to a task, when, by whom and why, and what became of each attempt."""
    with session.reading() as reading:
        records = reading.events(task_id)
        if session.as_json:
            for record in records:
                click.echo(encode(record.flat()))
            return
        records = sorted((*records, *reading.notes(task_id)), key=lambda record: record.position)
        from ...projections.history import history

        story = history(task_id, records, session.doors.now())
        failed = [attempt.number for attempt in story.attempts if attempt.error]
        printed = [line for number in failed[-_TOLD:] for line in last_lines(reading, task_id, number)]
    _print(story, session.paper(), everything=everything)
    for line in printed:
        say(line)


def _print(story: "TaskHistory", paper: Paper, *, everything: bool) -> None:
    click.echo(f"Task {story.task_id}" + ("; times are UTC" if paper.width is None else ""))
    for line in story.lines if everything else folded(story.lines):
        _print_line(line, paper)
    if story.attempts:
        click.echo("")
        paper.table(_ATTEMPTS, map(_attempt, story.attempts))
    still = f"; it still {story.still}" if story.still else ""
    say(f"\nwaited {duration(story.waited)}, ran {duration(story.ran)}{still}")


def _print_line(line: "Line", paper: Paper) -> None:
    who = f"  ({plain(line.actor)}{': ' + plain(localized(line.reason)) if line.reason else ''})" if line.actor else ""
    when = paper.when(line.recorded_at)
    before = f"{line.position:>6}  {when:>9}  {'+' + duration(line.after):>8}  {line.event:<12}  "
    if paper.width is None:
        click.echo(f"{before}{plain(line.text)}{who}")
        return
    text = plain(line.text) + who
    longest = max(24, *map(len, text.split()))
    hang = " " * next((room for room in (len(before), 10) if room + longest <= paper.width), 0)
    click.echo("\n".join(wrapped(text, paper.width, indent=before, hang=hang)))


def folded(lines: Iterable["Line"]) -> Iterator["Line"]:
    """The lines, a series of progress and checkpoints given by its last one."""
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
