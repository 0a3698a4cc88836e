"""How long work is expected to take still, by what tasks of its type took so far."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .projections import Stats


def means_of(stats: "Stats") -> dict[str, float]:
    """Type → seconds that a task of it took in the mean, of those types of which tasks have ended."""
    return {name: kind.durations.mean for name, kind in stats.by_type.items() if kind.durations}


def seconds_left(progress: float, whole: float) -> float | None:
    """Seconds of work that are left of `whole`; None when that is 0, which is: unknown."""
    return whole * (1 - progress / 100) if whole else None
