"""`tasktrail top`: running and waiting tasks, resources and rates, live."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from ..base import Command, pass_session
from ..failing import INTERRUPTED
from ..output import print_json
from ..session import Session
from ..signals import Signals
from ..words import Number, duration, percent, plain, rate, size
from .queue import headline
from .why import sum_of

if TYPE_CHECKING:
    from rich.console import Group

    from ...actors.core.board import QueueBoard, Resources
    from ...projections import Stats
    from ...surface import Reading

_WAITING_SHOWN = 15


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
            _print(picture(*look(reading)))
        else:
            return _live(reading, every)
    return 0


def look(reading: "Reading") -> "tuple[QueueBoard, Stats]":
    """What is shown."""
    return reading.queue(_WAITING_SHOWN), reading.stats()


def _live(reading: "Reading", every: float) -> int:
    from rich.live import Live

    shown = picture(*look(reading))
    with Signals() as signals, Live(shown, auto_refresh=False, screen=True) as live:
        while signals.next(every) is None:
            lost, shown = again(reading, shown)
            live.update(lost or shown, refresh=True)
    return INTERRUPTED


def again(reading: "Reading", before: "Group") -> "tuple[Group | None, Group]":
    """Another look. While no service answers: the picture before under a line that says so, and that picture."""
    from rich.console import Group
    from rich.text import Text

    from ...events.errors import NotReady, ServiceUnreachable

    try:
        return None, picture(*look(reading))
    except (ServiceUnreachable, NotReady) as error:
        return Group(Text(f"{plain(error.message)}; it is asked again. So it was last:"), before), before


def _print(group: "Group") -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    with console.capture() as captured:
        console.print(group)
    for line in captured.get().splitlines():
        click.echo(line.rstrip())


def picture(board: "QueueBoard", stats: "Stats") -> "Group":
    """All of it as something that rich can show."""
    from rich.console import Group
    from rich.text import Text

    lines = [
        Text(headline(board, stats)),
        Text(_promised(board.resources, len(board.running), live=board.live)),
        Text(_rates(stats)),
        Text(""),
    ]
    return Group(*lines, _running(board), Text(""), _waiting(board))


def _promised(resources: "Resources", running: int, *, live: bool) -> str:
    if not live:
        return "no service runs: slots and the machine are unknown"
    sample = resources.sample
    memory = _of(resources.reserved_memory, resources.max_memory)
    temp = _of(resources.reserved_temp, resources.max_temp_size)
    free = f"{size(sample.memory_available)} memory, {size(sample.temp_free)} temp{' (LOW)' if sample.disk_low else ''}"
    slots = min(resources.slots, resources.max_concurrent)
    promised = f"{running} of {slots} slots · promised memory {memory}, temp {temp}"
    return f"{promised} · CPU {sample.cpu_percent:.0f} %, free {free}"


def _of(used: int, limit: int) -> str:
    return f"{size(used)} of {size(limit)}" if limit else size(used)


def _rates(stats: "Stats") -> str:
    minute, hour = stats.last_minute, stats.last_hour
    return (
        f"last minute: {minute.completed} completed, {minute.failed} failed · "
        f"last hour: {hour.completed} completed, {hour.failed} failed, {rate(hour.per_minute)}"
    )


def _table(*headings: str) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=True, overflow="ellipsis")
    return table


def _running(board: "QueueBoard") -> Any:
    from rich.text import Text

    table = _table("RUNNING", "ATTEMPT", "TYPE", "USER", "PROGRESS", "FOR", "PROMISED", "MESSAGE")
    now = datetime.now(UTC)
    for one in board.running:
        ran = duration(max(0.0, (now - one.started_at).total_seconds())) if one.started_at else ""
        done = "stopping" if one.stopping else percent(one.progress)
        cells = (
            str(one.task_id),
            str(one.attempt),
            one.type,
            str(one.user_id),
            done,
            ran,
            size(one.memory),
            one.message,
        )
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return table


def _waiting(board: "QueueBoard") -> Any:
    from rich.text import Text

    table = _table("WAITING", "TYPE", "USER", "PRIORITY", "TERMS", "HELD BACK BY")
    for one in board.entries:
        priority, held = f"{one.effective_priority:.1f}", ", ".join(one.shut_by)
        cells = (str(one.task_id), one.type, str(one.user_id), priority, sum_of(one.terms), held)
        table.add_row(*(Text(plain(cell)) for cell in cells))
    return table
