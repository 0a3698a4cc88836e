"""The check of log and views that runs or ran last: one at a time, whoever asks for it."""

from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from ..events.errors import NotReady
from ..events.log.event_log import ReportProgress
from ..projections import Verification


class LastCheck(msgspec.Struct, frozen=True):
    """What a check found."""

    result: Verification
    at: datetime
    by: str


class Check:
    """Belongs to the event loop; `tell` is called from a thread."""

    def __init__(self) -> None:
        self.runs = False
        self.reached = (0, 0)
        """A position, and the last one: how far it is."""
        self.last: LastCheck | None = None
        """Since the service started."""

    async def run(
        self, ask: Callable[[ReportProgress], Awaitable[bytes]], now: Callable[[], datetime], by: str
    ) -> Verification:
        """Check. Raises `NotReady` while another check runs."""
        if self.runs:
            raise NotReady("Another check is running", remedy="Wait until it is done.")
        self.runs, self.reached = True, (0, 0)
        try:
            result = msgspec.json.decode(await ask(self.tell), type=Verification)
        finally:
            self.runs = False
        self.last = LastCheck(result, now(), by)
        return result

    def tell(self, position: int, last: int) -> None:
        """It has come so far."""
        self.reached = (position, last)
