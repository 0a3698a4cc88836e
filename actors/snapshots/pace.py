"""When the next snapshot is due."""

_AFTER_FAILURE = 4


class Pace:
    """Counts records since the last snapshot.

    Asked by the Scheduler's thread at each commit, set by the Snapshotter; a position too early or too late does no
    harm. A snapshot of many tasks takes long to write, so it also waits for half as many records as it has tasks:
    then its price for each record is the same, however many wait.

    Args:
        every: records between two snapshots at least; 0: never one.
    """

    def __init__(self, every: int) -> None:
        self._every = every
        self._due: int | None = None

    def is_due(self, position: int) -> bool:
        """Whether to take one now. Once it is, not again before `taken` or `failed`."""
        if self._due is None or position < self._due:
            return False
        self._due = None
        return True

    def taken(self, position: int, tasks: int) -> None:
        """There is one as of `position`, of so many tasks."""
        if self._every:
            self._due = position + max(self._every, tasks // 2)

    def failed(self, position: int) -> None:
        """None could be taken: it is tried again, but not soon."""
        if self._every:
            self._due = position + _AFTER_FAILURE * self._every
