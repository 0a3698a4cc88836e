"""The check of log and views: only one runs at a time, whoever asks for it. The last result is kept."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from ..events.errors import NotReady
from ..events.log.event_log import ReportProgress
from ..projections import Verification


class LastCheck(msgspec.Struct, frozen=True):
    """The result of a check, and when and for whom it was made."""

    result: Verification
    at: datetime
    by: str


class Check:
    """Runs checks. Belongs to the event loop; `note_progress` is called from a thread."""

    def __init__(self) -> None:
        self.runs = False
        self.reached = (0, 0)
        """The progress of the check: a position, and the log's last one."""
        self.last: LastCheck | None = None
        """The last check since the service started."""

    async def run(
        self, ask: Callable[[ReportProgress], Awaitable[bytes]], now: Callable[[], datetime], by: str
    ) -> Verification:
        """Check. Raises `NotReady` while another check runs."""
        if self.runs:
            raise NotReady("Another check is running", remedy="Wait until it is done.")
        self.runs, self.reached = True, (0, 0)
        try:
            result = msgspec.json.decode(await ask(self.note_progress), type=Verification)
        finally:
            self.runs = False
        self.last = LastCheck(result, now(), by)
        return result

    def note_progress(self, position: int, last: int) -> None:
        """Note the progress."""
        self.reached = (position, last)
