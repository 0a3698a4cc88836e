"""What a decision may need beyond the state of the task. Everything comes in, so a decision can be made again."""

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec

from .estimates import Correction
from .retry import RetryRule
from .task_events import Estimated


class DecisionContext(msgspec.Struct, frozen=True, kw_only=True):
    """What is true around the task that is decided about."""

    now: datetime
    last_task_id: int = 0
    max_crashes: int = 3
    retry_rules: tuple[RetryRule, ...] = ()
    """The user's own; they come before the built-in table."""
    ended_dependencies: tuple[int, ...] = ()
    """Of a task to be retried: what it depends on, has ended without success and would end it at once again."""
    outputs: Mapping[str, int] = {}
    """Output of each unfinished task → the first of those that write it. Not copied: to be looked into at once."""
    open_keys: Mapping[str, int] = {}
    """`unique_key_of` each open task that has one → the task. Not copied: to be looked into at once."""
    output_real: str = ""
    """Of a new task: its output with links resolved, where that is another path."""
    can_resume: bool = False
    """Whether the task type's handler can resume."""
    estimate: Estimated = Estimated()
    """Of a new task: what its type itself estimates."""
    correction: Correction | None = None
    """What the history of the type makes of that; none when it is not to be asked, as for the task of a schedule."""
    by_name: Mapping[str, "DecisionContext"] = {}
    """Of a graph: what was found out about each of its tasks."""
    draining: bool = False
    """Of an attempt that has ended: whether the service is stopping, and had asked it to stop."""
    probed: Estimated | None = None
    """Of an attempt that has ended: the estimate that its look into the input led to."""
    never_fits: str = ""
    """Why that estimate is more than there could ever be; empty when it is not."""
    temp_peak: int = 0
    """Of an attempt that has ended: the most temp space that samples saw it use, in bytes."""


class Belongings(NamedTuple):
    """What a log holds of a user."""

    keys: tuple[str, ...] = ()
    """The names of the keys by which it can be read."""
    tasks: tuple[int, ...] = ()
    """The tasks that these keys are for."""
    plain: int = 0
    """How many tasks of the user were recorded before personal data was encrypted."""
    position: int = 0
    """Up to here the log was looked through; 0: not at all."""


NOTHING_KNOWN = Belongings()
"""The log is still to be looked through."""
