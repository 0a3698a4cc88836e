"""The notices that are due: a fold of task events and delivery records. Pure: no clock, file or network.

After a restart the same fold gives the same notices under the same ids, so a receiver can recognise a repetition.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from ..events import Created, Recorded, Retried, TaskState
from ..events.clock_jumps import Jumps, corrects
from ..events.recorded import EVENT_TAGS
from ..events.state import create, evolve, overlay
from ..events.system_events import (
    Adjusted,
    ClockJumped,
    DeliveryAttempted,
    DeliveryPostponed,
    EndpointEnabled,
    RedeliveryRequested,
    UserErased,
)
from ..events.task import view
from .errors import ViewsGap
from .mail_limit import KeptPace, MailPace
from .notices import Channel, Notice, has_receiver, log_id, notice_id, receivers

if TYPE_CHECKING:
    from ..events import Event, TaskEvent


class KeptNotice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A waiting notice in a snapshot, with its place in the order of sending."""

    notice_id: str
    channel: Channel
    target: str
    at: datetime
    task_id: int
    position: int
    turn: int
    tries: int = 0


class KeptOutbox(msgspec.Struct, frozen=True, kw_only=True):
    """The whole outbox, for a snapshot."""

    position: int
    log_id: str
    turns: int
    disabled: list[str]
    tasks: list[TaskState]
    """Open tasks that notify somebody."""
    notices: list[KeptNotice]
    mail: KeptPace
    jumps: list[ClockJumped] = []


KEPT_STATES = 1000
"""Up to this many pending notices keep their task's state in memory; for others the log is read when they are due."""


class Due(msgspec.Struct, frozen=True, order=True, gc=False):
    """An entry in the order of sending. It is stale if the notice is gone or was rescheduled since."""

    at: datetime
    position: int
    turn: int
    notice_id: str
    channel: Channel
    target: str


class Pending(msgspec.Struct, gc=False):
    """A notice that is neither delivered nor given up."""

    task_id: int
    position: int
    """Position of the record that it reports."""
    target: str
    tries: int = 0
    turn: int = 0
    """The number of its valid entry in the order of sending."""
    origin: tuple[Recorded, TaskState] | None = None
    """The record and the task after it, if there was room to keep them."""


class PendingNotices:
    """The pending notices, by id and in the order of sending."""

    def __init__(self, kept_states: int = KEPT_STATES) -> None:
        self.by_id: dict[str, Pending] = {}
        self._room = kept_states
        """How many more notices may keep their state."""
        self._times: list[Due] = []
        self._turns = 0

    def post(self, notice_id: str, target: str, record: Recorded, state: TaskState) -> Pending:
        """Add a notice, without a place in the order of sending yet."""
        pending = Pending(record.task_id, record.position, target)
        if self._room > 0:
            self._room -= 1
            pending.origin = (record, state)
        self.by_id[notice_id] = pending
        return pending

    def schedule(self, notice_id: str, channel: str, at: datetime) -> None:
        """Set the time of sending; it replaces an earlier one."""
        pending = self.by_id[notice_id]
        self._turns += 1
        pending.turn = self._turns
        due = Due(at, pending.position, pending.turn, notice_id, cast("Channel", channel), pending.target)
        heappush(self._times, due)
        if len(self._times) > 2 * len(self.by_id) + 64:
            self._times = [due for due in self._times if self.counts(due)]
            heapify(self._times)

    def correct_future_times(self, now: datetime) -> None:
        """Correct the times later than `now`, because the clock was far ahead until now: those notices are due."""
        self._times = [replace(due, at=min(due.at, now)) for due in self._times]
        heapify(self._times)

    def forget(self, notice_id: str) -> None:
        """Remove a notice that is delivered or given up."""
        if self.by_id.pop(notice_id).origin is not None:
            self._room += 1

    def take_due(self, now: datetime) -> Iterator[Due]:
        """Take the notices due at `now`, the longest due first. Each comes once, until it is scheduled again."""
        while self._drop_stale() and self._times[0].at <= now:
            yield heappop(self._times)

    def next_due(self) -> datetime | None:
        """When the next notice that was not taken is due, in the past or the future."""
        return self._times[0].at if self._drop_stale() else None

    def counts(self, due: Due) -> bool:
        """Whether the notice still waits for just this delivery."""
        pending = self.by_id.get(due.notice_id)
        return pending is not None and pending.turn == due.turn

    def _drop_stale(self) -> bool:
        """Drop stale entries from the front; returns whether a valid one is left."""
        while self._times and not self.counts(self._times[0]):
            heappop(self._times)
        return bool(self._times)

    def kept(self) -> tuple[int, list[KeptNotice]]:
        """The number of turns so far, and all notices as data, except those that were taken."""
        return self._turns, [self._kept(due) for due in sorted(self._times) if self.counts(due)]

    def _kept(self, due: Due) -> KeptNotice:
        pending = self.by_id[due.notice_id]
        return KeptNotice(
            notice_id=due.notice_id,
            channel=due.channel,
            target=due.target,
            at=due.at,
            task_id=pending.task_id,
            position=due.position,
            turn=due.turn,
            tries=pending.tries,
        )

    def restore(self, turns: int, notices: Iterable[KeptNotice]) -> None:
        """Bring a new object to the state that `kept` has returned."""
        self._turns = turns
        for one in notices:
            self.by_id[one.notice_id] = Pending(one.task_id, one.position, one.target, one.tries, one.turn)
            self._times.append(Due(one.at, one.position, one.turn, one.notice_id, one.channel, one.target))
        heapify(self._times)


