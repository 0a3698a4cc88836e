"""Which notices are due: a fold of task events and delivery records. Pure: no clock, file or network.

After a restart the same fold gives the same notices under the same ids, so a receiver can tell a repetition.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

import msgspec

from ..events import Cancelled, Completed, Created, Failed, Recorded, Started, TaskState
from ..events.recorded import EVENT_TAGS
from ..events.state import create, evolve, overlay
from ..events.system_events import Adjusted, DeliveryAttempted
from ..events.task import view
from ..events.task_events import is_terminal
from .errors import ViewsGap

if TYPE_CHECKING:
    from ..events import Event, TaskEvent

Channel: TypeAlias = Literal["webhook", "callback", "email"]
Recall: TypeAlias = Callable[[int, int], TaskState | None]
"""(task id, position) → the task's state before that position, from the log."""

Skip: TypeAlias = Callable[[str, Channel, str], bool]
"""(notice id, channel, target) → not this one now."""

WEBHOOK_EVENTS: tuple[type[Any], ...] = (Started, Completed, Failed, Cancelled)
"""What a webhook hears of; of failures only the final one."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message to one receiver, with everything its sender needs."""

    notice_id: str
    """The same over all tries and restarts, and unlike that of any other log's notices."""
    channel: Channel
    target: str
    """An address of the web or of mail, as the task was given it."""
    event: str
    position: int
    recorded_at: datetime
    task_id: int
    life: int
    task: dict[str, Any]
    """The fields of `Task` right after the event."""
    tries: int
    """How many deliveries have failed so far."""


class _Pending(msgspec.Struct, gc=False):
    notice_id: str
    channel: Channel
    record: Recorded
    state: TaskState
    tries: int = 0


_Entry: TypeAlias = tuple[datetime, int, int, str]
# Due at, position, tries, notice id. Out of date when the notice is gone or has been tried again since.


class Outbox:
    """Feed it every record in order; ask what is due; what became of a delivery comes back as a record.

    In memory are unfinished tasks that notify somebody, and notices not delivered. A task that has ended is forgotten;
    when it is retried by hand, `recall` brings it back.
    """

    def __init__(self, recall: Recall, webhook_events: tuple[type[Any], ...] = WEBHOOK_EVENTS) -> None:
        self._recall = recall
        self._webhook_events = webhook_events
        self._tasks: dict[int, TaskState] = {}
        self._pending: dict[str, _Pending] = {}
        self._times: list[_Entry] = []
        self._log_id = ""
        self._position = 0

    @property
    def position(self) -> int:
        """The last record folded in; 0 for none."""
        return self._position

    def __len__(self) -> int:
        """How many notices are neither delivered nor given up."""
        return len(self._pending)

    def apply(self, records: Iterable[Recorded]) -> None:
        """Fold records in; those seen before are skipped. Raises `ViewsGap` when some are missing in between."""
        for record in records:
            if record.position <= self._position:
                continue
            if record.position != self._position + 1:
                raise ViewsGap(f"The outbox stands at {self._position}, the next record is {record.position}")
            if record.position == 1:
                self._log_id = record.hash.hex()[:12]
            self._fold(record)
            self._position = record.position

    def due(self, now: datetime, limit: int = 100, *, skip: Skip | None = None) -> list[Notice]:
        """The notices to send at `now`, the longest due first. Each stays due until a record says what became of it.

        Those that `skip` says yes to are stepped over and do not count.
        """
        found: list[_Entry] = []
        seen: list[_Entry] = []
        while len(found) < limit and self._drop_stale() and self._times[0][0] <= now:
            entry = heappop(self._times)
            seen.append(entry)
            pending = self._pending[entry[3]]
            if skip is None or not skip(pending.notice_id, pending.channel, _target(pending)):
                found.append(entry)
        for entry in seen:
            heappush(self._times, entry)
        return [_notice(self._pending[entry[3]]) for entry in found]

    def next_due(self) -> datetime | None:
        """When the next notice is due, be it past or future; none when nothing is left to send."""
        return self._times[0][0] if self._drop_stale() else None

    def _fold(self, record: Recorded) -> None:
        event = record.event
        if isinstance(event, DeliveryAttempted):
            self._attempted(event, record)
        elif isinstance(event, Adjusted):
            if event.task_id in self._tasks:
                self._tasks[event.task_id] = overlay(self._tasks[event.task_id], event, record.recorded_at)
        elif record.task_id:
            state = self._evolved(record, event)
            if state is not None:
                self._keep(state)
                for channel in self._channels(state, event):
                    self._post(channel, record, state)

    def _evolved(self, record: Recorded, event: "Event") -> TaskState | None:
        """The task after the event; none when it notifies nobody."""
        if isinstance(event, Created):
            wanted = event.notify_webhook or event.callback_url or event.notify_email
            return create(record.task_id, event, record.recorded_at) if wanted else None
        state = self._tasks.get(record.task_id)
        if state is None and record.life > 1:
            state = self._recall(record.task_id, record.position)
        return evolve(state, cast("TaskEvent", event), record.recorded_at) if state is not None else None

    def _keep(self, state: TaskState) -> None:
        if state.finished:
            self._tasks.pop(state.id, None)
        else:
            self._tasks[state.id] = state

    def _channels(self, state: TaskState, event: "Event") -> Iterator[Channel]:
        chosen = isinstance(event, self._webhook_events) and not (isinstance(event, Failed) and not event.final)
        if state.spec.notify_webhook and chosen:
            yield "webhook"
        if is_terminal(event):
            if state.spec.callback_url:
                yield "callback"
            if state.spec.notify_email:
                yield "email"

    def _post(self, channel: Channel, record: Recorded, state: TaskState) -> None:
        notice_id = f"{self._log_id}-{record.task_id}-{state.life}-{record.version}-{channel}"
        self._pending[notice_id] = _Pending(notice_id, channel, record, state)
        heappush(self._times, (record.recorded_at, record.position, 0, notice_id))

    def _attempted(self, event: DeliveryAttempted, record: Recorded) -> None:
        pending = self._pending.get(event.notice_id)
        if pending is None:
            return
        if event.ok or event.final:
            del self._pending[event.notice_id]
            return
        pending.tries += 1
        due_at = event.next_at or record.recorded_at
        heappush(self._times, (due_at, pending.record.position, pending.tries, event.notice_id))

    def _drop_stale(self) -> bool:
        """Let the first entry be one that counts; whether there is one."""
        while self._times:
            _due_at, _position, tries, notice_id = self._times[0]
            pending = self._pending.get(notice_id)
            if pending is not None and pending.tries == tries:
                return True
            heappop(self._times)
        return False


def _target(pending: _Pending) -> str:
    spec = pending.state.spec
    match pending.channel:
        case "webhook":
            return spec.notify_webhook
        case "callback":
            return spec.callback_url
        case "email":
            return spec.notify_email


def _notice(pending: _Pending) -> Notice:
    record = pending.record
    return Notice(
        notice_id=pending.notice_id,
        channel=pending.channel,
        target=_target(pending),
        event=EVENT_TAGS[type(record.event)],
        position=record.position,
        recorded_at=record.recorded_at,
        task_id=record.task_id,
        life=pending.state.life,
        task=msgspec.to_builtins(view(pending.state, record.recorded_at), builtin_types=(datetime,)),
        tries=pending.tries,
    )
