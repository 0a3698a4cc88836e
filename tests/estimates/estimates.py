"""`make estimates`: how good the estimates are. Each type on real files, its actual need beside the expected one.

python tests/estimates/estimates.py [--type NAME] [--set fitted|held-out] [--json FILE]

For each type: in how many runs the true peak of memory, and of temp space, stayed within the estimate that the attempt
ran with (the probe's, where the type has one), and how far the estimate of the median run is off. The formulas were
fitted to the files of the first set; nothing was fitted to those of the second, the held-out one. The peak is the
larger of what the worker reports and what was seen from outside.

Each type of the first set gets a service of its own; the second set goes through one service, in any order, as tasks
do. Both have one worker. The goal is that 95 % of the runs stay within, and that the median is within a factor of 2.
Exit code 1 when a run fails or the goal is missed: by a type of the first set, or by all runs together. Seconds are
printed, but depend on the machine's other load.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import track
from rich.table import Table
from runs import Run, runs
from watching import Past, Watch

from tasktrail import Task, TaskService
from tasktrail.config.settings import Config
from tasktrail.demo.samples import Sample, fetch

WITHIN = 600.0
GOAL_SHARE, GOAL_FACTOR = 0.95, 2.0
ORDER = 1
"""Seed of the order of the second set."""
_SETS = {False: "fitted", True: "held-out"}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Bytes and seconds."""

    type: str
    held_out: bool
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
    memory_seen: int
    temp_seen: int
    time_used: float
    cpu_used: float
    basis: dict[str, Any]


@click.command()
@click.option("--type", "only", help="Only this type.")
@click.option("--set", "chosen", type=click.Choice(["fitted", "held-out"]), help="Only this set.")
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write every run there, for tuning.")
@click.option("--samples", default=".demo/samples", type=click.Path(path_type=Path), help="Where samples are kept.")
def main(only: str | None, chosen: str | None, target: Path | None, samples: Path) -> None:
    """Measure and print."""
    console = Console(width=110)
    wanted = [run for run in runs() if only in (None, run.type) and chosen in (None, _SETS[run.held_out])]
    files = fetch(list({run.sample for run in wanted}), samples.resolve())
    measured = []
    for title, group in _services(wanted):
        measured += _measure(track(group, title, console=console), files)
    if target is not None:
        target.write_text(json.dumps(msgspec.to_builtins(measured), indent=1))
    for held_out, name in _SETS.items():
        _tell(name, [one for one in measured if one.held_out == held_out], console)
    sys.exit(0 if _judge(measured, console) else 1)


def _services(wanted: list[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Return the runs of each service, and its name."""
    for task_type, group in groupby((run for run in wanted if not run.held_out), lambda run: run.type):
        yield f"{task_type}, fitted", list(group)
    mixed = [run for run in wanted if run.held_out]
    Random(ORDER).shuffle(mixed)
    if mixed:
        yield "all types, held-out", mixed


def _measure(group: Iterable[Run], files: dict[Sample, Path]) -> list[Measured]:
    past = Past()
    with (
        tempfile.TemporaryDirectory() as scratch,
        TaskService.open(Path(scratch, "data"), config=Config(workers=1)) as service,
    ):
        return [
            _run(service, run, files[run.sample], Path(scratch, str(number)), past) for number, run in enumerate(group)
        ]


def _run(service: TaskService, run: Run, source: Path, folder: Path, past: Past) -> Measured:
    """Run one after the other, so that the observations belong to this one."""
    folder.mkdir()
    with Watch() as watch:
        task_id = service.create_task(
            type=run.type, input_file=source, output_file=folder / f"out{run.suffix}", options=run.options
        )
        watch.folders = (folder, folder.parent / "data" / "tmp" / str(task_id))
        task = service.wait(task_id, WITHIN)
    return _measured(run, task, watch, past.own(run.type, watch))


def _measured(run: Run, task: Task, watch: Watch, memory_seen: int) -> Measured:
    found = task.estimate
    return Measured(
        type=run.type,
        held_out=run.held_out,
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
        memory_seen=memory_seen,
        temp_seen=watch.temp,
        time_used=task.time_used,
        cpu_used=task.cpu_used,
        basis=found.basis if found else {},
    )


def _judge(measured: list[Measured], console: Console) -> bool:
    """Return whether the goal is met, with the figures of all runs together."""
    done = [one for one in measured if not one.error]
    if not done:
        return False
    runs, *figures = _row(done)
    console.print(f"all {runs} runs: memory {figures[0]} within, {figures[1]}; temp {figures[2]} within, {figures[3]}")
    fitted = sorted((one for one in done if not one.held_out), key=lambda one: one.type)
    by_type = [_good(list(group)) for _, group in groupby(fitted, lambda one: one.type)]
    return len(done) == len(measured) and _good(done) and all(by_type)


def _tell(name: str, measured: list[Measured], console: Console) -> None:
    """Print the table of one set."""
    done = [one for one in measured if not one.error]
    table = Table("type", "runs", "memory within", "factor", "temp within", "factor", "time factor", title=name)
    for task_type, members in groupby(sorted(done, key=lambda one: one.type), lambda one: one.type):
        group = list(members)
        table.add_row(task_type, *_row(group))
    if done:
        table.add_row("all", *_row(done))
        console.print(table)
    for one in measured:
        for problem in _problems(one):
            console.print(f"{one.type} of {one.sample} to {one.suffix} {one.options}: {problem}", soft_wrap=True)


def _problems(one: Measured) -> list[str]:
    if one.error:
        return [f"failed: {one.error}"]
    return [
        f"{name} {used / 1e6:.2f} MB, expected {expected / 1e6:.2f}"
        for name, (expected, used) in (("memory", _memory(one)), ("temp", _temp(one)))
        if not 0 < used <= expected
    ]


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
    return one.memory, max(one.memory_used, one.memory_seen)


def _temp(one: Measured) -> tuple[float, float]:
    return one.temp, max(one.temp_used, one.temp_seen)


def _time(one: Measured) -> tuple[float, float]:
    return one.time, one.time_used


Pair = Callable[[Measured], tuple[float, float]]


def _share(group: list[Measured], pair: Pair) -> float:
    """Return the share of runs that took no more than expected, from 0 to 1. A run without a measurement did not."""
    return sum(0 < used <= expected for expected, used in map(pair, group)) / len(group)


def _factor(group: list[Measured], pair: Pair) -> float:
    """Return expected over used, of the median run."""
    return median([expected / used for expected, used in map(pair, group) if used] or [0.0])


def _off(group: list[Measured], pair: Pair) -> float:
    """Return how far that is off, in either direction: 1 and more."""
    factor = _factor(group, pair)
    return max(factor, 1 / factor) if factor else float("inf")


if __name__ == "__main__":
    main()
