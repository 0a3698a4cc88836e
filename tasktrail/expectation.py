"""Estimates of the time that work still needs: from its own pace, or from what tasks of its type took so far."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Task
    from .projections import Stats

_SHOWS = 1.0
"""Percent that an attempt must have done before its own pace is known."""
_LEAPS = 30.0
"""Seconds that an attempt must have run before its own pace alone decides: some leap at their start."""


def means_of(stats: "Stats") -> dict[str, float]:
    """Map each type that has durations of its tasks to their mean in seconds."""
    return {name: kind.durations.mean for name, kind in stats.by_type.items() if kind.durations}


def whole_of(task: "Task", means: Mapping[str, float]) -> float:
    """Return the seconds that the whole task may take: the mean of its type, else its estimate; 0 if unknown."""
    return means.get(task.type) or (task.estimate.seconds if task.estimate else task.estimated_time)


def seconds_left(progress: float, ran: float, whole: float, *, began: float | None = 0.0) -> float | None:
    """Return the seconds of work that a task still needs if it goes on as before; None if unknown.

    Args:
        progress: percent now.
        ran: seconds that its attempt has run; 0 for a waiting task.
        whole: seconds that the whole task may take; 0 if unknown.
        began: percent when its attempt started; None if unknown, as it may be for a later attempt.
    """
    done = 0.0 if began is None else progress - began
    own = ran * (100 - progress) / done if done >= _SHOWS and ran > 0 else None
    if not whole or (own is not None and ran >= _LEAPS):
        return own
    # Where the attempt's start is unknown, only the reported progress counts: the time says nothing about it.
    passed = 0.0 if began is None and progress else min(99.0, 100 * ran / whole)
    by_type = whole * (1 - max(progress, passed) / 100)
    return by_type if own is None else max(own, by_type)
