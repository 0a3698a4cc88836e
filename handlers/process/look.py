"""The look into the input before the handler is called: is there room for what it will take?"""

from math import inf
from pathlib import Path
from typing import Any

import msgspec

from ...events.reports import AttemptProbed, Run
from ...events.task_events import Estimated
from ...events.values import MAX_INTEGER
from ..contract import Estimate, Job, TaskType
from ..errors import BadAnswer
from .context import plain_json
from .line import Line

TOLERANCE = 1.25
SLACK = 16 * 1024 * 1024
"""Bytes. An estimate this little or this share above what was reserved is not worth another wait in the queue."""
_BASIS_LIMIT = 4096


def has_room(run: Run, task_type: TaskType, options: Any, line: Line) -> bool:
    """Take the look, if this attempt is to take one, and tell what it led to. False: too little was reserved.

    Only an attempt that begins from nothing looks, and only until the task has an estimate from a look: its second
    one would find the same. Raises what the type's `probe` raises.
    """
    if task_type.probe is None or run.probed or run.checkpoint is not None:
        return True
    estimate = _plain(task_type.probe_input(_job(run, options)))
    line.send(AttemptProbed(run.task_id, run.attempt, estimate))
    return not (_outgrows(estimate.memory, run.memory) or _outgrows(estimate.temp, run.temp))


def _job(run: Run, options: Any) -> Job[Any]:
    source = Path(run.input_file)
    size = source.stat().st_size if run.input_file else 0
    return Job(options=options, input_file=source, output_file=Path(run.output_file), input_size=size)


def _outgrows(wanted: int, reserved: int) -> bool:
    return wanted > TOLERANCE * reserved + SLACK


def _plain(found: object) -> Estimated:
    if not isinstance(found, Estimate) or not 0 <= found.seconds < inf or min(found.memory, found.temp) < 0:
        raise BadAnswer(f"The probe answered {found!r}, which is no estimate")
    basis = msgspec.json.decode(plain_json(found.basis, _BASIS_LIMIT, "The estimate's basis"))
    memory, temp = min(found.memory, MAX_INTEGER), min(found.temp, MAX_INTEGER)
    return Estimated(memory=memory, temp=temp, seconds=found.seconds, basis=basis)
