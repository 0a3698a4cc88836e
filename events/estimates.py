"""How far off a task type's estimates were lately. A fold of the log: pure, and the same at every replay.

It compares the last completed attempts with the type's own estimates, never with corrected ones: a correction must
not feed on itself.
"""

from typing import Any

import msgspec

from .state import TaskState
from .task_events import Completed, Created, Estimated
from .values import MAX_INTEGER

WINDOW = 32
"""Attempts that are remembered; older ones had other options, other inputs, maybe another version."""
ENOUGH = 5
"""With fewer attempts than this there is no correction."""
SUFFICES = 0.95
"""Corrected memory and temp space would have sufficed for this share of the attempts."""
MEMORY_BOUNDS = (0.5, 4.0)
TEMP_BOUNDS = (0.25, 4.0)
TIME_BOUNDS = (0.25, 4.0)
"""No correction goes beyond these: an estimate that is wrong by more needs a better formula."""


class Correction(msgspec.Struct, frozen=True):
    """Factors on what a type estimates."""

    memory: float = 1.0
    temp: float = 1.0
    seconds: float = 1.0


def recorded(estimate: Estimated, correction: Correction | None) -> dict[str, Any]:
    """The fields of `Created` for a type's estimate and its correction.

    The expected run time is not among them, as the sender's own expectation comes first. Without a correction the
    history does not count, and the time that the type estimated is not recorded.
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
    """The type's own estimate for a task, read back from the fields of `recorded`."""
    return Estimated(
        memory=spec.guessed_memory or spec.estimated_memory,
        temp=spec.guessed_temp or spec.estimated_temp,
        seconds=spec.guessed_time,
        basis=spec.estimate_basis,
    )


class Experience(msgspec.Struct):
    """The last attempts of one task type: what each needed, divided by the type's own estimate; the newest last."""

    memory: list[float] = []
    temp: list[float] = []
    seconds: list[float] = []

    def learn(self, task: TaskState, event: Completed) -> None:
        """Count a completed attempt of the type. One that went on from a checkpoint did less, so it is left out.

        What a look into the input asks for is needed too: with less reserved, the next attempt would be given back. So
        is what was reserved after a kill for lack of memory.
        """
        if task.resumed:
            return
        estimate, looked = of_the_type(task.spec), event.estimate or task.estimate or Estimated()
        if estimate.memory > 0 and event.memory_used > 0:
            self.memory = [*self.memory, max(event.memory_used, looked.memory) / estimate.memory][-WINDOW:]
        if estimate.temp > 0 and event.temp_used > 0:
            self.temp = [*self.temp, max(event.temp_used, looked.temp) / estimate.temp][-WINDOW:]
        if estimate.seconds > 0 and event.time_used > 0:
            self.seconds = [*self.seconds, event.time_used / estimate.seconds][-WINDOW:]

    def correction(self) -> Correction:
        """The factors for the type's next estimate: space that nearly always suffices, and the median time."""
        return Correction(
            memory=_clamped(_quantile(self.memory, SUFFICES), MEMORY_BOUNDS),
            temp=_clamped(_quantile(self.temp, SUFFICES), TEMP_BOUNDS),
            seconds=_clamped(_quantile(self.seconds, 0.5), TIME_BOUNDS),
        )


def _quantile(ratios: list[float], share: float) -> float:
    """The ratio that this share of all ratios does not exceed; 1 while there are too few."""
    if len(ratios) < ENOUGH:
        return 1.0
    ordered = sorted(ratios)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _clamped(ratio: float, bounds: tuple[float, float]) -> float:
    return min(max(ratio, bounds[0]), bounds[1])
