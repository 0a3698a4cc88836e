"""The executor of a replay: attempts take as long as recorded and end as recorded. What the log lacks is guessed."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count
from typing import Literal, TypeAlias

import msgspec

from ..events import Checkpoint, Created
from ..events.reports import AttemptCheckpointed, AttemptEnd, AttemptEnded, AttemptProbed, Report, Run, Stop
from ..events.task_events import Estimated
from .timeline import LifeKey

_Cut: TypeAlias = Literal["", "timed_out", "cancelled", "interrupted"]
"""The reason why an attempt was cut short; empty if it came to its own end."""

NOWHERE = 2**62
"""The position of an end that is not recorded: it comes after everything else of the same moment."""
ZERO = timedelta(0)
LAST_RESORT = timedelta(seconds=60)
"""The guess for an attempt when the log has no completed attempt and the task has no estimate."""


class RecordedAttempt(msgspec.Struct, gc=False):
    """One attempt as it was recorded."""

    started_at: datetime
    resumed: bool
    ran: timedelta = ZERO
    end: AttemptEnd = "completed"
    error: str = ""
    error_type: str = ""
    exit_code: int | None = None
    memory_used: int = 0
    memory_next: int = 0
    """Bytes that were reserved after it was killed for lack of memory; 0 if it was not, or no more was reserved."""
    estimate: Estimated | None = None
    """The estimate after its input was probed."""
    cut: _Cut = "interrupted"
    position: int = NOWHERE
    """Where its end is recorded."""
    saves: list[tuple[timedelta, int]] = []
    """Its checkpoints: how long after the start each was saved, and its position."""


class AttemptPlan(msgspec.Struct, frozen=True, gc=False):
    """The plan of a replayed attempt, unless something ends it first."""

    after: timedelta | None
    """None if it goes on until the core ends it."""
    end: AttemptEnd = "completed"
    error: str = ""
    error_type: str = ""
    exit_code: int | None = None
    memory_used: int = 0
    memory_next: int = 0
    estimate: Estimated | None = None
    position: int = NOWHERE
    saves: tuple[tuple[timedelta, int], ...] = ()
    used: int = 0
    """How many recorded attempts this one stands for."""
    was_cut: bool = False
    """Whether the recorded attempt was cut short."""
    gone_after: timedelta | None = None
    """How long after its start the recorded attempt was gone, if it was stopped and the record of its end says so."""
    gone_position: int = NOWHERE
    guessed: bool = False


class RecordedAttempts:
    """The recorded attempts of all lives.

    An attempt that was cut short in the log (its service ended, or it was cancelled) but is not cut in the replay goes
    on as the next attempt did. Without a next one, it is guessed to run as long as its type usually does.
    """

    def __init__(self) -> None:
        self.by_life: dict[LifeKey, list[RecordedAttempt]] = {}
        self._completed: dict[str, list[timedelta]] = {}
        self._medians: dict[str, timedelta] = {}

    def add(self, key: LifeKey, attempt: RecordedAttempt) -> None:
        """Add another attempt of a life."""
        self.by_life.setdefault(key, []).append(attempt)

    def learn(self, task_type: str, ran: timedelta) -> None:
        """Learn the usual length of the type's attempts from a completed one."""
        self._completed.setdefault(task_type, []).append(ran)

    def usual(self, spec: Created) -> timedelta:
        """The guess for an attempt: the median of its type, or its estimate, or the median of all types."""
        if not self._medians:
            every = [ran for of_type in self._completed.values() for ran in of_type]
            self._medians = {name: _median(of_type) for name, of_type in self._completed.items()}
            self._medians[""] = _median(every) if every else LAST_RESORT
        if spec.type in self._medians:
            return self._medians[spec.type]
        return timedelta(seconds=spec.estimated_time) if spec.estimated_time > 0 else self._medians[""]

    def plan(self, key: LifeKey, number: int, spec: Created) -> AttemptPlan:
        """The plan of the replayed attempt that stands for the recorded one with this number, from 0."""
        recorded = self.by_life.get(key, [])
        if number >= len(recorded):
            return AttemptPlan(after=self.usual(spec), guessed=True)
        attempt = recorded[number]
        if attempt.cut == "timed_out":
            return AttemptPlan(after=None, saves=tuple(attempt.saves), used=1, was_cut=True)
        if not attempt.cut:
            return _as_recorded(attempt)
        if number + 1 == len(recorded):
            plan = AttemptPlan(after=max(attempt.ran, self.usual(spec)), guessed=True)
        else:
            plan = self.plan(key, number + 1, spec)
            if plan.after is not None:
                after = attempt.ran + plan.after if recorded[number + 1].resumed else max(attempt.ran, plan.after)
                plan = msgspec.structs.replace(plan, after=after)
        return msgspec.structs.replace(
            plan,
            position=NOWHERE,
            saves=tuple(attempt.saves),
            used=1 + plan.used,
            was_cut=True,
            gone_after=attempt.ran if attempt.cut == "interrupted" else None,
            gone_position=attempt.position,
        )


