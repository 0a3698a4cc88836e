"""How long work is expected to take still: at its own pace, or by what tasks of its type took so far."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .events import Task
    from .projections import Stats

_SHOWS = 1.0
"""Percent after which an attempt's own pace can be told."""
_LEAPS = 30.0
"""Seconds in which an attempt's own pace is not all that is looked at: some leap at their start."""


def means_of(stats: "Stats") -> dict[str, float]:
    """Type → seconds that a task of it took in the mean, of those types of which tasks have ended."""
    return {name: kind.durations.mean for name, kind in stats.by_type.items() if kind.durations}


def whole_of(task: "Task", means: Mapping[str, float]) -> float:
    """Seconds that the task may take from its beginning: what those of its type took, else its estimate; 0: unknown."""
    return means.get(task.type) or (task.estimate.seconds if task.estimate else task.estimated_time)


def seconds_left(progress: float, ran: float, whole: float, *, began: float | None = 0.0) -> float | None:
    """Seconds of work that a task needs still, if it goes on as it has; None when that is unknown.

    Args:
        progress: percent now.
        ran: seconds that its attempt has run; 0 for one that waits.
        whole: seconds that it may take from its beginning; 0 when that is unknown.
        began: percent when its attempt started; None when that is unknown, as it may be of a later one.
    """
    done = 0.0 if began is None else progress - began
    own = ran * (100 - progress) / done if done >= _SHOWS and ran > 0 else None
    if not whole or (own is not None and ran >= _LEAPS):
        return own
    # One that began nobody knows where is as far as it says, and not as far as it would be from the beginning.
    passed = 0.0 if began is None and progress else min(99.0, 100 * ran / whole)
    by_type = whole * (1 - max(progress, passed) / 100)
    return by_type if own is None else max(own, by_type)
