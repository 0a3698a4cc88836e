"""How long work is expected to take still: at its own pace, or by what tasks of its type took so far."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .projections import Stats


def means_of(stats: "Stats") -> dict[str, float]:
    """Type → seconds that a task of it took in the mean, of those types of which tasks have ended."""
    return {name: kind.durations.mean for name, kind in stats.by_type.items() if kind.durations}


_SHOWS = 1.0
"""Percent after which an attempt's own pace can be told."""


def left_at_own_pace(progress: float, ran: float, *, began: float = 0.0) -> float | None:
    """Seconds that an attempt needs still if it goes on as it has for `ran` seconds; None before that can be told.

    `progress`, `began`: percent now and when the attempt started.
    """
    done = progress - began
    return ran * (100 - progress) / done if done >= _SHOWS and ran > 0 else None


def seconds_left(progress: float, whole: float) -> float | None:
    """Seconds of work that are left of `whole`; None when that is 0, which is: unknown."""
    return whole * (1 - progress / 100) if whole else None
