"""How everything here is measured: variants in turn, round by round, so that a drift of the machine affects all alike.

A variant does its own set-up, times only the relevant part, and returns one figure. Reported are the median, the
smallest and largest, and the median of the round-by-round ratios to the floor or peer of the same table.
"""

import gc
import os
import platform
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

SUPPORT = Path(__file__).parent


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """The first milestone's goal for a variant: a figure, or a ratio to the yardstick."""

    at_least: float | None = None
    at_most: float | None = None
    ratio: bool = False


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One variant's figures."""

    axis: str
    name: str
    unit: str
    median: float
    low: float
    high: float
    ratio: float | None
    goal: str
    met: bool | None


class Table:
    """One axis: variants by name, one of them the yardstick."""

    def __init__(self, axis: str, title: str, unit: str, *, yardstick: str = "", seldom: bool = False) -> None:
        self.axis = axis
        self.title = title
        self.unit = unit
        self.yardstick = yardstick
        self.seldom = seldom
        """Whether it takes so long that it runs only when it is named."""
        self.variants: dict[str, Callable[[], float]] = {}
        self.goals: dict[str, Goal] = {}

    def add(self, name: str, variant: Callable[[], float], goal: Goal | None = None) -> None:
        """Add a variant."""
        self.variants[name] = variant
        if goal is not None:
            self.goals[name] = goal

    def run(self, rounds: int) -> list[Row]:
        """Measure all variants, in turn."""
        figures: dict[str, list[float]] = {name: [] for name in self.variants}
        for number in range(1, rounds + 1):
            for name, variant in self.variants.items():
                print(f"\r{self.axis}: round {number} of {rounds}, {name:<50}", end="", file=sys.stderr, flush=True)
                gc.collect()
                figures[name].append(variant())
        print("\r" + " " * 90 + "\r", end="", file=sys.stderr, flush=True)
        return [self._row(name, figures) for name in self.variants]

    def _row(self, name: str, figures: dict[str, list[float]]) -> Row:
        values = figures[name]
        base = figures.get(self.yardstick)
        ratio = statistics.median(a / b for a, b in zip(values, base, strict=True)) if base else None
        goal = self.goals.get(name)
        median = statistics.median(values)
        met, said = _judge(goal, median, ratio)
        return Row(
            axis=self.axis,
            name=name,
            unit=self.unit,
            median=median,
            low=min(values),
            high=max(values),
            ratio=ratio,
            goal=said,
            met=met,
        )


def _judge(goal: Goal | None, median: float, ratio: float | None) -> tuple[bool | None, str]:
    if goal is None:
        return None, ""
    figure = ratio if goal.ratio else median
    assert figure is not None
    kind = " of the yardstick" if goal.ratio else ""
    if goal.at_least is not None:
        return figure >= goal.at_least, f"≥ {goal.at_least:g}{kind}"
    assert goal.at_most is not None
    return figure <= goal.at_most, f"≤ {goal.at_most:g}{kind}"


def show(table: Table, rows: Sequence[Row]) -> None:
    """Print a table for people."""
    print(f"\n{table.axis}. {table.title}  [{table.unit}]")
    print(f"  {'':<46}{'median':>12}{'min':>12}{'max':>12}{'ratio':>8}  goal")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        verdict = "" if row.met is None else ("met" if row.met else "MISSED")
        numbers = "".join(f"{number:>12,.{0 if number >= 100 else 3}f}" for number in (row.median, row.low, row.high))
        print(f"  {row.name:<46}{numbers}{ratio:>8}  {row.goal} {verdict}")
    sys.stdout.flush()


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder on a real disk: on tmpfs a figure about fsync means nothing."""
    path = Path(tempfile.mkdtemp(prefix="tasktrail-bench-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def seconds(work: Callable[[], Any]) -> float:
    """Return how long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def machine() -> str:
    """Describe the machine of the figures."""
    model = next(
        (
            line.split(":", 1)[1].strip()
            for line in _read("/proc/cpuinfo").splitlines()
            if line.startswith("model name")
        ),
        platform.processor() or "unknown processor",
    )
    loops = 1_000_000 / seconds(lambda: sum(index & 3 for index in range(1_000_000))) / 1e6
    return (
        f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, Python {platform.python_version()}, "
        f"SQLite {sqlite3.sqlite_version}; load {os.getloadavg()[0]:.1f}; {loops:.0f} M loops/s"
    )


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
