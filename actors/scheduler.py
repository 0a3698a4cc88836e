"""The Scheduler: a thin shell around the step of the core. It appends to the log first and informs others afterwards.

Messages are stepped one by one and their facts are staged. When the inbox is empty, or the batch is full, the facts are
appended in one commit. Only then does it answer commands, order the executor and publish the records.

If the log cannot be written (no room, a broken disk, a foreign lock), all waiting callers get the answer that the
outcome is unknown. The batch stays staged as a whole and is tried again until it is in the log. Meanwhile new commands
are refused. The executor's reports exist nowhere else, so they are kept and stepped afterwards. If a step fails, or the
log differs from memory, memory is discarded and folded from the log again.
"""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ..events import (
    Accepted,
    Answer,
    Command,
    CreateGraph,
    Event,
    EventLog,
    Fact,
    Recorded,
    Started,
    TaskState,
    TasktrailError,
)
from ..events.clock import Clock
from ..events.commands import EraseUser, TaskFields
from ..events.creation import ids_by_name
from ..events.errors import (
    CommandIdReused,
    Fenced,
    LogCorrupt,
    LogGone,
    LogNotWritable,
    LogTooNew,
    NotReady,
    OutcomeUnknown,
    TaskForgotten,
    UnknownTask,
    UnusableOrder,
)
from ..events.log.event_log import already_appended
from ..events.log.log_reader import LogReader
from ..events.reports import AttemptBeat, AttemptProbed, AttemptProgressed, AttemptsHeld, CapacityChanged
from ..events.system_events import ClockJumped, Deduplicated
from ..events.task_events import is_terminal
from ..events.values import MAX_INTEGER
from .actor import Actor
from .alarm import Alarm
from .commit_delay import CommitDelay
from .core.erasure import refuse_unreadable
from .core.messages import (
    Answered,
    Archive,
    Boot,
    Close,
    Commanded,
    Delivered,
    Drain,
    Forget,
    Jumped,
    LimitsConfigured,
    Message,
    Reconcile,
    RecordRefusals,
    Sampled,
    Staged,
    Submit,
    Tick,
)
from .core.owners import is_of, refuse_foreign_tasks
from .core.sources import WatchedFolder
from .core.state import Running, SchedulerState
from .core.step import resume_from_log, step, tasks_to_load
from .core.tokens import Token
from .inbox import Inbox
from .logger import get_logger
from .messages import Committed, DeleteArchived, DestroyKeys, Orders, Repetition, StateQuery, Ticket
from .refusals import Refusals
from .snapshots import folded_state, loader

logger = get_logger()

_ASKED = (Submit, Forget, Archive)
"""Messages whose senders wait for an answer."""

MAX_BATCH = 2000
"""A commit is made at this number of facts, even if more messages wait."""

RETRY_COMMIT_AFTER = 0.25
"""Seconds until a failed commit is tried again, by the monotonic clock: the wall clock may be set back."""

START_OVER_AFTER = 1.0
"""The same after memory was folded anew, which costs much more."""


class _WaitingMessages:
    """Messages that wait until the log can be written, in the order of arrival; of repeated ones only the latest.

    Their number is bounded: nothing starts meanwhile, and an attempt waits for the answer to each report that is not
    repeated. An attempt that does not wait for the answer to a checkpoint is ended by its slot.
    """

    def __init__(self) -> None:
        self._messages: dict[Any, Message] = {}

    def add(self, message: Message) -> None:
        """Put a message after all others."""
        key = _identity(message)
        self._messages.pop(key, None)
        self._messages[key] = message

    def take(self) -> Iterator[Message]:
        """Take all of them out."""
        messages, self._messages = self._messages, {}
        return iter(messages.values())


def _identity(message: Message) -> Any:
    match message:
        case AttemptProgressed() | AttemptBeat() | AttemptProbed():
            return type(message), message.task_id, message.attempt
        case Delivered():
            return type(message), message.fact.notice_id
        case Sampled() | LimitsConfigured() | CapacityChanged() | Drain() | Close():
            return type(message)
        case _:
            return id(message)


MAINTAIN_EVERY = 1.0
"""Seconds between two runs of the log's maintenance while messages come. Until then new records are only in the
write-ahead log."""


