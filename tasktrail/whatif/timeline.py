"""When each task could start, started and ended, in the log or in a replay of it; and the measures of it."""

from datetime import datetime, timedelta
from math import ceil

import msgspec

from ..events import Cancelled, Completed, Created, Fact, Failed, Retried, Started
from ..events.system_events import Adjusted, ServiceStarted
from ..events.task_events import is_terminal

LifeKey = tuple[int, int]
"""Task and life."""


class Life(msgspec.Struct, gc=False):
    """One life of a task."""

    task_id: int
    type: str
    opened_at: datetime
    since: datetime
    """The first time at which its own times allow a start."""
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def waited(self) -> float | None:
        """Seconds from `since` to the first start; None if it never started."""
        return None if self.started_at is None else max(0.0, (self.started_at - self.since).total_seconds())


class Start(msgspec.Struct, frozen=True, gc=False):
    """A start, and the values that decided it."""

    task_id: int
    attempt: int
    at: datetime
    effective_priority: float
    resumed: bool


class Timeline:
    """Folds facts in their order. A cancelled attempt counts as busy until it is cancelled, not until it is gone."""

    def __init__(self) -> None:
        self.lives: dict[LifeKey, Life] = {}
        self.starts: list[Start] = []
        self.busy: dict[str, float] = {}
        """Type → seconds that its attempts ran."""
        self.first_at: datetime | None = None
        self.last_end: datetime | None = None
        self._open: dict[int, tuple[datetime, str]] = {}
        self._life: dict[int, Life] = {}
        self._last_at: datetime | None = None
        self._killed_at: datetime | None = None
        """When the service before was last seen, while a new service closes its open attempts."""

    def begin_here(self, at: datetime) -> None:
        """Count only from here on: the tasks that wait or run now, and later ones."""
        self.lives = {key: life for key, life in self.lives.items() if life.started_at is None and not life.ended_at}
        self.starts.clear()
        self.busy.clear()
        self._open = {task_id: (at, task_type) for task_id, (_, task_type) in self._open.items()}
        self.first_at, self.last_end = at, None

    def note(self, fact: Fact) -> None:
        """Fold one fact."""
        event, at, task_id = fact.event, fact.recorded_at, fact.task_id
        match event:
            case Created():
                self.first_at = self.first_at or at
                self._begin(fact, event.type, max(at, event.scheduled_for or at))
            case Retried(cause="manual"):
                self._begin(fact, self._life[task_id].type, max(at, event.due_at or at))
            case Started():
                self._start(fact, event)
            case Completed() | Failed() | Cancelled():
                interrupted = isinstance(event, Failed) and event.outcome == "interrupted"
                self._end(task_id, (self._killed_at if interrupted else None) or at)
                if is_terminal(event):
                    self._life[task_id].ended_at = at
            case Adjusted(scheduled_for=datetime() as scheduled_for):
                life = self._life.get(event.task_id)
                if life is not None and life.started_at is None:
                    life.since = max(life.opened_at, scheduled_for)
        self._see_the_service(fact)

    def _see_the_service(self, fact: Fact) -> None:
        if isinstance(fact.event, ServiceStarted):
            self._killed_at = self._last_at
        elif self._killed_at is not None and fact.actor != "recovery":
            self._killed_at = None
        self._last_at = fact.recorded_at

    def _begin(self, fact: Fact, task_type: str, since: datetime) -> None:
        life = Life(fact.task_id, task_type, fact.recorded_at, since)
        self.lives[fact.task_id, fact.life] = self._life[fact.task_id] = life

    def _start(self, fact: Fact, event: Started) -> None:
        life = self._life[fact.task_id]
        if life.started_at is None:
            life.started_at = fact.recorded_at
        self._open[fact.task_id] = (fact.recorded_at, life.type)
        self.starts.append(Start(fact.task_id, fact.attempt, fact.recorded_at, event.effective_priority, event.resumed))

    def _end(self, task_id: int, at: datetime) -> None:
        began = self._open.pop(task_id, None)
        if began is not None:
            seconds = max(timedelta(0), at - began[0]).total_seconds()
            self.busy[began[1]] = self.busy.get(began[1], 0.0) + seconds
            self.last_end = at if self.last_end is None else max(at, self.last_end)

    def stop(self, at: datetime) -> None:
        """Close all open attempts at `at`, because nothing later is known."""
        for task_id in list(self._open):
            self._end(task_id, at)

    @property
    def running(self) -> int:
        """How many attempts are open."""
        return len(self._open)


