"""`tasktrail attempts`: the attempts of one task, each with what it took and how it ended."""

from datetime import datetime
from typing import TYPE_CHECKING

import click

from ..words import duration, percent, size
from .command import CliCommand, pass_session
from .parameters import TASK_ID, as_of_option
from .session import Session
from .terminal import Column, TerminalLayout, print_json

if TYPE_CHECKING:
    from ..projections.attempts import Attempt

_COLUMNS = (
    Column("ATTEMPT", right=True),
    Column("OUTCOME"),
    Column("STARTED", leaves=1),
    Column("WORKER", leaves=2),
    Column("REACHED", right=True),
    Column("RAN", right=True),
    Column("RESERVED", right=True, leaves=3),
    Column("MEMORY", right=True, leaves=4),
    Column("CPU", right=True, leaves=5),
    Column("CHECKPOINTS", right=True, leaves=6),
    Column("NEXT AFTER", right=True, leaves=7),
    Column("RULE", "text", leaves=8),
    Column("ERROR", "text", leaves=9),
)


@click.command(
    "attempts",
    cls=CliCommand,
    examples=[
        ("tasktrail attempts 3", "each attempt of task 3 on a line"),
        ("tasktrail attempts 3 --as-of -1h", "as of an hour ago"),
        ("tasktrail attempts 3 --json", "every detail, with the curves of progress, for a program"),
    ],
)
@click.argument("task_id", type=TASK_ID, metavar="ID")
@as_of_option
@pass_session
def attempts_command(session: Session, task_id: int, as_of: int | datetime | None) -> None:
    """Show the attempts of a task: when, where, what was reserved and used, how far each came, and what followed."""
    with session.reading() as reading:
        attempts = reading.attempts(task_id, as_of=as_of)
    if session.as_json:
        for attempt in attempts:
            print_json(attempt)
    elif attempts:
        layout = session.layout(as_of)
        layout.table(_COLUMNS, (_row(attempt, layout) for attempt in attempts))
    else:
        click.echo("No attempt has started.")


def _row(attempt: "Attempt", layout: TerminalLayout) -> tuple[str, ...]:
    return (
        str(attempt.number),
        (attempt.outcome or "running").replace("_", " "),
        layout.when(attempt.started_at),
        attempt.worker,
        percent(attempt.progress),
        duration(attempt.duration) if attempt.duration is not None else "",
        size(attempt.memory_reserved) if attempt.memory_reserved else "",
        size(attempt.memory_used) if attempt.memory_used else "",
        duration(attempt.cpu_used) if attempt.cpu_used else "",
        str(attempt.checkpoints or ""),
        duration(attempt.next_delay) if attempt.next_delay is not None else "",
        attempt.rule,
        attempt.error,
    )