class SchedulerWatch:
    """Observes each step. A simulator overrides it to check the state; in a service it does nothing."""

    def before(self, message: Message) -> None:
        """A message is about to be stepped."""

    def after(self, message: Message) -> None:
        """The message was stepped, or kept until the log can be written."""

    def staged(self, staged: Staged) -> None:
        """A step has staged these facts and effects, which are not durable yet."""

    def loaded(self, task: TaskState) -> None:
        """A finished task was read back from the log."""

    def batch_begins(self) -> None:
        """Nothing is staged any more: all facts are durable, or memory was folded anew."""

    def fault(self, error: BaseException) -> None:
        """A step, a commit or a listener failed. The Scheduler survives that, unless this raises."""


class Scheduler(Actor):
    """The only writer of the log: it decides, appends and publishes.

    Args:
        open_log: runs in the actor's own thread, to which the log's connection then belongs.
        new_state: makes an empty state to fold into.
        boot: gives the message with which a start begins.
        clock: for time-outs and retries.
        order: gets orders for the executor.
        publish: gets the committed records.
        on_fatal: gets the reason why the service has to end.
        on_trouble: gets the reason why the log cannot be written, and None when it can be written again.
        on_tokens: gets all tokens at the start, and again whenever one is added or revoked, before the answer.
        on_sources: the same for watched folders.
        read_log: reads the log if it cannot be written at the start; queries are then answered from it.
        alarm: wakes the Scheduler when something is due; a simulator passes one without a thread.
        snapshot: the file from which the fold goes on, if it can be used.
        watch: sees each step.
        refusals: refused commands that are to be recorded.
        is_awaited: whether somebody waits for the end of a task.

    `state` is the memory, and `trouble` the reason why the log cannot be written now. Both belong to the actor's
    thread.
    """

    actor_inbox: Inbox

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
        on_trouble: Callable[[TasktrailError | None], None] = lambda _: None,
        on_tokens: Callable[[tuple[Token, ...]], None] = lambda _: None,
        on_sources: Callable[[tuple[WatchedFolder, ...]], None] = lambda _: None,
        read_log: Callable[[], LogReader] | None = None,
        alarm: Callable[[Callable[[], None], Clock, str], Alarm] = Alarm,
        snapshot: Path | None = None,
        watch: SchedulerWatch | None = None,
        refusals: Refusals | None = None,
        is_awaited: Callable[[int], bool] = lambda _task_id: False,
    ) -> None:
        super().__init__()
        self._is_awaited = is_awaited
        self._delay = CommitDelay()
        self._refusals = refusals
        self._open_log = open_log
        self._read_log = read_log
        self._new_state = new_state
        self._boot = boot
        self._clock = clock
        self._order = order
        self._publish = publish
        self._on_fatal = on_fatal
        self._on_trouble = on_trouble
        self._on_tokens = on_tokens
        self._tokens_passed_on = -1
        self._on_sources = on_sources
        self._sources_passed_on = -1
        self._snapshot = snapshot
        self._watch = watch or SchedulerWatch()
        self._new_alarm = alarm
        self._opened: EventLog | None = None
        self.trouble: TasktrailError | None = None
        """Why the log cannot be written now. Meanwhile commands are refused and reports are kept."""
        self._retry_at: float | None = None
        self._given_up = False
        self._kept = _WaitingMessages()

        self._maintain_at = 0.0
        self._not_maintained = ""
        """The error of the last maintenance of the log; empty if it succeeded."""
        self._begin_batch_of({})

    @staticmethod
    def _create_actor_inbox() -> Inbox:
        return Inbox()

    @property
    def _log(self) -> EventLog:
        if self._opened is None:
            raise NotReady("The log is not open yet")
        return self._opened

    def on_start(self) -> None:
        """Open the log, fold it, and end what a crash left unfinished. Runs before the first message."""
        self._alarm = self._new_alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "scheduler-alarm")
        self._jump_watch = JumpWatch(self._clock)
        try:
            try:
                self._begin()
            except LogNotWritable:
                raise  # only a person can help, and will notice a failed start
            except OutcomeUnknown as error:
                self._read_only(error)
            else:
                self._commit()
        except BaseException as error:
            self._on_fatal(error)
            raise

    def _begin(self) -> None:
        opened = self._open_log()
        try:
            self.state = folded_state(opened, self._new_state, self._snapshot)
            boot = self._boot(opened)
            if not boot.gives_up_unreadable:
                refuse_unreadable(self.state)
            if self.state.own is None:
                self.state.next_runs.first()  # raises for a schedule that cannot run here, before anything is recorded
        except BaseException:
            opened.close()
            raise
        self._opened = opened
        self._begin_batch_of(self.state.running)
        self._stage(replace(boot, started=self._starts()) if self.state.outlived else boot)
        if self.state.outlived:  # the current slots, in case memory is folded anew before the first commit
            self._running_before = _copied(self.state.running)
        _warn_of_jumps(fact.event for fact in self._facts)

    def _starts(self) -> dict[int, int]:
        """Running task → position of its attempt's start."""
        return {
            task.id: max(record.position for record in self._log.read_task(task.id) if type(record.event) is Started)
            for task in list(self.state.tasks.special())
            if task.status == "running"
        }

    def _read_only(self, error: OutcomeUnknown) -> None:
        """Fold the log from a reader, as it exists but cannot be written yet. The Scheduler goes on trying."""
        if self._read_log is None:
            raise error
        try:
            reader = self._read_log()
        except TasktrailError:
            raise error from None
        try:
            self.state = folded_state(reader, self._new_state, self._snapshot)
        finally:
            reader.close()
        # For the queue only: the real start will stage and record the same.
        resume_from_log(self.state, {}, self._time()[0])
        self._tell_tokens()
        self._tell_sources()
        self._wait(error)

    def on_stop(self) -> None:
        """Record what is staged, and close the log last."""
        if self._retry_at is not None:
            self._retry_at = self._clock.monotonic()
        self._commit()
        if self.trouble is not None:
            logger.warning("the log could not be written until the end: what ran is recovered at the next start")
        self._alarm.close()
        if self._opened is not None:
            self._opened.close()

    def settle(self) -> None:
        """Commit: a ping is answered when everything from earlier messages is durable."""
        self._commit()

    def handle(self, message: Any) -> Any:
        """Handle a message. An error in a question goes to its sender and is no fault of memory."""
        if isinstance(message, StateQuery | DestroyKeys | DeleteArchived | Repetition):
            self._commit()
        if isinstance(message, StateQuery):
            return message.function(self.state)
        if isinstance(message, DestroyKeys):
            self._log.destroy(message.keys)
            return True
        if isinstance(message, DeleteArchived):
            return self._log.delete_archived(message.limit)
        if isinstance(message, Repetition):
            answer = self._log.answer(message.command_id)
            if answer is not None and answer.digest != message.digest:
                raise self._reused(answer, message.only_user)
            return answer
        return super().handle(message)

    def receive(self, message: Any) -> Any:
        """Step a message, or each of a list; commit when nothing more waits."""
        if isinstance(message, Close):
            self._take_refusals(last=True)
        messages = message if isinstance(message, list) else [message]
        if messages and isinstance(messages[0], Submit):  # a list holds commands or reports, never both
            self._delay.commands_came(self._clock.monotonic())
        for one in messages:
            self._take_or_drop(one)
            if isinstance(one, Forget | Archive):  # the next message must find the log changed
                self._commit()
        self._take_refusals()
        if len(self._facts) >= MAX_BATCH or not self._more_comes():
            self._commit()
            self._maintain()
        return None

    def _more_comes(self) -> bool:
        """Whether another message is there for the same commit. Waits for one, if that is worth it."""
        if not self.actor_inbox.empty():
            return True
        if self.trouble is not None or not self._can_wait():
            return False
        left = self._delay.seconds_left(self._clock.monotonic())
        return left > 0 and self.actor_inbox.fills_within(left)

    def _can_wait(self) -> bool:
        """Whether facts are staged and no one waits for them: no sender, no worker, no caller waiting for an end."""
        if self._answered or self._orders:
            return False
        awaited = (self._is_awaited(fact.task_id) for fact in self._facts if is_terminal(fact.event))
        return bool(self._facts) and not any(awaited)

    def _take_refusals(self, *, last: bool = False) -> None:
        """Record refused commands with the next commit; after a while, or at the end, in a commit of their own."""
        refusals = self._refusals
        if refusals is None or self.trouble is not None or not (last or refusals.is_due(rides=bool(self._facts))):
            return
        if taken := refusals.take(last=last):
            self._take_or_drop(RecordRefusals(taken))

    def _take_or_drop(self, message: Message) -> None:
        self._watch.before(message)
        try:
            self._take(message)
        except BaseException as error:  # noqa: BLE001 - a fault of ours in one message must not cost the others of its list
            self._drop(message, error)
        self._watch.after(message)

    def _drop(self, message: Message, error: BaseException) -> None:
        """Fold memory anew, without the message at fault: its step failed half-way, so memory may be wrong."""
        self._watch.fault(error)
        logger.error("a message could not be stepped", exc_info=error, message=type(message).__name__)
        if isinstance(message, _ASKED):
            message.token.reply(OutcomeUnknown(f"The command could not be handled: {error}"))
        self._reports[:] = [report for report in self._reports if report is not message]
        self._start_over(OutcomeUnknown("The Scheduler had to start again from the log"))

    def on_fault(self, message: Any, error: BaseException) -> None:  # noqa: ARG002 - every error has the same cure
        """Start again from the log, after a failure outside the steps."""
        self._start_over(OutcomeUnknown("The Scheduler had to start again from the log"))

    # --- stepping -----------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        if self.trouble is not None:
            self._refuse_or_keep(message, self.trouble)
            return
        if isinstance(message, _ASKED):
            try:
                if isinstance(message, Submit) and (self._answer_repetition(message) or _answer_refused(message)):
                    return
                self._load_for(message)
                if isinstance(message, Submit):
                    message = self._with_tasks_of_user(message)
            except TasktrailError as error:  # the log could not be read; nothing was stepped
                message.token.reply(error)
                return
        elif not isinstance(message, Tick | Sampled | LimitsConfigured | Reconcile | AttemptsHeld):
            self._reports.append(message)
        self._stage(message)

    def _refuse_or_keep(self, message: Message, trouble: TasktrailError) -> None:
        """Refuse or keep a message while the log cannot be written: nothing may be staged after the waiting batch."""
        if isinstance(message, _ASKED):
            message.token.reply(copy(trouble))  # each sender may raise it, and a raised error keeps its traceback
        elif not isinstance(
            message, Tick | Reconcile | AttemptsHeld
        ):  # time and running attempts are looked at afterwards
            self._kept.add(message)

    def _load_for(self, message: Submit | Forget | Archive) -> None:
        if isinstance(message, Forget):
            self._take_over(message.tasks.values())
        while missing := list(tasks_to_load(self.state, message)):
            for number, task_id in enumerate(missing):
                try:
                    self._load(task_id)
                except TaskForgotten:
                    # No one knows any more whose task it was. A caller bound to a user must not learn that it existed.
                    if isinstance(message, Submit) and message.only_user is not None:
                        refuse_foreign_tasks(self.state, message.command, message.only_user)
                        raise UnknownTask(f"Task {task_id} does not exist", field="task_id") from None
                    raise
                # Loading hundreds of tasks from archives may take seconds, and the actor must not seem to hang.
                self.tell_progress(number, len(missing))

    def _take_over(self, tasks: Iterable[TaskState]) -> None:
        """Take in tasks that the sender has read, unless they have changed since: reading from archives takes long."""
        for task in tasks:
            if task.id not in self.state.tasks and self._log.is_newest(task.id, task.version):
                self._take_in(task)

    def _with_tasks_of_user(self, message: Submit) -> Submit:
        """Add a user's tasks to `EraseUser`: only the log knows the finished ones.

        The part of the log that the sender has searched is not searched again.
        """
        if not isinstance(message.command, EraseUser):
            return message
        belongings = self._log.belongings(message.command.user_id, message.intake.belongings)
        return replace(message, intake=replace(message.intake, belongings=belongings))

    def _stage(self, message: Message) -> None:
        now, jump = self._time()
        if jump is not None:
            self._keep(step(self.state, Jumped(jump), now))
        self._keep(step(self.state, message, now))

    def _time(self) -> tuple[datetime, ClockJumped | None]:
        """The wall clock's time, and its jump if it was set. Corrects `_running_before` by the jump."""
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
        self._watch.staged(staged)

    def _load(self, task_id: int) -> None:
        self._take_in(loader(self._log)(task_id, MAX_INTEGER))

    def _take_in(self, task: TaskState) -> None:
        self.state.load(task)
        self._watch.loaded(task)

    def _note_answer(self, effect: Answered) -> None:
        ticket: Ticket = effect.token
        self._answered.append((ticket, effect.answer))
        if isinstance(effect.answer, Accepted) and ticket.command_id:
            accepted = effect.answer
            self._answers[ticket.command_id] = Answer(
                ticket.command_id, ticket.digest, accepted.task_id, accepted.position
            )

    def _answer_repetition(self, submit: Submit) -> bool:
        """Answer a command whose id was accepted before: with the same answer, or a refusal if the command differs."""
        ticket = submit.token
        if not isinstance(ticket, Ticket) or ticket.fresh:
            return False
        answer = self._answers.get(ticket.command_id) or self._log.answer(ticket.command_id)
        if answer is None:
            return False
        if answer.digest in (ticket.digest, *ticket.earlier):
            first = Accepted(answer.task_id, answer.position, answer.command_id)
            self._answered.append((ticket, first if ticket.of_batch else self._first_answer(answer, submit.command)))
        else:
            self._answered.append((ticket, self._reused(answer, submit.only_user)))
        return True

    def _reused(self, answer: Answer, only_user: int | None) -> CommandIdReused:
        """The refusal of another command with the id of this answer."""
        if only_user is not None and not is_of(self.state, answer.task_id, only_user):
            # Only of a task in memory is the user known. A caller bound to a user must not see other tasks' ids.
            used_for = "another command"
        else:
            used_for = f"task {answer.task_id}" if answer.task_id else "a command to the service"
        return CommandIdReused(f"Command id {answer.command_id} was used for {used_for}")

    def _first_answer(self, answer: Answer, command: Command) -> Accepted:
        """The answer that a command got the first time. The ids of a graph's tasks follow from its first new one."""
        tasks = command.tasks if isinstance(command, CreateGraph) else (command,)
        unique = sum(1 for task in tasks if isinstance(task, TaskFields) and task.unique)
        existing = {event.name: event.task_id for event in self._existing(answer, unique)}
        ids = ids_by_name(command, answer.task_id, existing) if isinstance(command, CreateGraph) else {}
        return Accepted(answer.task_id, answer.position, answer.command_id, ids, existing=len(existing) == len(tasks))

    def _existing(self, answer: Answer, most: int) -> Iterator[Deduplicated]:
        """Yield the command's `Deduplicated` events, each for a task that existed: its last records, at most `most`."""
        durable = self.state.position - len(self._facts)
        records: Iterable[Fact] = (
            self._log.read(after=max(0, answer.position - most), limit=min(most, answer.position))
            if answer.position <= durable
            else self._facts[max(0, answer.position - durable - most) : answer.position - durable]
        )
        for record in records:
            if isinstance(record.event, Deduplicated) and record.command_id == answer.command_id:
                yield record.event

    # --- committing ---------------------------------------------------------------------------------------------

    def _begin_batch_of(self, running: dict[int, Running]) -> None:
        self._facts: list[Fact] = []
        self._orders: list[Any] = []
        self._answered: list[tuple[Ticket, Accepted | TasktrailError]] = []
        self._answers: dict[str, Answer] = {}
        self._reports: list[Message] = []
        self._jumps: list[ClockJumped] = []
        """Jumps of the clock that may not be recorded yet."""
        self._watch.batch_begins()
        self._running_before = _copied(running)

    def _commit(self) -> None:
        """Record what is staged and inform others; then take the messages that were kept meanwhile."""
        if self._given_up or self._is_too_early():
            return
        try:
            if self._opened is None:
                self._begin()
            began = self._clock.monotonic()
            records = self._append()
            seconds = self._clock.monotonic() - began
        except BaseException as error:  # noqa: BLE001 - sorted out by kind
            self._append_failed(error)
            return
        was_in_trouble = self.trouble is not None
        self._publish_and_answer(records, seconds)
        if was_in_trouble:
            for message in (*self._kept.take(), Tick()):  # reports come before what has become due
                self._take_or_drop(message)
            self._commit()

    def _append(self) -> list[Recorded]:
        if not (self._facts or self._answers or self._orders):
            return []
        expected = self.state.position - len(self._facts)
        if self.trouble is not None:
            records = already_appended(self._log, self._facts, expected)
            if records is not None:
                self._log.append(
                    [], expected=records[-1].position
                )  # raises if another service has taken over: then no orders may go out
                return records
        # For orders alone, too: this raises if another service has taken over.
        return self._log.append(self._facts, list(self._answers.values()), expected=expected)

    def _maintain(self) -> None:
        """Run the log's maintenance, unless the last run was less than `MAINTAIN_EVERY` ago."""
        now = self._clock.monotonic()
        if now < self._maintain_at or self.trouble is not None or self._opened is None:
            return
        self._maintain_at = now + MAINTAIN_EVERY
        try:
            self._opened.maintain()
        except (Fenced, LogGone) as error:
            self._append_failed(error)
        except TasktrailError as error:
            if str(error) != self._not_maintained:  # a full disk stays full for hours
                logger.warning("the log could not be looked after", error=str(error))
            self._not_maintained = str(error)
        else:
            self._not_maintained = ""

    def _is_too_early(self) -> bool:
        """Whether the pause after a failed commit still lasts. If so, set the alarm anew: it goes by the wall clock."""
        left = 0.0 if self._retry_at is None else self._retry_at - self._clock.monotonic()
        if left > 0:
            self._alarm.set(self._clock.now() + timedelta(seconds=left))
        return left > 0

    def _publish_and_answer(self, records: list[Recorded], seconds: float) -> None:
        """Publish, answer, order, and forget finished tasks: everything staged is durable now.

        A caller may ask for its position as soon as it has its answer, so publishing comes first. Several callers are
        answered before the orders go out, so that they can send their next commands meanwhile. A single caller is
        answered last: its thread would only compete with the orders for the interpreter.
        """
        if self.trouble is not None:
            logger.info("the log can be written again")
            self.trouble = self._retry_at = None
            self._on_trouble(None)
        self._tell_tokens()
        self._tell_sources()
        answered, orders = self._answered, self._orders
        committed = self._committed(records, seconds)
        self.state.forget_finished(set(committed.tasks))
        self._begin_batch_of(self.state.running)
        if records:
            self._pass_on(self._publish, committed)
        if len(answered) > 1:
            self._reply(answered)
        if orders:
            self._pass_on(self._order, Orders(orders))
        if len(answered) == 1:
            self._reply(answered)
        self._alarm.set(self.state.next_wake())

    def _reply(self, answered: list[tuple[Ticket, Accepted | TasktrailError]]) -> None:
        for ticket, answer in answered:
            self._pass_on(ticket.reply, answer)

    def _committed(self, records: list[Recorded], seconds: float) -> Committed:
        """The records, with data of their tasks that only memory has."""
        in_memory, running = self.state.tasks, self.state.running
        tasks = {record.task_id: in_memory[record.task_id] for record in records if record.task_id in in_memory}
        queued_at = {
            record.task_id: running[record.task_id].queued_at or record.recorded_at
            for record in records
            if type(record.event) is Started and record.task_id in running
        }
        return Committed(records, tasks, queued_at, seconds)

    def _pass_on(self, tell: Callable[[Any], None], what: Any) -> None:
        """Call a listener. Its failure does not affect the others, and reconciliation finds lost orders."""
        try:
            tell(what)
        except Exception as error:
            self._watch.fault(error)
            logger.exception("somebody could not be told", what=type(what).__name__)

    def _append_failed(self, error: BaseException) -> None:
        if isinstance(error, Fenced | LogCorrupt | LogGone | LogTooNew | UnusableOrder):
            self.trouble, self._given_up = error, True
            self._on_fatal(error)
            self._answer_all(error)
        elif self._opened is None and not isinstance(error, OutcomeUnknown):
            self._on_fatal(error)
        elif isinstance(error, OutcomeUnknown):
            self._wait(error)  # comes first, as a refused caller may ask at once whether the service is ready
            self._answer_all(error)
            self._answered.clear()
        else:
            if not isinstance(error, TasktrailError):
                self._watch.fault(error)
            logger.error("a batch could not be recorded", error=str(error), waiting=len(self._answered))
            self._reports[:] = filter(_is_encodable, self._reports)  # otherwise the next batch would fail on it, too
            self._start_over(OutcomeUnknown(f"The commit failed: {error}"))

    def _wait(self, error: OutcomeUnknown, seconds: float = RETRY_COMMIT_AFTER) -> None:
        """Keep everything staged, because the log cannot be written, and try again after `seconds`."""
        if type(error) is not type(self.trouble):
            logger.error("commands are refused until the log can be written again", error=str(error))
        self.trouble = error
        self._retry_at = self._clock.monotonic() + seconds
        self._alarm.set(self._clock.now() + timedelta(seconds=seconds))
        self._on_trouble(error)

    def _tell_sources(self) -> None:
        """Pass the sources on when they have changed."""
        sources = self.state.durable.sources
        if sources.changed_at != self._sources_passed_on:
            self._sources_passed_on = sources.changed_at
            self._pass_on(self._on_sources, tuple(sources.by_name.values()))

    def _tell_tokens(self) -> None:
        """Pass the tokens on when they have changed: the change is durable now, so it takes effect."""
        tokens = self.state.durable.tokens
        if tokens.changed_at != self._tokens_passed_on:
            self._tokens_passed_on = tokens.changed_at
            self._pass_on(self._on_tokens, tuple(tokens.by_name.values()))

    def _answer_all(self, error: TasktrailError) -> None:
        """Answer all callers with the error. That includes refusals: they may rest on staged events that are gone."""
        for ticket, _ in self._answered:
            ticket.reply(copy(error))

    def _start_over(self, error: OutcomeUnknown) -> None:
        """Fold the log again, keep the slots as they are, and step the executor's reports once more."""
        if self._given_up:
            return
        self._answer_all(error)
        now, _ = self._time()
        reports, running, jumps = self._reports, self._running_before, self._jumps
        old = self.state
        self.trouble = None
        try:
            self.state = folded_state(self._log, self._new_state, self._snapshot, also=running)
            self.state.workers.change(old.workers.slots, old.workers.offers.elements())
            self.state.nodes = old.nodes.without_attempts()
            self.state.nodes.drained(self.state.durable.nodes.drains)
            self.state.sample = old.sample
            self.state.draining = old.draining
            # An answer to an older question must not pass for an answer to a newer one.
            self.state.reconciliation.number = old.reconciliation.number
            self.state.configure(old.configured)
            self._begin_batch_of(running)
            self._jumps = jumps
            self._keep(resume_from_log(self.state, running, now, jumps))
            for report in reports:
                self._take(report)
            self._wait(error, START_OVER_AFTER)
        except BaseException as fatal:  # noqa: BLE001 - the log itself cannot be read, so nothing can go on
            self._on_fatal(fatal)


