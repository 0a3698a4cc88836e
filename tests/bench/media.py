"""K, L. The CPU of media tasks beside the plain tool on the same input, and how soon a cancelled task is gone."""

import os
import random
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import mkdtemp
from typing import Any

from harness import Goal, Table, scratch
from long_jobs import LongJob, make_jobs
from plain_tools import plain_command
from services import service

from tasktrail.api.service import TaskService
from tasktrail.events import Started
from tasktrail.events.errors import TasktrailError

AXES = ("K", "L")
SAMPLES = Path(os.environ.get("TASKTRAIL_SAMPLES", "gallery/samples"))
CANCEL_WITHIN = 1.0
CANCELS = 5
SEGMENTS, ONE_SEGMENT = 10, 600


def tables(*, quick: bool) -> list[Table]:
    """Make a table for each kind of job, and one for cancelling."""
    inputs = Path(mkdtemp(prefix="tasktrail-bench-inputs-"))
    jobs = make_jobs(SAMPLES, inputs, repeats=1 if quick else 8)
    found = [_beside_the_tool(job) for job in jobs]
    cancel = Table("L", "Cancel of a running task to its last process gone", "s")
    for job in jobs:
        cancel.add(job.name, partial(_cancel, job), Goal(at_most=CANCEL_WITHIN))
    return [*found, cancel]


def _beside_the_tool(job: LongJob) -> Table:
    plain = plain_command(job)
    table = Table("K", f"CPU of {job.name}", "s", yardstick="the plain tool" if plain else "")
    if plain is not None:
        table.add("the plain tool", partial(_plain, plain))
    if job.type == "video_convert":
        for name, length, most in (("one segment", ONE_SEGMENT, 1.05), ("10 s segments", SEGMENTS, 1.10)):
            options = {**job.options, "segment_seconds": length}
            table.add(f"tasktrail, {name}", partial(_ours, job, options), Goal(at_most=most, ratio=True))
    else:
        table.add("tasktrail", partial(_ours, job, job.options))
    return table


def _plain(command: list[str]) -> float:
    """Return CPU seconds of the whole process, including its start."""
    with scratch() as folder:
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([word.replace("{out}", str(folder)) for word in command], check=True, capture_output=True)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ours(job: LongJob, options: dict[str, Any]) -> float:
    """Return CPU seconds of the attempt, including the loading of its libraries, and of the service meanwhile."""
    with scratch() as folder, service(folder / "data", 1) as tasks:
        before = getrusage(RUSAGE_SELF)
        task = tasks.wait(_submit(tasks, job, options, folder), timeout=600)
        after = getrusage(RUSAGE_SELF)
        if task.status != "completed":
            sys.exit(f"{job.name}: {task.error}")
        return task.cpu_used + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cancel(job: LongJob) -> float:
    """Return the longest of several cancels, spread over the whole work. The slowest step may be the last one."""
    chance = random.Random(job.name)
    with scratch() as folder, service(folder / "data", 1) as tasks:
        tasks.wait(_submit(tasks, job, job.options, folder), timeout=600)  # the libraries stay loaded from here on
        quiet = tasks.wait(_submit(tasks, job, job.options, folder), timeout=600)
        shares = [(number + chance.random()) / CANCELS for number in range(CANCELS)]
        return max(_cancel_at(tasks, job, folder, share, quiet.duration or 0.0) for share in shares)


def _cancel_at(tasks: TaskService, job: LongJob, folder: Path, share: float, length: float) -> float:
    """Measure from the request, at this share of the time, until the worker is free of the attempt and its processes.

    If a task was over before the request, it shows how long it takes now, and the next one is cancelled instead.
    """
    for _ in range(10):
        task_id = _submit(tasks, job, job.options, folder)
        _wait_until_started(tasks, task_id)
        time.sleep(share * length)
        begun = time.perf_counter()
        with suppress(TasktrailError):  # it is over
            tasks.cancel_task(task_id)
        # The worker, or its successor, takes the next task only when nothing of the last one is left.
        tasks.wait(tasks.create_task(type="noop"), timeout=60)
        taken = time.perf_counter() - begun
        task = tasks.get_task(task_id)
        if task.status == "cancelled":
            return taken
        length = task.duration or length
    sys.exit(f"{job.name}: it was over before every cancel")


def _submit(tasks: TaskService, job: LongJob, options: dict[str, Any], folder: Path) -> int:
    output = folder / f"out{job.suffix}"
    return tasks.create_task(
        type=job.type, input_file=job.input_file, output_file=output, options=options, overwrite=True
    )


def _wait_until_started(tasks: TaskService, task_id: int) -> None:
    for record in tasks.follow():
        if record.task_id == task_id and isinstance(record.event, Started):
            return
