"""The input of a decision beyond the state of the task. All of it is passed in, so a decision can be made again."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from .estimates import Correction
from .retry import RetryRule
from .task_events import Estimated


class DecisionContext(msgspec.Struct, frozen=True, kw_only=True):
    """The facts around a task that a decision about it may need."""

    now: datetime
    last_task_id: int = 0
    max_crashes: int = 3
    retry_rules: tuple[RetryRule, ...] = ()
    """The configured rules, which come before the built-in table."""
    ended_dependencies: tuple[int, ...] = ()
    """For a retry: the dependencies that have ended without success and would end the task at once again."""
    outputs: Mapping[str, int] = {}
    """Output of each unfinished task → the first task that writes it. Not copied, so it has to be read at once."""
    open_keys: Mapping[str, int] = {}
    """`unique_key_of` each open task that has one → the task. Not copied, so it has to be read at once."""
    output_real: str = ""
    """For a new task: its output with links resolved, if that is another path."""
    can_resume: bool = False
    """Whether the task type's handler can resume."""
    estimate: Estimated = Estimated()
    """For a new task: the estimate of its type."""
    correction: Correction | None = None
    """The correction of that by the type's history. None where the history does not count, as for a schedule's task."""
    by_name: Mapping[str, "DecisionContext"] = {}
    """For a graph: the context of each of its tasks, by name."""
    draining: bool = False
    """For an attempt that has ended: whether the service is stopping, and had asked it to stop."""
    probed: Estimated | None = None
    """For an attempt that has ended: the estimate of its probe."""
    never_fits: str = ""
    """Why that estimate can never fit; empty if it can."""
    memory_next: int = 0
    """For an attempt that has ended: bytes to reserve for the next one if this one was killed for lack of memory."""
    has_probe: bool = False
    """For an attempt that has ended: whether its type looks into the input before the work begins."""
    temp_peak: int = 0
    """For an attempt that has ended: the most temp space that samples saw it use, in bytes."""


class Belongings(NamedTuple):
    """The personal data of one user in a log."""

    keys: tuple[str, ...] = ()
    """The names of the keys that decrypt it."""
    tasks: tuple[int, ...] = ()
    """The tasks that these keys are for."""
    plain: int = 0
    """How many tasks of the user were recorded before personal data was encrypted."""
    position: int = 0
    """The log was searched up to here; 0: not at all."""


NOTHING_KNOWN = Belongings()
"""The log has not been searched yet."""
