"""K, L. The CPU of media tasks beside the plain tool on the same input; how soon a cancelled one is gone."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from tempfile import mkdtemp
from typing import Any

from harness import Goal, Table, scratch
from long_jobs import LongJob, make_jobs
from plain_tools import plain_command
from services import service

from tasktrail.events import Progressed
from tasktrail.events.task_events import is_terminal
from tasktrail.service import TaskService

AXES = ("K", "L")
SAMPLES = Path(os.environ.get("TASKTRAIL_SAMPLES", "gallery/samples"))
CANCEL_WITHIN = 1.0
SEGMENTS, ONE_SEGMENT = 10, 600


def tables(*, quick: bool) -> list[Table]:
    """A table for each kind of job, and one for cancelling."""
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
    """CPU seconds of the whole process, its start included."""
    with scratch() as folder:
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run([word.replace("{out}", str(folder)) for word in command], check=True, capture_output=True)
        after = getrusage(RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _ours(job: LongJob, options: dict[str, Any]) -> float:
    """CPU seconds of the attempt, the loading of its libraries included, and of the service meanwhile."""
    with scratch() as folder, service(folder / "data", 1) as tasks:
        before = getrusage(RUSAGE_SELF)
        task = tasks.wait(_submit(tasks, job, options, folder), timeout=600)
        after = getrusage(RUSAGE_SELF)
        if task.status != "completed":
            sys.exit(f"{job.name}: {task.error}")
        return task.cpu_used + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _cancel(job: LongJob) -> float:
    """From the wish, in the middle of the work, until the only worker is free of the attempt and of all it started."""
    with scratch() as folder, service(folder / "data", 1) as tasks:
        task_id = _submit(tasks, job, job.options, folder)
        if not _is_under_way(tasks, task_id):
            return 0.0
        begun = time.perf_counter()
        tasks.cancel_task(task_id)
        # The worker, or its successor, takes the next task only when nothing of the last one is left.
        tasks.wait(tasks.create_task(type="noop"), timeout=60)
        return time.perf_counter() - begun


def _submit(tasks: TaskService, job: LongJob, options: dict[str, Any], folder: Path) -> int:
    output = folder / f"out{job.suffix}"
    return tasks.create_task(type=job.type, input_file=job.input_file, output_file=output, options=options)


def _is_under_way(tasks: TaskService, task_id: int) -> bool:
    """Wait until the handler has said something; false when the task is over by then."""
    for record in tasks.follow():
        if record.task_id == task_id:
            if isinstance(record.event, Progressed):
                return True
            if is_terminal(record.event):
                return False
    return False
