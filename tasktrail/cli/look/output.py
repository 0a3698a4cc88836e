"""`tasktrail output`: what an attempt printed, and where its failure came from."""

import threading
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..output import print_json
from ..session import Session
from ..words import TASK_ID, Whole, plain, size

if TYPE_CHECKING:
    from ...api.protocol import Reading
    from ...handlers.printed import Output

LINES = 5
"""That are shown of a failed attempt beside what else is told of it."""
_LAST = 4096
_LOOK_EVERY = 0.3


@click.command(
    "output",
    cls=Command,
    examples=[
        ("tasktrail output 3", "what the latest attempt of task 3 and its programs printed"),
        ("tasktrail output 3 --attempt 1", "the same of its first attempt"),
        ("tasktrail output 3 --follow", "what is there, and what comes until the attempt ends"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@click.option("--attempt", type=Whole(min=1), metavar="N", help="Which attempt. Default: the latest")
@click.option("--follow", is_flag=True, help="Go on until the attempt has ended; Ctrl-C ends it before.")
@pass_session
def command(session: Session, task_id: int, attempt: int | None, *, follow: bool) -> None:
    """Print what an attempt and its child programs have printed, and the traceback of its failure.

    Of long output the beginning and the end are kept (key `max_output`). Colours are left out, and other control
    characters stand there in letters. With --json and --follow there is an object for each part.
    """
    with session.reading() as reading:
        part = reading.output(task_id, attempt)
        _print(session, part)
        while follow and part.running:
            threading.Event().wait(_LOOK_EVERY)
            part = reading.output(task_id, part.attempt, after=part.next)
            if part.text or not session.as_json:
                _print(session, part)
    if not session.as_json and not part.size:
        click.echo(f"task {task_id} has printed nothing{' yet' if part.running or not part.attempt else ''}", err=True)


def _print(session: Session, part: "Output") -> None:
    if session.as_json:
        print_json(part)
    else:
        click.echo(part.text, nl=not part.running and bool(part.text) and not part.text.endswith("\n"))


def last_lines(reading: "Reading", task_id: int, attempt: int) -> list[str]:
    """Where an attempt's output is found, and its last lines; nothing when it printed nothing."""
    part = reading.output(task_id, attempt, last=_LAST)
    if not part.size:
        return []
    head = f"attempt {attempt} printed {size(part.size)} (tasktrail output {task_id} --attempt {attempt}), at the end:"
    lines = [line for line in part.text.splitlines() if line.strip()][-LINES:]
    return [head, *(f"  {plain(line)}" for line in lines)]