def _answer_refused(submit: Submit) -> bool:
    """Answer a command that was refused before it came here. Returns whether it was."""
    refusal = submit.token.refusal if isinstance(submit.token, Ticket) else None
    if refusal is not None:
        submit.token.reply(refusal)
    return refusal is not None


def _copied(running: dict[int, Running]) -> dict[int, Running]:
    return {task_id: msgspec.structs.replace(entry) for task_id, entry in running.items()}


def _warn_of_jumps(events: Iterable[Event]) -> None:
    for event in events:
        if isinstance(event, ClockJumped):
            logger.warning("the wall clock was set", shown=event.shown.isoformat(), shows=event.shows.isoformat())


def _is_encodable(report: Message) -> bool:
    """False for a report that cannot be encoded. If it is an end, reconciliation will record the attempt as lost."""
    try:
        msgspec.json.encode(report)
    except Exception as error:  # noqa: BLE001 - with any error the log could not write it either
        logger.error("a report cannot be recorded", report=type(report).__name__, error=str(error))  # noqa: TRY400 - the error says enough
        return False
    return True


NOTICED = 1.0
"""Seconds. A smaller difference is no jump, because the two clocks cannot be read at the same instant."""


class JumpWatch:
    """Notices when the wall clock is set, by comparing it with the monotonic clock, which cannot be set.

    A machine that sleeps looks like a jump forward: meanwhile only the wall clock goes on.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._monotonic, self._wall = clock.monotonic(), clock.now()

    def look(self) -> tuple[datetime, ClockJumped | None]:
        """The wall clock's time, and its jump since the last look if there was one."""
        for _ in range(2):  # a thread may be held up between two readings, but hardly twice
            # The monotonic clock first: a delay between the two then looks like a jump forward and ends nothing early.
            monotonic, wall = self._clock.monotonic(), self._clock.now()
            passed = monotonic - self._monotonic
            if abs((wall - self._wall).total_seconds() - passed) < NOTICED:
                return wall, None
        shown = self._wall + timedelta(seconds=passed)
        self._monotonic, self._wall = monotonic, wall
        return wall, ClockJumped(shown=shown, shows=wall)
