"""True durations, whatever the wall clock shows: nothing ends early, and no attempt continues too long.

Times from earlier services are left out: while no service runs, setting the clock goes unnoticed.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from broken import broken
from ledger import Ledger

from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import Created, Fact, Failed, Retried, Started
from tasktrail.events.reports import AttemptBeat, AttemptCheckpointed, AttemptProgressed, PublishWanted

Key: TypeAlias = tuple[int, int]

_SIGNS_OF_LIFE = frozenset({AttemptBeat, AttemptCheckpointed, AttemptProgressed, PublishWanted})
EXACT = 0.01
"""Seconds that rounding may cost."""


class Stopwatch:
    """Notes the true time, in seconds, of what one service stages and hears."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._started: dict[Key, float] = {}
        self._heard: dict[Key, float] = {}
        self._moved: dict[Key, tuple[float, float]] = {}
        """Attempt → its last percentage, and since when."""
        self._life: dict[Key, float] = {}
        self._waits: dict[Key, float] = {}
        """Task and version of the event since which it waits → when that was. Events of a failed commit stay."""

    def hear(self, message: Any, now: float) -> None:
        """Note a message to the Scheduler, which may be a sign of life."""
        if type(message) not in _SIGNS_OF_LIFE:
            return
        key = (message.task_id, message.attempt)
        self._heard[key] = now
        percent, since = self._moved.get(key, (0.0, 0.0))
        if isinstance(message, AttemptCheckpointed):
            self._moved[key] = (percent, now)
        elif isinstance(message, AttemptProgressed):
            self._moved[key] = (message.progress, since if message.progress == percent else now)

    def follow(self, facts: Iterable[Fact], now: float) -> None:
        """Note the events of a step; they may not be durable yet, and may come again then."""
        for fact in facts:
            match fact.event:
                case Created() | Retried():
                    self._waits[fact.task_id, fact.version] = now
                case Started():
                    self._begin(fact, now)
                case Failed(outcome="timed_out" | "not_started"):
                    self._check_end(fact, fact.event, now)

    def _begin(self, fact: Fact, now: float) -> None:
        self._started[fact.task_id, fact.attempt] = now
        durable, life = self._ledger.tasks.get(fact.task_id), (fact.task_id, fact.life)
        if durable is None or durable.life != fact.life or durable.life_started_at is None:
            self._life[life] = now  # its first start

    def _check_end(self, fact: Fact, event: Failed, now: float) -> None:
        """Check that the limit named by the failure has been reached."""
        name = event.error.partition(":")[0]
        task = self._ledger.tasks.get(fact.task_id)
        key = (fact.task_id, fact.attempt)
        began = self._started.get(key)
        since = {
            "timeout": began,
            "heartbeat_timeout": self._latest(began, self._heard.get(key)),
            "no_progress_timeout": self._latest(began, self._moved.get(key, (0.0, None))[1]),
            "queue_timeout": self._waits.get((fact.task_id, fact.version - 1)),
            "total_timeout": self._life.get((fact.task_id, fact.life)),
        }.get(name)
        limit = getattr(task.spec, name, None) if task is not None and " published " not in event.error else None
        if since is not None and limit is not None and now - since < limit - EXACT:
            broken(f"task {fact.task_id} is ended by {name} after {now - since:g} s of {limit:g}")

    @staticmethod
    def _latest(began: float | None, seen: float | None) -> float | None:
        return began if began is None or seen is None else max(began, seen)

    def check_none_late(self, state: SchedulerState, now: float) -> None:
        """When no alarm is due, check that attempts beyond their time have been asked to stop."""
        for entry in state.running.values():
            task = state.tasks[entry.task_id]
            began = self._started.get((entry.task_id, entry.attempt))
            limit = task.spec.timeout
            if limit is None or began is None or entry.stopping or entry.publishing or task.status != "running":
                continue
            if now - began > limit + EXACT:
                broken(f"attempt {entry.attempt} of task {task.id} goes on after {now - began:g} s of {limit:g}")
