"""A look at a running service: the values that can be read without waiting."""

import msgspec

from ..actors.core.load import Load


class Readings(msgspec.Struct, frozen=True, kw_only=True):
    """One look at the service. A value that is not available at once is None; the others are still filled in."""

    tasks: dict[tuple[str, str], int] | None
    """Type and status → tasks; None while the views cannot be read."""
    load: Load | None
    """None while the Scheduler does not answer."""
    position: int
    """Position of the log's last record."""
    log_bytes: int | None
    """Size of the log's files; None while unknown."""
    views_lag: int
    """Records that the views do not have yet."""
    notices_lag: int | None
    """Records that the Notifier has not seen yet; None where there is no Notifier."""
    notices_waiting: int | None
    ready: bool
    degraded: int
    """Number of faults despite which commands are accepted."""
    spans_sent: int | None = None
    """Spans that have arrived since the start; None without tracing."""
    log_silent: float | None = None
    """Seconds since the log's database last answered; None where this is not measured."""
    spans_dropped: int | None = None