def _as_recorded(attempt: RecordedAttempt) -> AttemptPlan:
    return AttemptPlan(
        after=attempt.ran,
        end=attempt.end,
        error=attempt.error,
        error_type=attempt.error_type,
        exit_code=attempt.exit_code,
        memory_used=attempt.memory_used,
        memory_next=attempt.memory_next,
        estimate=attempt.estimate,
        position=attempt.position,
        saves=tuple(attempt.saves),
        used=1,
    )


def _median(values: list[timedelta]) -> timedelta:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


# --- playing them ---


AttemptKey = tuple[int, int]
"""Task and attempt."""
Scheduled = tuple[datetime, int, int, "AttemptAction"]
"""A time, the order among actions of one moment, a unique number, and the action."""

GONE_WITHIN = timedelta(seconds=0.75)
"""An attempt that was asked to stop is gone after this time (a usual grace and more), unless the log shows another."""
_OWN_END_WITHIN = timedelta(seconds=5)
"""When a service stops, an attempt whose recorded end is this near still comes to it, because the log does not show
when the service was asked to stop."""
_SAVED = Checkpoint()
"""Stands for every checkpoint; the core only asks whether there is one."""


class AttemptAction(msgspec.Struct, frozen=True, gc=False):
    """Something that a replayed attempt does."""

    live: "ReplayedAttempt"
    kind: str
    """`end`, `save`, or `gone`."""
    after: timedelta = timedelta(0)


class ReplayedAttempt(msgspec.Struct, eq=False):
    """An attempt that is being replayed."""

    task_id: int
    attempt: int
    life: LifeKey
    plan: AttemptPlan
    done_before: timedelta
    """The part of the work that earlier attempts did and saved."""
    began_at: datetime
    ends_at: datetime | None
    saved: timedelta | None = None
    stopped_at: datetime | None = None
    over: bool = False


