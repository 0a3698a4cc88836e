"""Wall clocks that are set while they are in use."""

from datetime import datetime, timedelta

from tasktrail.events.clock import SystemClock


class SetBack(SystemClock):
    """A wall clock that is set back an hour at each reading."""

    def __init__(self) -> None:
        self._back = timedelta()

    def now(self) -> datetime:
        """Return an hour less than before."""
        self._back += timedelta(hours=1)
        return super().now() - self._back
