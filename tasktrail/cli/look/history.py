"""`tasktrail history`: a task's story, event by event, and its attempts."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..failing import encode
from ..output import print_table
from ..session import Session
from ..words import TASK_ID, duration, moment, percent, plain, size

if TYPE_CHECKING:
    from ...projections.history.story import Attempt, Line, TaskHistory

_OFTEN = {"progressed", "checkpointed"}
_ATTEMPT_HEADINGS = ("ATTEMPT", "OUTCOME", "REACHED", "WAITED", "RAN", "CHECKPOINTS", "MEMORY", "CPU", "ERROR")


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
    from ...projections.history.story import history

    _print(history(task_id, records, session.doors.now()), everything=everything)


def _print(story: "TaskHistory", *, everything: bool) -> None:
    click.echo(f"Task {story.task_id}; times are UTC")
    for line in story.lines if everything else folded(story.lines):
        who = f"  ({plain(line.actor)}{': ' + plain(line.reason) if line.reason else ''})" if line.actor else ""
        click.echo(
            f"{line.position:>7}  {moment(line.recorded_at)}  {'+' + duration(line.after):>9}  "
            f"{line.event:<12}  {plain(line.text)}{who}"
        )
    if story.attempts:
        click.echo("")
        print_table(_ATTEMPT_HEADINGS, map(_attempt, story.attempts), right=(0, 2, 3, 4, 5, 6, 7))
    still = f"; it still {story.still}" if story.still else ""
    click.echo(f"\nwaited {duration(story.waited)}, ran {duration(story.ran)}{still}")


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
        duration(attempt.waited),
        duration(attempt.duration) if attempt.duration is not None else "",
        str(attempt.checkpoints),
        size(attempt.memory_used) if attempt.memory_used else "",
        duration(attempt.cpu_used) if attempt.cpu_used else "",
        attempt.error,
    )
