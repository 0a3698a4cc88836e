"""`tasktrail top`: running and waiting tasks, resources and rates, live."""

import sys
from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING

import click

from ..base import Command, pass_session
from ..failing import INTERRUPTED
from ..layout import Column
from ..output import Paper, fitted, print_json
from ..session import Session
from ..signals import Signals
from ..words import Number, duration, localized, percent, plain, rate, size
from .queue import WAITING, headline, rows

if TYPE_CHECKING:
    from ...actors.core.board import QueueBoard, Resources
    from ...api.protocol import Reading
    from ...projections import Stats

_WAITING_SHOWN = 15
_RUNNING = (
    Column("RUNNING", right=True),
    Column("TYPE"),
    Column("INPUT", "name"),
    Column("DONE", right=True),
    Column("FOR", right=True),
    Column("ATTEMPT", right=True, leaves=1, extra=True),
    Column("USER", right=True, leaves=2, extra=True),
    Column("PROMISED", right=True, leaves=3, extra=True),
    Column("MESSAGE", "text", leaves=4),
)


@click.command(
    "top",
    cls=Command,
    examples=[
        ("tasktrail top", "a live view; Ctrl-C leaves it"),
        ("tasktrail top --once", "the same once, for a log or a mail"),
        ("tasktrail top --json", "once, for a program"),
    ],
)
@click.option("--once", is_flag=True, help="Show it once instead of live. So it is in a pipe.")
@click.option("--every", type=Number(0.2, 3600), default=1.0, show_default=True, help="Seconds between looks.")
@pass_session
def command(session: Session, every: float, *, once: bool) -> int:
    """Show what runs and what waits, the resources that are promised, and how many tasks end."""
    with session.reading() as reading:
        if session.as_json:
            board, stats = look(reading)
            print_json({"queue": board, "stats": stats})
        elif once or not sys.stdout.isatty():
            click.echo(picture(*look(reading), session.paper()))
        else:
            return _live(reading, session, every)
    return 0


def look(reading: "Reading") -> "tuple[QueueBoard, Stats]":
    """What is shown."""
    return reading.queue(_WAITING_SHOWN), reading.stats()


def _live(reading: "Reading", session: Session, every: float) -> int:
    from rich.live import Live
    from rich.text import Text

    shown = picture(*look(reading), session.paper())
    with Signals() as signals, Live(Text(shown), auto_refresh=False, screen=True) as live:
        while signals.next(every) is None:
            lost, shown = again(reading, shown, session.paper())
            live.update(Text(lost or shown), refresh=True)
    return INTERRUPTED


def again(reading: "Reading", before: str, paper: Paper) -> tuple[str, str]:
    """Another look. While no service answers: the picture before under a line that says so, and that picture."""
    from ...events.errors import NotReady, ServiceUnreachable

    try:
        return "", picture(*look(reading), paper)
    except (ServiceUnreachable, NotReady) as error:
        told = fitted(f"{plain(error.message)}; it is asked again. So it was last:", paper.width)
        return f"{told}\n{before}", before


def picture(board: "QueueBoard", stats: "Stats", paper: Paper) -> str:
    """All of it as text."""
    lines = (
        headline(board, stats),
        _promised(board.resources, len(board.running), live=board.live),
        _rates(stats),
        "",
        *paper.lines(_RUNNING, _running(board, paper)),
        "",
        *paper.lines(WAITING, rows(board, paper)),
    )
    return fitted("\n".join(lines), paper.width)


def _promised(resources: "Resources", running: int, *, live: bool) -> str:
    if not live:
        return "no service runs: slots and the machine are unknown"
    sample = resources.sample
    memory = _of(resources.reserved_memory, resources.max_memory)
    temp = _of(resources.reserved_temp, resources.max_temp_size)
    free = f"{_free(sample.memory_available)} memory, {_free(sample.temp_free)} temp"
    free += " (LOW)" if sample.disk_low else ""
    cpu = "unknown" if sample.cpu_percent is None else f"{sample.cpu_percent:.0f} %"
    slots = min(resources.slots, resources.max_concurrent)
    promised = f"{running} of {slots} slots · promised memory {memory}, temp {temp}"
    return f"{promised} · CPU {cpu}, free {free}"


def _free(count: int | None) -> str:
    return "unknown" if count is None else size(count)


def _of(used: int, limit: int) -> str:
    return f"{size(used)} of {size(limit)}" if limit else size(used)


def _rates(stats: "Stats") -> str:
    minute, hour = stats.last_minute, stats.last_hour
    return (
        f"last minute: {minute.completed} completed, {minute.failed} failed · "
        f"last hour: {hour.completed} completed, {hour.failed} failed, {rate(hour.per_minute)}"
    )


def _running(board: "QueueBoard", paper: Paper) -> Iterator[tuple[str, ...]]:
    for one in board.running:
        ran = duration(max(0.0, (paper.now - one.started_at).total_seconds())) if one.started_at else ""
        yield (
            str(one.task_id),
            one.type,
            PurePath(one.input_file).name,
            "stopping" if one.stopping else percent(one.progress),
            ran,
            str(one.attempt),
            str(one.user_id),
            size(one.memory),
            localized(one.message),
        )
