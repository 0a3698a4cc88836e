"""The line between a running attempt and whoever started it."""

from collections.abc import Callable
from typing import Protocol

from ...events.reports import AttemptCheckpointed, AttemptProbed, AttemptProgressed, PublishWanted


class Line(Protocol):
    """What an attempt may say and hear while it runs. Safe to use from the handler's own threads."""

    def send(self, report: AttemptProgressed | AttemptCheckpointed | AttemptProbed | PublishWanted) -> None:
        """Tell something; may wait until the other side has read what came before."""

    def stop_wanted(self) -> bool:
        """Whether `Stop` has come for the current attempt."""

    def saved(self) -> bool:
        """Wait for `Saved`. False when the attempt is to end and the answer did not come in good time."""

    def granted(self) -> bool:
        """Wait for `Grant`. False when `Stop` comes instead."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call it from another thread in so many seconds. One at a time is kept, the newest."""
