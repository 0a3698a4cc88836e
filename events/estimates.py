"""What the past of a task type teaches about its estimates. A fold of the log: pure, and the same at every replay.

Kept is how the last completed attempts compare with what the type itself had estimated, never with the corrected
figures: a correction cannot feed on itself.
"""

from typing import Any

import msgspec

from .state import TaskState
from .task_events import Completed, Created, Estimated
from .values import MAX_INTEGER

WINDOW = 32
"""Attempts that are remembered; older ones were made by other options, other inputs, maybe another version."""
ENOUGH = 5
"""Attempts without which nothing is said."""
SUFFICES = 0.95
"""Of the attempts, for memory and temp space."""
MEMORY_BOUNDS = (0.5, 4.0)
TEMP_BOUNDS = (0.25, 4.0)
TIME_BOUNDS = (0.25, 4.0)
"""No correction goes beyond: an estimate that is wrong by more wants a better formula."""


class Correction(msgspec.Struct, frozen=True):
    """Factors on what a type estimates."""

    memory: float = 1.0
    temp: float = 1.0
    seconds: float = 1.0


def recorded(estimate: Estimated, correction: Correction | None) -> dict[str, Any]:
    """An estimate of a type, and what its history makes of it, as the fields of `Created` that say so.

    The run time is not among them: what the sender of the task expects goes before it. With no correction the history
    was not asked, and then the time that the type estimated is not recorded.
    """
    factors = correction or Correction()
    memory = min(int(estimate.memory * factors.memory), MAX_INTEGER)
    temp = min(int(estimate.temp * factors.temp), MAX_INTEGER)
    return {
        "estimated_memory": memory,
        "estimated_temp": temp,
        "guessed_memory": 0 if memory == estimate.memory else estimate.memory,
        "guessed_temp": 0 if temp == estimate.temp else estimate.temp,
        "guessed_time": 0.0 if correction is None else estimate.seconds,
        "estimate_basis": estimate.basis,
    }


def of_the_type(spec: Created) -> Estimated:
    """What the type itself estimated for a task: what was `recorded`, read back."""
    return Estimated(
        memory=spec.guessed_memory or spec.estimated_memory,
        temp=spec.guessed_temp or spec.estimated_temp,
        seconds=spec.guessed_time,
        basis=spec.estimate_basis,
    )


class Experience(msgspec.Struct):
    """What one task type has shown: what was used, as a share of the type's own estimate; the newest last."""

    memory: list[float] = []
    temp: list[float] = []
    seconds: list[float] = []

    def learn(self, task: TaskState, event: Completed) -> None:
        """An attempt of the type was completed. One that went on from a checkpoint does less, and does not count."""
        if task.resumed:
            return
        estimate = of_the_type(task.spec)
        if estimate.memory > 0 and event.memory_used > 0:
            self.memory = [*self.memory, event.memory_used / estimate.memory][-WINDOW:]
        if estimate.temp > 0 and event.temp_used > 0:
            self.temp = [*self.temp, event.temp_used / estimate.temp][-WINDOW:]
        if estimate.seconds > 0 and event.time_used > 0:
            self.seconds = [*self.seconds, event.time_used / estimate.seconds][-WINDOW:]

    def correction(self) -> Correction:
        """What to make of the type's next estimate: space is to suffice nearly always, time to be right on average."""
        return Correction(
            memory=_clamped(_quantile(self.memory, SUFFICES), MEMORY_BOUNDS),
            temp=_clamped(_quantile(self.temp, SUFFICES), TEMP_BOUNDS),
            seconds=_clamped(_quantile(self.seconds, 0.5), TIME_BOUNDS),
        )


def _quantile(ratios: list[float], share: float) -> float:
    """The smallest ratio that this share of them does not exceed."""
    if len(ratios) < ENOUGH:
        return 1.0
    ordered = sorted(ratios)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _clamped(ratio: float, bounds: tuple[float, float]) -> float:
    return min(max(ratio, bounds[0]), bounds[1])
