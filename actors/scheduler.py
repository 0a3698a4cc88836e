"""The Scheduler: a thin shell round the pure step. Append first, tell second.

Messages are stepped one by one and their facts staged. When the inbox runs dry, or the batch is full, they are
appended in one commit; only then are commands answered, the executor ordered and consumers told. If the commit fails,
everybody waiting is told that the outcome is unknown, memory is thrown away and folded from the log again, and the
executor's reports, which have no other home, are stepped once more.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from ..events import Accepted, Answer, Command, CreateGraph, Event, EventLog, Fact, Recorded, TasktrailError
from ..events.clock import Clock
from ..events.errors import CommandIdReused, Fenced, LogCorrupt, LogGone, LogTooNew, OutcomeUnknown
from ..events.graphs import ids_by_name
from ..events.state import fold
from ..events.system_events import ClockJumped
from ..handlers.process.frames import AttemptsHeld
from .alarm import Alarm
from .base import Actor, log
from .core.messages import (
    Answered,
    Boot,
    Commanded,
    Jumped,
    LimitsChanged,
    Message,
    Reconcile,
    Sampled,
    Staged,
    Submit,
    Tick,
)
from .core.running import Running
from .core.state import SchedulerState
from .core.step import needed, resume, step
from .jump_watch import JumpWatch
from .messages import Committed, Orders, Query, Ticket
from .snapshots.scheduler import folded

MAX_BATCH = 2000
"""Facts after which a commit is made although more messages wait."""

RETRY_COMMIT_AFTER = 1.0
"""Seconds until what could not be recorded is tried again. Not by the wall clock: it may be set back."""


class Scheduler(Actor):
    """Decides, appends, tells. The only writer of the log.

    `open_log` runs in the actor's own thread, to which the log's connection then belongs. `alarm` tells it when the
    next moment has come; a simulator brings one without a thread. `snapshot` is the file that spares it a part of the
    log, if it can be used.
    """

    def __init__(
        self,
        *,
        open_log: Callable[[], EventLog],
        new_state: Callable[[], SchedulerState],
        boot: Callable[[EventLog], Boot],
        clock: Clock,
        order: Callable[[Orders], None],
        publish: Callable[[Committed], None],
        on_fatal: Callable[[BaseException], None],
        alarm: type[Alarm] = Alarm,
        snapshot: Path | None = None,
    ) -> None:
        super().__init__()
        self._open_log = open_log
        self._new_state = new_state
        self._boot = boot
        self._clock = clock
        self._order = order
        self._publish = publish
        self._on_fatal = on_fatal
        self._snapshot = snapshot
        self._new_alarm = alarm
        self._trouble: OutcomeUnknown | None = None
        """Why the log cannot be written just now. Meanwhile commands are refused, reports kept."""
        self._retry_at: float | None = None
        self._begin_batch_of({})

    def on_start(self) -> None:
        """Open the log, fold it, close what a crash left open. Runs before the first message."""
        self._alarm = self._new_alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "scheduler-alarm")
        self._jump_watch = JumpWatch(self._clock)
        try:
            self._log = self._open_log()
            self._state = folded(self._log, self._new_state, self._snapshot)
            self._begin_batch_of(self._state.running)
            self._stage(self._boot(self._log))
            _warn_of_jumps(fact.event for fact in self._facts)
            self._commit()
        except BaseException as error:
            self._on_fatal(error)
            raise

    def on_stop(self) -> None:
        """Record what is staged, and let go of the log last."""
        self._commit()
        self._alarm.close()
        self._log.close()

    def settle(self) -> None:
        """A ping is answered when everything told before is durable."""
        self._commit()

    def receive(self, message: Any) -> Any:
        """Step a message, or each of a list; commit when nothing more waits."""
        if isinstance(message, Query):
            self._commit()
            return message.function(self._state)
        for one in message if isinstance(message, list) else (message,):
            try:
                self._take(one)
            except BaseException as error:  # noqa: BLE001 - a fault of ours in one must not cost the others of its list
                self._drop(one, error)
        if self.actor_inbox.empty() or len(self._facts) >= MAX_BATCH:
            self._commit()
        return None

    def _drop(self, message: Message, error: BaseException) -> None:
        """A step broke half-way: memory may be wrong, so it is made anew. The message at fault is left out."""
        log.exception("a message could not be stepped", message=type(message).__name__)
        if isinstance(message, Submit):
            message.token.reply(OutcomeUnknown(f"The command could not be handled: {error}"))
        self._reports[:] = [report for report in self._reports if report is not message]
        self._start_over(OutcomeUnknown("The Scheduler had to start again from the log"))

    def on_fault(self, message: Any, error: BaseException) -> None:  # noqa: ARG002 - the same cure whatever it was
        """Something broke beside the steps: start again from the log."""
        self._start_over(OutcomeUnknown("The Scheduler had to start again from the log"))

    # --- stepping -----------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        if isinstance(message, Submit):
            if self._trouble is not None:
                message.token.reply(self._trouble)
                return
            if self._answer_repetition(message):
                return
        elif not isinstance(message, Tick | Sampled | LimitsChanged | Reconcile | AttemptsHeld):
            self._reports.append(message)
        self._stage(message)

    def _stage(self, message: Message) -> None:
        while missing := list(needed(self._state, message)):
            for task_id in missing:
                self._load(task_id)
        now, jump = self._time()
        if jump is not None:
            self._keep(step(self._state, Jumped(jump), now))
        self._keep(step(self._state, message, now))

    def _time(self) -> tuple[datetime, ClockJumped | None]:
        """What the wall clock shows; and its jump, if it was set, which `_running_before` then knows of."""
        now, jump = self._jump_watch.look()
        if jump is not None:
            self._jumps.append(jump)
            _warn_of_jumps((jump,))
            for entry in self._running_before.values():
                entry.set_clock(jump.shows - jump.shown)
        return now, jump

    def _keep(self, staged: Staged) -> None:
        self._facts += staged.facts
        for effect in staged.effects:
            if isinstance(effect, Commanded):
                self._orders.append(effect.order)
            else:
                self._note_answer(effect)

    def _load(self, task_id: int) -> None:
        records = self._log.read_task(task_id, adjusted=True)
        task = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # task events
        if task is None:
            raise LogCorrupt(f"Task {task_id} should exist, but the log has no record of it")
        self._state.load(task)

    def _note_answer(self, effect: Answered) -> None:
        ticket: Ticket = effect.token
        self._answered.append((ticket, effect.answer))
        if isinstance(effect.answer, Accepted) and ticket.command_id:
            accepted = effect.answer
            self._answers[ticket.command_id] = Answer(
                ticket.command_id, ticket.digest, accepted.task_id, accepted.position
            )

    def _answer_repetition(self, submit: Submit) -> bool:
        """A command id that was accepted before gets its answer again, or a refusal if it means another command."""
        ticket = submit.token
        if not isinstance(ticket, Ticket) or ticket.fresh:
            return False
        known = self._answers.get(ticket.command_id) or self._log.answer(ticket.command_id)
        if known is None:
            return False
        if known.digest == ticket.digest:
            self._answered.append((ticket, _known_answer(known, submit.command)))
        else:
            error = CommandIdReused(f"Command id {ticket.command_id} was used for task {known.task_id}")
            self._answered.append((ticket, error))
        return True

    # --- committing ---------------------------------------------------------------------------------------------

    def _begin_batch_of(self, running: dict[int, Running]) -> None:
        self._facts: list[Fact] = []
        self._orders: list[Any] = []
        self._answered: list[tuple[Ticket, Accepted | TasktrailError]] = []
        self._answers: dict[str, Answer] = {}
        self._reports: list[Message] = []
        self._jumps: list[ClockJumped] = []
        """Those that may not be recorded yet."""
        self._running_before = {task_id: msgspec.structs.replace(entry) for task_id, entry in running.items()}

    def _commit(self) -> None:
        if self._is_too_early():
            return
        records: list[Recorded] = []
        if self._facts or self._answers or self._orders:  # orders alone, too: a service that was replaced gives none
            expected = self._state.position - len(self._facts)
            try:
                records = self._log.append(self._facts, list(self._answers.values()), expected=expected)
            except BaseException as error:  # noqa: BLE001 - sorted out by kind
                self._append_failed(error)
                return
        self._tell(records)

    def _is_too_early(self) -> bool:
        """After a failed commit the next try waits a little. The alarm goes by the wall clock, so it is set anew."""
        left = 0.0 if self._retry_at is None else self._retry_at - self._clock.monotonic()
        if left > 0:
            self._alarm.set(self._clock.now() + timedelta(seconds=left))
        return left > 0

    def _tell(self, records: list[Recorded]) -> None:
        """Everything staged is durable now: publish, order, answer, and forget what is finished.

        Answers come last: whoever has one may ask for its position at once.
        """
        self._trouble = self._retry_at = None
        answered, orders = self._answered, self._orders
        self._state.forget_finished({record.task_id for record in records})
        self._begin_batch_of(self._state.running)
        if records:
            self._publish(Committed(records))
        if orders:
            self._order(Orders(orders))
        for ticket, answer in answered:
            ticket.reply(answer)
        self._alarm.set(self._state.next_wake())

    def _append_failed(self, error: BaseException) -> None:
        if isinstance(error, Fenced | LogCorrupt | LogGone | LogTooNew):
            self._answer_all(error)
            self._on_fatal(error)
            return
        log.error("the commit failed", error=str(error), waiting=len(self._answered))
        unknown = error if isinstance(error, OutcomeUnknown) else OutcomeUnknown(f"The commit failed: {error}")
        self._start_over(unknown)

    def _answer_all(self, error: TasktrailError) -> None:
        """Refusals, too: they may rest on what was staged and is not so."""
        for ticket, _ in self._answered:
            ticket.reply(error)

    def _start_over(self, error: OutcomeUnknown) -> None:
        """Fold the log again, keep the slots as they really are, and step the executor's reports once more."""
        self._answer_all(error)
        now, _ = self._time()
        reports, running, jumps = self._reports, self._running_before, self._jumps
        old = self._state
        try:
            self._state = folded(self._log, self._new_state, self._snapshot, also=running)
            self._state.slots, self._state.sample = old.slots, old.sample
            self._state.draining = old.draining
            self._state.look.number = old.look.number  # an answer to an older question must not pass for a newer one
            self._state.limit_book.configure(old.limit_book.configured)
            self._begin_batch_of(running)
            self._jumps = jumps
            self._keep(resume(self._state, running, now, jumps))
            for report in reports:
                self._take(report)
            self._trouble = error
            self._retry_at = self._clock.monotonic() + RETRY_COMMIT_AFTER
            self._alarm.set(self._clock.now() + timedelta(seconds=RETRY_COMMIT_AFTER))
        except BaseException as fatal:  # noqa: BLE001 - the log itself cannot be read: nothing is left to stand on
            self._on_fatal(fatal)


def _warn_of_jumps(events: Iterable[Event]) -> None:
    for event in events:
        if isinstance(event, ClockJumped):
            log.warning("the wall clock was set", shown=event.shown.isoformat(), shows=event.shows.isoformat())


def _known_answer(known: Answer, command: Command) -> Accepted:
    """The answer that a command got the first time. The ids of a graph follow from its first one."""
    ids = ids_by_name(command, known.task_id) if isinstance(command, CreateGraph) else {}
    return Accepted(known.task_id, known.position, known.command_id, ids)
