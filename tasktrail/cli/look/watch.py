"""`tasktrail watch`: live progress of tasks until they end."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

import click

from ...events.errors import ServiceUnreachable
from ..base import Command, pass_session
from ..display import ENDED, Display, Lines
from ..failing import DONE, INTERRUPTED, REFUSED
from ..follow import LOOK_EVERY, Glance
from ..output import print_json, say
from ..session import Session
from ..signals import Signals
from ..words import TASK_ID
from .board import Board, Terminal, means_of, totals_of, totals_since

if TYPE_CHECKING:
    from ...api.protocol import Reading
    from ...events import Task
    from ...projections import Stats

_AT_ONCE = 100


@click.command(
    "watch",
    cls=Command,
    examples=[
        ("tasktrail watch", "all that runs or waits, until nothing does"),
        ("tasktrail watch 3 4", "two tasks until both have ended; exit code 1 if one did not complete"),
        ("tasktrail watch 3 --json", "the task as a line of JSON at every change"),
    ],
)
@click.argument("ids", nargs=-1, type=TASK_ID, metavar="[ID…]")
@pass_session
def command(session: Session, ids: tuple[int, ...]) -> int:
    """Show live progress of the tasks, or of all unfinished ones, until they end. Ctrl-C leaves; the tasks go on.

    Exit code 1: one of the tasks failed or was cancelled. 3: no service runs, so nothing moves.
    """
    with ExitStack() as stack:
        signals = stack.enter_context(Signals())
        reading, live = stack.enter_context(session.reading_and_live())
        display = stack.enter_context(_display(session, stack))
        watch = Watch(reading, display, ids)
        while watch.look():
            if isinstance(display, Board):
                watch.draw(display, session.doors.now())
            if not live:
                raise ServiceUnreachable(f"No service runs on {session.data}, so nothing moves")
            if signals.next(LOOK_EVERY) is not None:
                return INTERRUPTED
        if isinstance(display, Board):
            watch.draw(display, session.doors.now())
    if not watch.tasks:
        say("nothing runs or waits", err=True)
    return DONE if watch.all_completed else REFUSED


def _display(session: Session, stack: ExitStack) -> Display:
    if session.as_json:
        return Changes()
    if not sys.stdout.isatty():
        return Lines(err=False)
    return Board(stack.enter_context(Terminal(sys.stdout)))


class Watch:
    """The tasks that are watched: those named, or all that are unfinished, newcomers included."""

    def __init__(self, reading: "Reading", display: Display, ids: Sequence[int]) -> None:
        self.tasks: dict[int, Task] = {}
        self._reading = reading
        self._display = display
        self._ids = ids
        self._glance = Glance(display)
        self._first: Stats | None = None

    @property
    def all_completed(self) -> bool:
        """Whether each has reached its goal."""
        return all(task.status == "completed" for task in self.tasks.values())

    def look(self) -> bool:
        """Look at each once; whether there is more to come."""
        listed = set() if self._ids else self._look_at_all()
        for task_id in self._ids or tuple(self.tasks):
            known = self.tasks.get(task_id)
            if task_id in listed or (known is not None and known.status in ENDED):
                continue
            if task := self._glance.at(self._reading, task_id):
                self.tasks[task_id] = task
        seen_all = len(self.tasks) >= len(set(self._ids))
        return not seen_all or any(task.status not in ENDED for task in self.tasks.values())

    def draw(self, board: Board, now: datetime) -> None:
        """Draw what was seen last, with the totals of all."""
        stats = self._glance.ask(self._reading.stats)
        if stats is None:
            return
        self._first = self._first or stats
        means, known = means_of(stats), self.tasks.values()
        running = [task for task in known if task.status == "running"]
        board.draw(totals_of(known, means) if self._ids else totals_since(self._first, stats, running), means, now)

    def _look_at_all(self) -> set[int]:
        """Show what runs and the first that wait; answers their ids."""
        from ...projections import TaskFilters

        seen = set()
        for statuses in (("running",), ("retrying", "pending")):
            filters = TaskFilters(status=statuses, sort="id", limit=_AT_ONCE)
            page = self._glance.ask(partial(self._reading.list_tasks, filters))
            for task in page[0] if page else ():
                self.tasks[task.id] = task
                self._display.show(task)
                seen.add(task.id)
        return seen


class Changes(Lines):
    """Every change of a task as a line of JSON."""

    def __init__(self) -> None:
        super().__init__(err=True)
        self._versions: dict[int, int] = {}

    def show(self, task: "Task") -> None:
        """Print the task if it has changed."""
        if self._versions.get(task.id) != task.version:
            self._versions[task.id] = task.version
            print_json(task)