# --- measures ---


EVERY_TYPE = ""


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """Numbers about the tasks of one type, or of all. Times in seconds."""

    tasks: int
    """Lives of tasks; a retry by hand opens another one."""
    started: int
    wait_p50: float | None = None
    """From the moment a life opens, or its scheduled time, to its first start; of lives that started."""
    wait_p95: float | None = None
    wait_max: float | None = None
    makespan: float | None = None
    """Of a type: from its first life that opened to its last that ended. Of all: to the last end of an attempt."""
    utilisation: float | None = None
    """Share of the slots' time in which attempts ran, over the makespan of all types."""
    overtaken: int = 0
    """Lives overtaken by a life that could start later but started earlier."""


def measure(timeline: Timeline, slots: int) -> dict[str, Measures]:
    """Return the measures by type; those of all types have the empty name."""
    groups: dict[str, list[Life]] = {EVERY_TYPE: list(timeline.lives.values())}
    for life in timeline.lives.values():
        groups.setdefault(life.type, []).append(life)
    span = _seconds(timeline.first_at, timeline.last_end)
    overtaken = _overtaken(groups[EVERY_TYPE])
    busy = {**timeline.busy, EVERY_TYPE: sum(timeline.busy.values())}
    return {
        name: _measure(
            lives, overtaken, span if name == EVERY_TYPE else _span(lives), _share(busy.get(name, 0.0), span, slots)
        )
        for name, lives in groups.items()
    }


def _measure(lives: list[Life], overtaken: set[int], makespan: float | None, utilisation: float | None) -> Measures:
    waits = sorted(life.waited for life in lives if life.waited is not None)
    return Measures(
        tasks=len(lives),
        started=len(waits),
        wait_p50=_quantile(waits, 0.5),
        wait_p95=_quantile(waits, 0.95),
        wait_max=waits[-1] if waits else None,
        makespan=makespan,
        utilisation=utilisation,
        overtaken=sum(id(life) in overtaken for life in lives),
    )


def _overtaken(lives: list[Life]) -> set[int]:
    """Return the ids of the lives overtaken by a later one. Every later start overtakes a life that never started."""
    overtaken = set()
    earliest: datetime | None = None
    """The first start among the lives with a later `since`."""
    pending: list[Life] = []
    for life in sorted(lives, key=lambda one: one.since, reverse=True):
        if pending and pending[0].since > life.since:
            starts = [one.started_at for one in pending if one.started_at is not None]
            earliest = min([*starts, *([earliest] if earliest else [])], default=None)
            pending = []
        if earliest is not None and (life.started_at is None or life.started_at > earliest):
            overtaken.add(id(life))
        pending.append(life)
    return overtaken


def _span(lives: list[Life]) -> float | None:
    ends = [life.ended_at for life in lives if life.ended_at is not None]
    return _seconds(min(life.opened_at for life in lives), max(ends, default=None))


def _seconds(begin: datetime | None, end: datetime | None) -> float | None:
    return None if begin is None or end is None else max(0.0, (end - begin).total_seconds())


def _share(busy: float, span: float | None, slots: int) -> float | None:
    return busy / (span * slots) if span and slots else None


def _quantile(ordered: list[float], share: float) -> float | None:
    """The smallest value that is not below the given share of the values."""
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None
