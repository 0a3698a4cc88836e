"""Watching a task from outside until its life is over, through restarts of the service."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..events.errors import NotReady, ServiceUnreachable, WaitTimeout
from .display import ENDED, Display
from .signals import Signals

if TYPE_CHECKING:
    from ..api.protocol import Reading, Tasks
    from ..events import Task

T = TypeVar("T")

LOOK_EVERY = 0.4
"""Seconds between two looks at a task."""
PATIENCE = 15.0
"""Seconds that a service may be away, for a restart, before that is an error."""


class Glance:
    """Asks again and again; bears it for a while when nobody answers."""

    def __init__(self, display: Display, clock: Callable[[], float] = time.monotonic) -> None:
        self._display = display
        self._clock = clock
        self._away_since: float | None = None

    def at(self, reading: "Reading", task_id: int) -> "Task | None":
        """The task, shown; or none while the service is away."""
        task = self.ask(lambda: reading.get_task(task_id))
        if task is not None:
            self._display.show(task)
        return task

    def ask(self, question: Callable[[], T]) -> T | None:
        """The answer, or none while the service is away. Raises what it says once patience is at its end."""
        try:
            answer = question()
        except (ServiceUnreachable, NotReady):
            if self._patient():
                return None
            raise
        self._away_since = None
        return answer

    def _patient(self) -> bool:
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
            self._display.say("the service does not answer; waiting for it")
        return now - self._away_since < PATIENCE


def until_ended(tasks: "Tasks", task_id: int, display: Display, signals: Signals) -> "Task | None":
    """The task once its life is over, or none when a signal came first."""
    glance = Glance(display)
    while True:
        task = glance.at(tasks, task_id)
        if task is not None and task.status in ENDED:
            return task
        if task is None:
            signal = signals.next(LOOK_EVERY)
        else:
            _wait_a_little(tasks, task_id)
            signal = signals.next()
        if signal is not None:
            return None


def _wait_a_little(tasks: "Tasks", task_id: int) -> None:
    """Until the task ends, at most `LOOK_EVERY`."""
    try:
        tasks.wait(task_id, timeout=LOOK_EVERY)
    except (WaitTimeout, ServiceUnreachable, NotReady):
        return
