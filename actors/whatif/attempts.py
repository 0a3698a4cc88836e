"""What attempts do once they run: as long and to the same end as the log has it, guessed where it does not say."""

from datetime import datetime, timedelta
from typing import Literal, TypeAlias

import msgspec

from ...events import Created
from ...events.task_events import Estimated
from ...handlers.process.frames import AttemptEnd
from .course import LifeKey

Cut: TypeAlias = Literal["", "timed_out", "cancelled", "interrupted"]
"""Why an attempt did not come to an end of its own; empty: it did."""

NOWHERE = 2**62
"""The position of what the log does not tell: after everything else of the same moment."""
ZERO = timedelta(0)
LAST_RESORT = timedelta(seconds=60)
"""How long an attempt is guessed to run when the log has no completed attempt, and the task no estimate."""


class Attempt(msgspec.Struct, gc=False):
    """One attempt as the log has it."""

    started_at: datetime
    resumed: bool
    ran: timedelta = ZERO
    end: AttemptEnd = "completed"
    error: str = ""
    error_type: str = ""
    exit_code: int | None = None
    estimate: Estimated | None = None
    """What its look into the input led to."""
    cut: Cut = "interrupted"
    position: int = NOWHERE
    """Where its end is recorded."""
    saves: list[tuple[timedelta, int]] = []
    """Its checkpoints: how long after the start, and where recorded."""


class Plan(msgspec.Struct, frozen=True, gc=False):
    """What a played attempt will do, unless something ends it first."""

    after: timedelta | None
    """None: it goes on until the core ends it."""
    end: AttemptEnd = "completed"
    error: str = ""
    error_type: str = ""
    exit_code: int | None = None
    estimate: Estimated | None = None
    position: int = NOWHERE
    saves: tuple[tuple[timedelta, int], ...] = ()
    used: int = 0
    """Attempts of the log that it stands for."""
    was_cut: bool = False
    """Whether the recorded one did not come to its end."""
    gone_after: timedelta | None = None
    """When the recorded one was gone after it had been stopped, where its end says so."""
    gone_position: int = NOWHERE
    guessed: bool = False


class Attempts:
    """The recorded attempts of all lives, and how many of them have been played.

    An attempt that the log has cut short (the service went, somebody cancelled it) and that is not cut when it is
    played goes on as the next one did; without a next one it is guessed to run as long as its type does.
    """

    def __init__(self) -> None:
        self.by_life: dict[LifeKey, list[Attempt]] = {}
        self._completed: dict[str, list[timedelta]] = {}
        self._medians: dict[str, timedelta] = {}

    def add(self, key: LifeKey, attempt: Attempt) -> None:
        """Another attempt of a life."""
        self.by_life.setdefault(key, []).append(attempt)

    def learn(self, task_type: str, ran: timedelta) -> None:
        """An attempt of the type was completed."""
        self._completed.setdefault(task_type, []).append(ran)

    def usual(self, spec: Created) -> timedelta:
        """How long an attempt is guessed to run: the median of its type, its estimate, the median of all."""
        if not self._medians:
            every = [ran for of_type in self._completed.values() for ran in of_type]
            self._medians = {name: _median(of_type) for name, of_type in self._completed.items()}
            self._medians[""] = _median(every) if every else LAST_RESORT
        if spec.type in self._medians:
            return self._medians[spec.type]
        return timedelta(seconds=spec.estimated_time) if spec.estimated_time > 0 else self._medians[""]

    def plan(self, key: LifeKey, number: int, spec: Created) -> Plan:
        """What the attempt does that stands for the recorded one with this number, from 0."""
        recorded = self.by_life.get(key, [])
        if number >= len(recorded):
            return Plan(after=self.usual(spec), guessed=True)
        attempt = recorded[number]
        if attempt.cut == "timed_out":
            return Plan(after=None, saves=tuple(attempt.saves), used=1, was_cut=True)
        if not attempt.cut:
            return _as_recorded(attempt)
        if number + 1 == len(recorded):
            plan = Plan(after=max(attempt.ran, self.usual(spec)), guessed=True)
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


def _as_recorded(attempt: Attempt) -> Plan:
    return Plan(
        after=attempt.ran,
        end=attempt.end,
        error=attempt.error,
        error_type=attempt.error_type,
        exit_code=attempt.exit_code,
        estimate=attempt.estimate,
        position=attempt.position,
        saves=tuple(attempt.saves),
        used=1,
    )


def _median(values: list[timedelta]) -> timedelta:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
