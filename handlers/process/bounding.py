"""What one attempt of a type may use: the type's `Bounds`, and the operator's own, made into numbers."""

from pathlib import Path
from typing import Any

import msgspec

from ...events.errors import TasktrailError
from ...events.reports import Run
from ..contract import Job, TaskType
from .frames import AttemptBounded
from .sandbox import Sandbox

_MEGABYTE = 1_000_000
_BLOCK = 512
"""`st_blocks` counts in these."""


def bound(
    run: Run, task_type: TaskType, sandbox: Sandbox, *, cpu_before: float, resident: int
) -> AttemptBounded | None:
    """What the attempt may use; none where nothing bounds it.

    Args:
        run: the attempt.
        task_type: its type.
        sandbox: the operator's own bounds.
        cpu_before: CPU seconds that the worker has used by now.
        resident: bytes of memory that the worker has now.
    """
    rule = task_type.bounds
    configured = sandbox.cpu_limits.get(run.type)
    if rule is None and configured is None:
        return None
    cpu, per_probed, words, memory = configured or 0.0, 0.0, "it is set by cpu_limits", 0
    if rule is not None:
        if run.memory and task_type.limits:
            memory = resident + max(rule.memory_floor, int(rule.memory_factor * run.memory))
        if configured is None:
            size = stored_size(run.input_file)
            cpu, words = rule.cpu_seconds + rule.cpu_per_megabyte * size / _MEGABYTE, _words(rule, size)
            expected = rule.cpu_per_expected * _expected(run, task_type, size)
            if expected > cpu:
                cpu, words = expected, f"it follows from the {size:,} bytes of the input and the options"
            per_probed = rule.cpu_per_probed
            if run.probed and per_probed * run.seconds > cpu:
                cpu, words = per_probed * run.seconds, "it follows from a look into the input"
    return AttemptBounded(run.task_id, run.attempt, cpu, per_probed, cpu_before, memory, words)


def stored_size(path: str) -> int:
    """Bytes of a file that are on the disk: holes are no input. 0 when there is no file."""
    if not path:
        return 0
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return 0  # the attempt's own error tells
    return min(found.st_size, _BLOCK * found.st_blocks) if hasattr(found, "st_blocks") else found.st_size


def _words(rule: Any, size: int) -> str:
    return f"{rule.cpu_seconds:g} s + {rule.cpu_per_megabyte:g} s per MB of input, which has {size:,} bytes"


def _expected(run: Run, task_type: TaskType, size: int) -> float:
    """Seconds by size and options alone, or by the sender: nothing that the input's content could say."""
    try:
        options = msgspec.convert(run.options, task_type.options)
        job = Job(options=options, input_file=Path(run.input_file), output_file=Path(run.output_file), input_size=size)
        by_type = task_type.estimate(job).seconds
    except (msgspec.ValidationError, TasktrailError, ValueError, OSError):
        by_type = 0.0  # what is wrong with them, the attempt itself will say
    return max(by_type, run.expected)
