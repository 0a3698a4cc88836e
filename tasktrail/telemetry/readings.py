"""What a service looks like at this moment, as far as it can be said at once."""

import msgspec

from ..actors.core.load import Load


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the service. What does not answer at once is None, and the rest is said all the same."""

    tasks: dict[tuple[str, str], int] | None
    """Type and status → tasks; None while the views cannot be read."""
    load: Load | None
    """None while the Scheduler does not answer."""
    position: int
    """Where the log ends."""
    log_bytes: int | None
    """Of the log's files; None while that is not known."""
    views_lag: int
    """Records that the views do not have yet."""
    notices_lag: int | None
    """Records that the Notifier does not know yet; None where there is none."""
    notices_waiting: int | None
    ready: bool
    degraded: int
    """How many things are out of order although commands are accepted."""
    spans_sent: int | None = None
    """Spans that have arrived since the start; None where none are made."""
    log_silent: float | None = None
    """Seconds since the database of the log answered last; None where that is not looked at."""
    spans_dropped: int | None = None
