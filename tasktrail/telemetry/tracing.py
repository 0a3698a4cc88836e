"""Makes spans of committed records and sends them to an OpenTelemetry receiver. It never slows or stops the service.

The Scheduler only hands over what it has committed. A separate thread makes the spans and sends them. While the
receiver is slow or away, a bounded number of commits waits; further ones are dropped and counted.
"""

import secrets
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from msgspec.structs import replace

from ..actors.feed import Feed
from ..actors.logger import get_logger
from ..actors.messages import Committed, Orders
from ..events import Cancelled, Completed, Failed, Retried, Started
from ..events.clock import Clock
from ..events.reports import Run
from ..events.system_events import DeliveryAttempted
from ..projections.notices import Notice
from .spans import Delivery, Seen, Spans, TraceSpan, attempt_id, life_id, trace_of, traceparent

_TRACED = (Started, Completed, Failed, Cancelled, Retried, DeliveryAttempted)
_GATHER = timedelta(seconds=1)
_WAITING = 1000
"""Commits that may wait to be sent."""
_AT_ONCE = 500
_LAST_WITHIN = 2.0
"""Seconds for sending the last spans when the service stops."""

logger = get_logger("tasktrail.traces")


class Receiver(Protocol):
    """Sends spans to the place where they are kept."""

    def send(self, spans: Sequence[TraceSpan]) -> bool:
        """Send the spans and return whether they have arrived. Never raises."""

    def close(self) -> None:
        """Abandon what is being sent."""


class Tracing:
    """Makes spans of committed records and sends them.

    Args:
        receiver: where they go.
        log_id: returns the unique id of this log; called once the log is open.
        clock: for when deliveries begin, and for gathering.
    """

    def __init__(self, receiver: Receiver, log_id: Callable[[], str], clock: Clock) -> None:
        self._receiver = receiver
        self._ask_log_id = log_id
        self._log_id = ""
        self._clock = clock
        self._spans: Spans | None = None
        self._sending = threading.Lock()
        self._deliveries: dict[str, Delivery] = {}
        """By notice; at most one for each sending thread."""
        self.sent = 0
        """Spans that have arrived."""
        self.dropped = 0
        """Spans that have not arrived, and records that were left out."""
        self._well = True
        self._feed: Feed[Seen] = Feed(self.send, clock, "traces", _GATHER, most=_WAITING)

    def put(self, message: Committed) -> None:
        """Take records that are durable now."""
        seen = [
            Seen(
                record,
                message.tasks.get(record.task_id),
                message.queued_at.get(record.task_id),
                self._deliveries.pop(record.event.notice_id, None)
                if isinstance(record.event, DeliveryAttempted)
                else None,
            )
            for record in message.records
            if isinstance(record.event, _TRACED)
        ]
        if seen:
            self._feed.put(seen)

    def marked(self, orders: Orders) -> Orders:
        """Return the orders with the trace context of their attempts, so that a handler's calls join the span."""
        return Orders([self._marked(order) if isinstance(order, Run) else order for order in orders.orders])

    def _marked(self, run: Run) -> Run:
        trace = trace_of(self._log, run.task_id, run.traceparent)
        return replace(run, traceparent=traceparent(trace, attempt_id(self._log, run.task_id, run.attempt)))

    def delivering(self, notice: Notice) -> Notice:
        """Note that a delivery begins; return the notice with the trace context for its receiver."""
        trace = trace_of(self._log, notice.task_id, notice.traceparent)
        delivery = Delivery(
            trace,
            secrets.token_hex(8),
            life_id(self._log, notice.task_id, notice.life),
            str(notice.task["type"]),
            notice.event,
            self._clock.now(),
        )
        self._deliveries[notice.notice_id] = delivery
        return replace(notice, traceparent=traceparent(trace, delivery.span_id))

    @property
    def _log(self) -> str:
        if not self._log_id:
            self._log_id = self._ask_log_id()
        return self._log_id

    def send(self) -> None:
        """Send what has gathered. Called by the feed in its own thread, and by `close`."""
        with self._sending:
            seen = self._feed.take()
            self.dropped += self._feed.dropped()
            if not seen:
                return
            if self._spans is None:
                self._spans = Spans(self._log)
            spans = [span for one in seen for span in self._spans.of(one)]
            for start in range(0, len(spans), _AT_ONCE):
                self._send(spans[start : start + _AT_ONCE])

    def _send(self, spans: Sequence[TraceSpan]) -> None:
        arrived = self._receiver.send(spans)
        if arrived:
            self.sent += len(spans)
        else:
            self.dropped += len(spans)
        if arrived != self._well:
            self._well = arrived
            if arrived:
                logger.info("spans arrive again", dropped=self.dropped)
            else:
                logger.warning("spans do not arrive and are dropped; the work goes on", dropped=self.dropped)

    def close(self) -> None:
        """Send the last spans within `_LAST_WITHIN`, and stop."""
        last = threading.Thread(target=self.send, name="traces-last", daemon=True)
        last.start()
        last.join(_LAST_WITHIN)
        self._receiver.close()
        self._feed.close()
