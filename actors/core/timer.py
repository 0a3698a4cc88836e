"""A moment at which the Scheduler looks at a task again."""

from datetime import datetime

import msgspec


class Timer(msgspec.Struct, frozen=True, order=True):
    """Look at a task again at `at`. `attempt` 0: it may be due; otherwise that attempt may have run too long."""

    at: datetime
    task_id: int
    attempt: int = 0
