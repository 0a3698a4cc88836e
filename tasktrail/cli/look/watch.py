"""`tasktrail watch`: live progress of tasks until they end."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from ...events.errors import ServiceUnreachable
from ..base import Command, pass_session
from ..display import ENDED, Display, Lines, display_on
from ..failing import DONE, INTERRUPTED, REFUSED
from ..follow import LOOK_EVERY, Glance
from ..output import print_json, say
from ..session import Session
from ..signals import Signals
from ..words import TASK_ID

if TYPE_CHECKING:
    from ...events import Task
    from ...surface import Reading

_UNFINISHED = ("running", "retrying", "pending")
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
    shown_on = Changes() if session.as_json else display_on(sys.stdout)
    with Signals() as signals, session.reading_and_live() as (reading, live), shown_on as display:
        watch = Watch(reading, display, ids)
        while watch.look():
            if not live:
                raise ServiceUnreachable(f"No service runs on {session.data}, so nothing moves")
            if signals.next(LOOK_EVERY) is not None:
                return INTERRUPTED
    if not watch.tasks:
        say("nothing runs or waits", err=True)
    return DONE if all(task.status == "completed" for task in watch.tasks.values()) else REFUSED


class Watch:
    """The tasks that are watched: those named, or all that are unfinished, newcomers included."""

    def __init__(self, reading: "Reading", display: Display, ids: Sequence[int]) -> None:
        self.tasks: dict[int, Task] = {}
        self._reading = reading
        self._display = display
        self._ids = ids
        self._glance = Glance(display)

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

    def _look_at_all(self) -> set[int]:
        """Show the oldest unfinished tasks; answers their ids."""
        from ...projections import TaskFilters

        filters = TaskFilters(status=_UNFINISHED, sort="id", limit=_AT_ONCE)
        page = self._glance.ask(lambda: self._reading.list_tasks(filters))
        for task in page[0] if page else ():
            self.tasks[task.id] = task
            self._display.show(task)
        return {task.id for task in page[0]} if page else set()


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
