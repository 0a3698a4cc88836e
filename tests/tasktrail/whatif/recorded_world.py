"""Makes histories: the real core in virtual time, with people who send commands and attempts that run for a while."""

import signal
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from core_harness import Core

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Close, Drain, Tick
from tasktrail.events import AdjustTask, Command, Recorded
from tasktrail.events.commands import PauseQueue, ResumeQueue, SetLimits
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import CapacityChanged, Run, Stop

GRACE = {"work": 0.5, "long": 0.5}
OPERATIONS = (
    *("create",) * 6,
    *("cancel", "retry", "start", "adjust", "pause", "resume", "limits", "stop", "kill", "clock"),
)
STOPPING = 0.7321
"""The seconds between the request to stop and the end. The log does not record them; the player assumes about this."""
Length = Callable[[Run], float]


class World:
    """A service, its executor and its people.

    Timers go off on time; everything else takes as long as `rng` says.

    Args:
        slots: attempts at once.
        seed: of everything random.
        length: seconds that an attempt runs; random unless given.
        limits: fields of `Limits`.
    """

    def __init__(self, *, slots: int = 2, seed: int = 0, length: Length | None = None, **limits: Any) -> None:
        self.slots = slots
        self.limits = Limits(**{"max_concurrent": 8} | limits)
        self.settings = {"grace": GRACE, **limits}
        self.stopping = STOPPING
        self.lateness = 0.0
        """The seconds between a timer's time and the Scheduler's wake-up."""
        self.rng = Random(seed)
        self._length = length or (lambda _run: self.rng.randrange(1, 900) / 10)
        self.log = MemoryEventLog()
        self.core = Core(log=self.log, slots=slots, **self.settings)
        self._happenings: list[tuple[datetime, int, Callable[[], None]]] = []
        self._numbers = count()
        self._ended: set[tuple[int, int]] = set()

    @property
    def records(self) -> list[Recorded]:
        return list(self.log.read())

    # --- time ---------------------------------------------------------------------------------------------------

    def go_on(self, seconds: float) -> None:
        """Let that many seconds pass."""
        until = self.core.now + timedelta(seconds=seconds)
        while (at := self._next()) is not None and at <= until:
            self._happen(at)
        self.core.now = until

    def settle(self) -> None:
        """Run until nothing more happens."""
        while (at := self._next()) is not None:
            self._happen(at)

    def _next(self) -> datetime | None:
        wake = self._wake()
        heap = self._happenings[0][0] if self._happenings else None
        return min((at for at in (wake, heap) if at is not None), default=None)

    def _wake(self) -> datetime | None:
        wake = self.core.state.next_wake()
        return None if wake is None else wake + timedelta(seconds=self.lateness)

    def _happen(self, at: datetime) -> None:
        wake = self._wake()
        self.core.now = max(self.core.now, at)
        if wake is not None and wake <= at:
            self.core.tell(Tick())
            self._obey()
        else:
            heappop(self._happenings)[2]()

    def _later(self, seconds: float, what: Callable[[], None]) -> None:
        # Give each its own microsecond: a log cannot distinguish two things at the very same time.
        number = next(self._numbers)
        heappush(self._happenings, (self.core.now + timedelta(seconds=seconds, microseconds=number), number, what))

    # --- the executor -------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        for order in self.core.orders:
            match order:
                case Run():
                    self._run(order)
                case Stop():
                    self._later(self.stopping, partial(self._end, order.task_id, order.attempt, "stopped"))
                case _:
                    pass

    def _run(self, run: Run) -> None:
        seconds = self._length(run)
        outcome = str(run.options.get("end", "completed"))
        if run.options.get("saves"):
            self._later(seconds / 2, lambda: self._save(run))
        takes = run.attempt * int(run.options.get("takes", 0))
        self._later(seconds, lambda: self._end(run.task_id, run.attempt, outcome, takes))

    def _save(self, run: Run) -> None:
        if (run.task_id, run.attempt) not in self._ended:
            self.core.checkpoint(run.task_id, run.attempt)

    def _end(self, task_id: int, attempt: int, outcome: str, takes: int = 0) -> None:
        if (task_id, attempt) in self._ended:
            return
        self._ended.add((task_id, attempt))
        error = "" if outcome == "completed" else "connection refused"
        killed = {"exit_code": -signal.SIGKILL} if takes else {}
        self.core.end(task_id, outcome, attempt, error=error, memory_used=takes, **killed)  # type: ignore[arg-type]  # one of the ends there are
        self._obey()

    # --- people and the service ---------------------------------------------------------------------------------

    def send(self, command: Command) -> None:
        self.core.ask(command)
        self._obey()

    def create(self, **fields: Any) -> int:
        task_id = self.core.create(**fields)
        self._obey()
        return task_id

    def restart(self, *, stop: bool, pause: float, ready_after: float = 0.0) -> None:
        """End the service, with or without warning, and start it again after that many seconds."""
        if stop:
            self.core.tell(Drain())
            self._obey()
            self.go_on(0.76)
            self.core.tell(Close())
        self._happenings.clear()
        last_at = self.core.state.durable.last_at or self.core.now
        after = (self.core.now - last_at).total_seconds() + pause
        self.core = Core(log=self.log, slots=0, after=after, **self.settings)
        self._later(ready_after, self._ready)
        if not ready_after:
            self._ready()

    def _ready(self) -> None:
        self.core.tell(CapacityChanged(self.slots))
        self._obey()

    def set_clock(self, seconds: float) -> None:
        """Set the wall clock forward. Nothing comes later because of it, whatever the clock then shows."""
        by = timedelta(seconds=seconds)
        self._happenings = [(at + by, number, what) for at, number, what in self._happenings]
        self.core.set_clock(seconds)
        self._obey()

    def act(self, operation: str, pick: int) -> None:
        """Do one of `OPERATIONS`; forbidden ones change nothing."""
        known = self.core.state.durable.last_task_id
        task_id = pick % known + 1 if known else 0
        match operation:
            case "create":
                self.create(**_some_task(pick, known, self.core.now))
            case "pause":
                self.send(PauseQueue(type="long") if pick % 2 else PauseQueue())
            case "resume":
                self.send(ResumeQueue(type="long") if pick % 2 else ResumeQueue())
            case "limits":
                self.send(SetLimits(max_concurrent=pick % 4 + 1, types={"long": pick % 2 + 1}))
            case "stop" | "kill":
                self.restart(stop=operation == "stop", pause=pick % 100 + 1)
            case "clock":
                self.set_clock(float(pick % 1000 + 1))
            case _ if task_id:
                self._act_on(operation, task_id, pick)

    def _act_on(self, operation: str, task_id: int, pick: int) -> None:
        match operation:
            case "cancel":
                self.core.cancel(task_id)
            case "retry":
                self.core.retry(task_id, force=pick % 2 == 0)
            case "start":
                self.core.start(task_id)
            case "adjust":
                self.core.ask(AdjustTask(task_id=task_id, priority=pick % 11, held=pick % 5 == 0))
        self._obey()


def _some_task(pick: int, known: int, now: datetime) -> dict[str, Any]:
    end = ("completed", "completed", "completed", "failed", "lost", "rejected")[pick % 6]
    return {
        "type": ("work", "long")[pick % 2],
        "priority": pick % 11,
        "user_id": pick % 3,
        "user_level": pick % 2,
        "label": ("", "night")[pick % 7 == 0],
        "max_retries": pick % 3,
        "retry_delay": float(pick % 40),
        "memory": pick % 60,
        "held": pick % 13 == 0,
        "scheduled_for": now + timedelta(seconds=pick % 50) if pick % 6 == 0 else None,
        "timeout": 20.0 if pick % 5 == 0 else None,
        "total_timeout": 200.0 if pick % 5 == 1 else None,
        "depends_on": (pick % known + 1,) if known and pick % 9 == 0 else (),
        "options": {
            "end": end,
            "saves": pick % 4 == 0 and end != "lost",  # a checkpoint clears the count of crashes
            "takes": pick % 90 if end in ("failed", "lost") else 0,
        },
    }