class ReplayExecutor:
    """Runs nothing; reports what the log says the attempts did.

    Args:
        attempts: the recorded attempts.
        push: schedules an action.
        gone_after: attempt → how long after the request to stop it was gone, as far as known.
    """

    def __init__(
        self,
        attempts: RecordedAttempts,
        push: Callable[[Scheduled], None],
        gone_after: dict[AttemptKey, timedelta],
    ) -> None:
        self._attempts = attempts
        self._push = push
        self._gone_after = gone_after
        self._numbers = count(1)
        self._played: dict[LifeKey, int] = {}
        self._saved: dict[LifeKey, timedelta] = {}
        self.live: dict[int, ReplayedAttempt] = {}
        self._stopping: dict[AttemptKey, ReplayedAttempt] = {}
        self.guessed = 0
        """Attempts whose end is not in the log."""

    def skip(self, life: LifeKey) -> None:
        """Count an attempt of this life that was over before the recording begins."""
        self._played[life] = self._played.get(life, 0) + 1

    def run(self, order: Run, life: int, spec: Created, began_at: datetime) -> None:
        """Begin an attempt, or take over one that began before the recording."""
        key = (order.task_id, life)
        plan = self._attempts.plan(key, self._played.get(key, 0), spec)
        before = self._saved.get(key, timedelta(0)) if order.checkpoint is not None else timedelta(0)
        ends_at = None if plan.after is None else began_at + max(timedelta(0), plan.after - before)
        live = ReplayedAttempt(order.task_id, order.attempt, key, plan, before, began_at, ends_at)
        self.live[order.task_id] = live
        if ends_at is not None:
            self._push((ends_at, 2 * plan.position, next(self._numbers), AttemptAction(live, "end")))
        for after, position in plan.saves:
            if after > before and (plan.after is None or after <= plan.after):
                moment = AttemptAction(live, "save", after)
                self._push((began_at + after - before, 2 * position, next(self._numbers), moment))

    def set_clock(self, by: timedelta) -> None:
        """Put the wall clock forward by `by`; no attempt has lasted longer because of it."""
        for live in {*self.live.values(), *self._stopping.values()}:
            live.began_at += by
            live.ends_at = live.ends_at and live.ends_at + by
            live.stopped_at = live.stopped_at and live.stopped_at + by

    def stop(self, order: Stop, now: datetime, *, draining: bool) -> None:
        """Ask an attempt to stop. It is gone when the recorded one was, if that was stopped, too."""
        live = self.live.get(order.task_id)
        if live is None or live.attempt != order.attempt:
            return
        plan = live.plan
        if draining and not plan.was_cut and live.ends_at is not None and now <= live.ends_at <= now + _OWN_END_WITHIN:
            return
        live.stopped_at = now
        self._stopping[live.task_id, live.attempt] = live
        if plan.gone_after is not None:
            gone_at = live.began_at + plan.gone_after - live.done_before
            if now <= gone_at <= now + _OWN_END_WITHIN:
                self._push((gone_at, 2 * plan.gone_position, next(self._numbers), AttemptAction(live, "gone")))
                return
        gone_at = now + self._gone_after.get((live.task_id, live.attempt), GONE_WITHIN)
        self._push((gone_at, NOWHERE, next(self._numbers), AttemptAction(live, "gone")))

    def stopping(self) -> ReplayedAttempt | None:
        """The attempt that was asked to stop first and may be gone by now."""
        return next(iter(self._stopping.values()), None)

    def report_gone(self, live: ReplayedAttempt, now: datetime) -> Report:
        """Report that a stopped attempt is gone; the log shows it, because something was started in its place."""
        if live.stopped_at is not None:
            self._gone_after[live.task_id, live.attempt] = now - live.stopped_at
        self.cut(live)
        return AttemptEnded(live.task_id, live.attempt, "stopped")

    def reports(self, moment: AttemptAction) -> list[Report]:
        """The reports of an action whose time has come; none if the attempt is over by then."""
        live = moment.live
        if live.over or (live.stopped_at is not None and moment.kind == "end"):
            return []
        match moment.kind:
            case "save":
                live.saved = moment.after
                return [AttemptCheckpointed(live.task_id, live.attempt, _SAVED)]
            case "end":
                return self._end(live)
            case _:
                self.cut(live)
                return [AttemptEnded(live.task_id, live.attempt, "stopped")]

    def _end(self, live: ReplayedAttempt) -> list[Report]:
        plan = live.plan
        self._forget(live)
        self._played[live.life] = self._played.get(live.life, 0) + plan.used
        self._saved.pop(live.life, None)
        self.guessed += plan.guessed
        end = AttemptEnded(
            live.task_id,
            live.attempt,
            plan.end,
            error=plan.error,
            error_type=plan.error_type,
            exit_code=plan.exit_code,
            memory_used=plan.memory_used,
        )
        return [end] if plan.estimate is None else [AttemptProbed(live.task_id, live.attempt, plan.estimate), end]

    def cut(self, live: ReplayedAttempt) -> None:
        """End an attempt before its own end. Unless the recorded one was cut short, too, its rest is left to do."""
        self._forget(live)
        if live.plan.was_cut:
            self._played[live.life] = self._played.get(live.life, 0) + 1
            self._saved.pop(live.life, None)
        elif live.saved is not None:
            self._saved[live.life] = live.saved

    def cut_all(self) -> None:
        """End all attempts, because the service is gone."""
        for live in list(self.live.values()):
            self.cut(live)

    def _forget(self, live: ReplayedAttempt) -> None:
        live.over = True
        self._stopping.pop((live.task_id, live.attempt), None)
        if self.live.get(live.task_id) is live:
            del self.live[live.task_id]