__all__ = ["Channel", "Due", "Notice", "Outbox", "Recall"]

Recall: TypeAlias = Callable[[int, int], tuple[TaskState, Recorded] | None]
"""(task id, position) → the task's last record up to that position and the state after it, from the log."""


class Outbox:
    """The fold of notices: apply every record in order, then take what is due. Outcomes come back as records.

    It keeps unfinished tasks that have receivers, and undelivered notices. A task that has ended is forgotten; when it
    is retried by hand, or a notice of it is requested again, `recall` brings it back.
    """

    def __init__(self, recall: Recall, *, kept_states: int = KEPT_STATES) -> None:
        self._recall = recall
        self._tasks: dict[int, TaskState] = {}
        self._pending = PendingNotices(kept_states)
        self._disabled: set[str] = set()
        self.mail = MailPace()
        """The mail that each address has had lately."""
        self._jumps = Jumps()
        self._log_id = ""
        self._position = 0

    @property
    def position(self) -> int:
        """The last record folded in; 0 for none."""
        return self._position

    def __len__(self) -> int:
        """The number of notices that are neither delivered nor given up."""
        return len(self._pending.by_id)

    def apply(self, records: Iterable[Recorded]) -> None:
        """Fold records in; those seen before are skipped. Raises `ViewsGap` when some are missing in between."""
        for record in records:
            if record.position <= self._position:
                continue
            if record.position != self._position + 1:
                raise ViewsGap(f"The outbox stands at {self._position}, the next record is {record.position}")
            if record.position == 1:
                self._log_id = log_id(record)
            self._fold(record)
            self._position = record.position

    def pass_over(self, position: int) -> None:
        """Skip the records up to a position: those that were not applied concern no notice."""
        self._position = max(self._position, position)

    def kept(self) -> KeptOutbox:
        """The whole state, as data. Only for an outbox from which nothing was taken: taken notices are not in it."""
        turns, notices = self._pending.kept()
        return KeptOutbox(
            position=self._position,
            log_id=self._log_id,
            turns=turns,
            disabled=sorted(self._disabled),
            tasks=[self._tasks[task_id] for task_id in sorted(self._tasks)],
            notices=notices,
            mail=self.mail.kept(),
            jumps=self._jumps.kept,
        )

    def restore(self, kept: KeptOutbox) -> None:
        """Bring a new outbox to the state `kept`."""
        self._position, self._log_id = kept.position, kept.log_id
        self._disabled = set(kept.disabled)
        self.mail.restore(kept.mail)
        self._jumps.kept = list(kept.jumps)
        self._tasks = {task.id: task for task in kept.tasks}
        self._pending.restore(kept.turns, kept.notices)

    def take_due(self, now: datetime) -> Iterator[Due]:
        """Take the notices due at `now`, the longest due first. Each comes once, until a record reschedules it."""
        return self._pending.take_due(now)

    def next_due(self) -> datetime | None:
        """When the next notice that was not taken is due, in the past or the future."""
        return self._pending.next_due()

    def counts(self, due: Due) -> bool:
        """Whether the notice still waits for just this delivery."""
        return self._pending.counts(due)

    def task_of(self, due: Due) -> int:
        """The task that a notice is about."""
        return self._pending.by_id[due.notice_id].task_id

    def notice(self, due: Due) -> Notice | None:
        """The whole notice; None if the log no longer has its task."""
        pending = self._pending.by_id[due.notice_id]
        origin = pending.origin or self._recalled(pending)
        return None if origin is None else _notice(due, pending.tries, *origin)

    def _recalled(self, pending: Pending) -> tuple[Recorded, TaskState] | None:
        recalled = self._recall(pending.task_id, pending.position)
        if recalled is None:
            return None
        state, record = recalled
        return record, state

    def _fold(self, record: Recorded) -> None:
        event = record.event
        match event:
            case DeliveryAttempted():
                self._attempted(event, record)
            case DeliveryPostponed():
                self._postponed(event)
            case RedeliveryRequested():
                self._redelivery_requested(event, record)
            case EndpointEnabled():
                self._disabled.discard(event.target)
            case ClockJumped():
                self._jumps.apply(event)
                if corrects(event):
                    self._pending.correct_future_times(event.shows)
                    self.mail.correct_future_times(event.shows)
            case Adjusted():
                if event.task_id in self._tasks:
                    self._tasks[event.task_id] = overlay(self._tasks[event.task_id], event, record.recorded_at)
            case UserErased():
                self._erase(frozenset(event.tasks))
            case _ if record.task_id:
                self._fold_task_event(record, event)

    def _fold_task_event(self, record: Recorded, event: "Event") -> None:
        state = self._evolved(record, event)
        if state is None:
            return
        if state.finished:
            self._tasks.pop(state.id, None)
        else:
            self._tasks[state.id] = state
        for channel, target in receivers(state.spec, event):
            if target not in self._disabled:
                self._post(notice_id(self._log_id, record, channel, target), channel, target, record, state)

    def _evolved(self, record: Recorded, event: "Event") -> TaskState | None:
        """The task after the event; None if it has no receiver."""
        if isinstance(event, Created):
            return create(record.task_id, event, record.recorded_at) if has_receiver(event) else None
        state = self._tasks.get(record.task_id)
        if state is None and isinstance(event, Retried):  # a retry by hand: only then can the task be forgotten
            recalled = self._recall(record.task_id, record.position - 1) if event.cause == "manual" else None
            state = recalled[0] if recalled and has_receiver(recalled[0].spec) else None
        return evolve(state, cast("TaskEvent", event), record.recorded_at) if state is not None else None

    def _post(self, name: str, channel: Channel, target: str, record: Recorded, state: TaskState) -> None:
        self._pending.post(name, target, record, state)
        self._pending.schedule(name, channel, self._jumps.reached(record.recorded_at))

    def _forget(self, name: str, target: str) -> None:
        self._pending.forget(name)
        self.mail.release(target, name)

    def _attempted(self, event: DeliveryAttempted, record: Recorded) -> None:
        if event.disabled:
            self._disable(event.target)
        pending = self._pending.by_id.get(event.notice_id)
        if pending is None:
            return
        if event.ok and event.channel == "email":
            self.mail.count_delivered(event.target, self._jumps.reached(record.recorded_at))
        if event.ok or event.final:
            self._forget(event.notice_id, pending.target)
            return
        self.mail.release(event.target, event.notice_id)
        pending.tries += 1
        self._pending.schedule(event.notice_id, event.channel, event.next_at or self._jumps.reached(record.recorded_at))

    def _postponed(self, event: DeliveryPostponed) -> None:
        if event.notice_id in self._pending.by_id:
            self.mail.reserve(event.target, event.notice_id, event.until)
            self._pending.schedule(event.notice_id, event.channel, event.until)

    def _disable(self, target: str) -> None:
        """Drop the notices to a receiver that is gone."""
        self._disabled.add(target)
        for name in [name for name, pending in self._pending.by_id.items() if pending.target == target]:
            self._forget(name, target)

    def _erase(self, tasks: frozenset[int]) -> None:
        """Drop the notices of erased tasks: their addresses are erased, too."""
        for name in [name for name, pending in self._pending.by_id.items() if pending.task_id in tasks]:
            self._forget(name, self._pending.by_id[name].target)

    def _redelivery_requested(self, event: RedeliveryRequested, record: Recorded) -> None:
        pending = self._pending.by_id.setdefault(event.notice_id, Pending(event.task_id, event.told, event.target))
        pending.tries = 0
        self._pending.schedule(event.notice_id, event.channel, self._jumps.reached(record.recorded_at))


def _notice(due: Due, tries: int, record: Recorded, state: TaskState) -> Notice:
    return Notice(
        notice_id=due.notice_id,
        channel=due.channel,
        target=due.target,
        event=EVENT_TAGS[type(record.event)],
        position=record.position,
        recorded_at=record.recorded_at,
        task_id=record.task_id,
        life=state.life,
        task=msgspec.to_builtins(view(state, record.recorded_at), builtin_types=(datetime,)),
        tries=tries,
        traceparent=state.spec.traceparent,
    )
