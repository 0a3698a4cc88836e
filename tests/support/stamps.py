"""The stamps that `stamping.py` has written, read back: which process of which attempt lived where, and how long."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


class Life(NamedTuple):
    """Of a process. Times are seconds of CLOCK_MONOTONIC."""

    attempt: int
    pid: int
    """As its own machine counts."""
    machine: str
    start: float
    last: float
    """When it was last known to run code."""
    is_done: bool
    """Whether it has ended by itself."""
    overlaps: tuple[int, ...]
    """Attempts of its task that lived when it began."""


def read_stamps(folder: Path) -> dict[int, list[Life]]:
    """Task → the lives of its processes, in the order in which they began."""
    lives = defaultdict[int, list[Life]](list)
    for path in folder.glob("*.stamps"):
        task, attempt, pid = map(int, path.stem.split("-"))
        if (life := _life(attempt, pid, path.read_text())) is not None:
            lives[task].append(life)
    return {task: sorted(those, key=lambda life: life.start) for task, those in lives.items()}


def _life(attempt: int, pid: int, text: str) -> Life | None:
    lines = [line.split(" ") for line in text.splitlines(keepends=True) if line.endswith("\n")]  # others were cut short
    if not lines:
        return None
    times = [float(line[1]) for line in lines]
    overlaps = tuple(int(line[2]) for line in lines if line[0] == "overlap")
    return Life(attempt, pid, lines[0][2].strip(), times[0], times[-1], lines[-1][0] == "stop", overlaps)


def overlaps(stamps: Mapping[int, Iterable[Life]]) -> list[str]:
    """Where two attempts of one task were alive at one instant."""
    found = []
    for task, lives in stamps.items():
        found += [
            f"task {task}: attempt {attempt} was alive when attempt {life.attempt} began"
            for life in lives
            for attempt in life.overlaps
        ]
        for one, other in combinations(lives, 2):
            if one.attempt != other.attempt and other.start <= one.last:
                found.append(
                    f"task {task}: attempt {one.attempt} stamped {one.last - other.start:.3f} s after the start of "
                    f"attempt {other.attempt}"
                )
    return found
