"""`make estimates`: how good the estimates are. Each type on real files, what it took beside what was expected.

    python tests/estimates/estimates.py [--type NAME] [--json FILE]

For each type: in how many runs the true peak of memory, and of temp space, stayed within the estimate that the attempt
ran with (the look into the input, where the type takes one), and how far the estimate of the run in the middle is off.
Each type gets a service of its own with one worker, so that no type pays for the libraries of another. Exit code 1 when
a goal is missed, by one type or by all together: 95 % of the runs within, and the one in the middle within a factor of
2. Seconds are told, but depend on what else the machine does.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from runs import Run, runs

from tasktrail import Task, TaskService
from tasktrail.config import Config
from tasktrail.samples import Sample, fetch

WITHIN = 600.0
GOAL_SHARE, GOAL_FACTOR = 0.95, 2.0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Bytes and seconds."""

    type: str
    sample: str
    suffix: str
    options: dict[str, Any]
    error: str
    guessed_memory: int
    guessed_temp: int
    guessed_time: float
    memory: int
    temp: int
    time: float
    memory_used: int
    temp_used: int
    time_used: float
    cpu_used: float
    basis: dict[str, Any]


@click.command()
@click.option("--type", "only", help="Only this type.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write every run there, for tuning.")
@click.option("--samples", default=".demo/samples", type=click.Path(path_type=Path), help="Where samples are kept.")
def main(only: str | None, target: Path | None, samples: Path) -> None:
    """Measure and tell."""
    console = Console(width=110)
    wanted = [run for run in runs() if only in (None, run.type)]
    files = fetch(list({run.sample for run in wanted}), samples.resolve())
    measured = []
    for task_type, group in groupby(wanted, lambda run: run.type):
        console.print(f"{task_type} …")
        measured += _measure(list(group), files)
    if target is not None:
        target.write_text(json.dumps(msgspec.to_builtins(measured), indent=1))
    sys.exit(0 if _tell(measured, console) else 1)


def _measure(group: list[Run], files: dict[Sample, Path]) -> list[Measured]:
    with tempfile.TemporaryDirectory() as scratch:
        config = Config(workers=1)
        with TaskService.open(Path(scratch, "data"), config=config) as service:
            if group[0].type not in {info.name for info in service.types()}:
                return []
            ids = [
                service.create_task(
                    type=run.type,
                    input_file=files[run.sample],
                    output_file=Path(scratch, f"{number}{run.suffix}"),
                    options=run.options,
                )
                for number, run in enumerate(group)
            ]
            return [_measured(run, service.wait(task_id, WITHIN)) for run, task_id in zip(group, ids, strict=True)]


def _measured(run: Run, task: Task) -> Measured:
    found = task.estimate
    return Measured(
        type=run.type,
        sample=run.sample.name,
        suffix=run.suffix,
        options=run.options,
        error=task.error,
        guessed_memory=task.estimated_memory,
        guessed_temp=task.estimated_temp,
        guessed_time=task.estimated_time,
        memory=found.memory if found else task.estimated_memory,
        temp=found.temp if found else task.estimated_temp,
        time=found.seconds if found else task.estimated_time,
        memory_used=task.memory_used,
        temp_used=task.temp_used,
        time_used=task.time_used,
        cpu_used=task.cpu_used,
        basis=found.basis if found else {},
    )


def _tell(measured: list[Measured], console: Console) -> bool:
    """Print the table; whether all goals are met."""
    done = [one for one in measured if not one.error]
    good = len(done) == len(measured) and _good(done)
    table = Table("type", "runs", "memory within", "factor", "temp within", "factor", "time factor")
    for name, members in groupby(done, lambda one: one.type):
        group = list(members)
        table.add_row(name, *_row(group))
        good = good and _good(group)
    table.add_row("all", *_row(done))
    console.print(table)
    for one in measured:
        if one.error:
            console.print(f"failed: {one.type} of {one.sample} to {one.suffix}: {one.error}", soft_wrap=True)
    return good


def _good(group: list[Measured]) -> bool:
    return all(_share(group, pair) >= GOAL_SHARE and _off(group, pair) <= GOAL_FACTOR for pair in (_memory, _temp))


def _row(group: list[Measured]) -> list[str]:
    return [
        str(len(group)),
        f"{_share(group, _memory):.0%}",
        f"{_factor(group, _memory):.2f}",
        f"{_share(group, _temp):.0%}",
        f"{_factor(group, _temp):.2f}",
        f"{_factor(group, _time):.2f}",
    ]


def _memory(one: Measured) -> tuple[float, float]:
    return one.memory, one.memory_used


def _temp(one: Measured) -> tuple[float, float]:
    return one.temp, one.temp_used


def _time(one: Measured) -> tuple[float, float]:
    return one.time, one.time_used


Pair = Callable[[Measured], tuple[float, float]]


def _share(group: list[Measured], pair: Pair) -> float:
    """How many runs took no more than was expected, of 1."""
    return sum(used <= expected for expected, used in map(pair, group)) / max(1, len(group))


def _factor(group: list[Measured], pair: Pair) -> float:
    """Expected over used, of the run in the middle."""
    return median([expected / used for expected, used in map(pair, group) if used] or [1.0])


def _off(group: list[Measured], pair: Pair) -> float:
    """How far that is off, in either direction: 1 and more."""
    factor = _factor(group, pair)
    return max(factor, 1 / factor) if factor else float("inf")


if __name__ == "__main__":
    main()
