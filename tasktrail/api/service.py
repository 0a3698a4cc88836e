"""`TaskService`: tasktrail inside your own program. Opening it starts the actors and recovers; closing stops them."""

import os
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from msgspec.structs import replace

from ..actors.core.messages import Intake, Submit, WorkOn
from ..actors.core.owners import hide_foreign_task
from ..actors.core.resources import why_it_never_fits
from ..actors.core.state import SchedulerState
from ..actors.core.tokens import Token
from ..actors.feed import Watermark
from ..actors.messages import Repetition, StateQuery, Ticket
from ..actors.pictures import PictureMaker
from ..backups.backup import Backup, back_up
from ..backups.evidence import Acceptance
from ..batches.files import FoundFile, Patience
from ..batches.planner import BatchPlanner, EarlierTasks, Plan, carry_out
from ..batches.repeated import batch_made_before
from ..batches.request import MadeBatch, NewBatch, Refused
from ..batches.watcher import ACTOR, Watcher
from ..config.load import Reloaded, checked, load_config
from ..config.settings import Config
from ..events import Accepted, Command, CreateGraph, RedeliverNotice, Task
from ..events.commands import EraseUser, digest
from ..events.errors import NotReady, OutputTaken, TasktrailError, WaitTimeout
from ..events.log.address import is_address
from ..events.log.archives import Archived
from ..events.state import FINISHED
from ..events.values import check_patience, check_task_id
from ..intake.conversion import new_command_id, validated
from ..intake.examination import CommandIntake, configured_intake, refuse_odd
from ..intake.type_defaults import with_type_defaults
from ..intake.whole_numbers import alike
from ..paths import DataPaths, path_of
from ..projections import Forgotten, Rebuilt, TaskFilters, ViewsFailed
from ..projections.errors import views_behind
from ..projections.notices import log_id, redelivery
from ..projections.queries.as_of import parse_point
from ..projections.queries.forgettable import rule_of
from ..system import RecoveryReport, System
from ..telemetry.log_size import LogSize
from ..telemetry.numbers import ServiceNumbers
from ..telemetry.readings import Readings
from .commands import Commands
from .declared_schedules import apply_declared_schedules
from .either_way import Blocking, answer_without_waiting
from .served import Served
from .source import Source, rebuild_beside

if TYPE_CHECKING:
    from ..actors.cluster.gateway_process import ConnectingGateway
    from ..events.log.event_log import Answer

T = TypeVar("T")

_CLEARED_WITHIN = 600.0
"""Seconds to wait until nothing is left of forgotten tasks."""
_COMMIT_WITHIN = 60.0
"""Seconds to wait for a commit. A command that takes longer may still happen: repeat it with its id."""
VIEWS_WITHIN = 10.0
"""Seconds that a question waits for views that lag behind the log."""
MENDED_WITHIN = 30.0
"""Seconds that a question waits while the views are checked or built anew."""
VIEWS_TROUBLE_FOR = 1.0
"""Seconds that a question waits for views that cannot be written at the moment."""
_LOOK_EVERY = 0.2
_STILL_MENDED = "The views are still being checked, or rebuilt because they were damaged"


class TaskService(Served, Commands, Blocking):
    """Tasks on one data folder. Safe to use from many threads.

    A forked process cannot use it, since the threads stay in the parent. Several processes share `tasktrail serve`,
    each with a `Client`.

    ```python
    with TaskService.open("data") as tasks:
        task_id = tasks.create_task(type="image_thumbnail", input_file="in.jpg", output_file="out.jpg")
        print(tasks.wait(task_id, timeout=60).status)
    ```
    """

    def __init__(self, system: System) -> None:
        self._running = _Running(system)
        super().__init__(self._running)
        self._system = system
        self._size = LogSize(system.paths.log) if is_address(system.paths.log) else None
        self._intake = self._make_intake()
        self.pictures = PictureMaker(
            system.paths.pictures,
            lock_path=system.paths.workers_lock,
            sandbox=system.config.for_workers(system.paths.protected()),
            clock=system.clock,
        )
        """For the page."""
        self._most = system.config.ceiling(system.paths.temp)
        self.watcher = Watcher(
            lambda: system.sources,
            self.make_source_tasks,
            lambda: self._intake.paths,
            system.clock,
            note=partial(system.refusals.note_problem, ACTOR, _tag_of(NewBatch)),
        )
        """Makes tasks from the files of watched folders, once it is started."""
        system.source_callbacks.append(self.watcher.wake)

    def _make_intake(self) -> CommandIntake:
        return configured_intake(
            self._system.config,
            self._system.paths,
            self._system.registry,
            has_tasks=lambda name: name in self.source.ask(lambda views: views.types()),
            outputs_to_come=self._outputs_to_come,
            why_never=self._never_fits_reason,
        )

    def _outputs_to_come(self, task_ids: Collection[int]) -> set[tuple[str, int]]:
        """Return the outputs of those of the tasks that have not ended, each with its task's user."""

        def asked(state: SchedulerState, _now: datetime) -> set[tuple[str, int]]:
            found = [state.tasks[task_id] for task_id in task_ids if task_id in state.tasks]
            return {(task.spec.output_file, task.spec.user_id) for task in found if not task.finished}

        return self.source.state(asked)

    @classmethod
    def open(
        cls,
        data: str | Path,
        *,
        config: Config | None = None,
        accept_loss: str = "",
        accept_lost_keys: str = "",
        actor: str = "python",
        own_only: bool = False,
        connecting: "ConnectingGateway | None" = None,
    ) -> Self:
        """Start on a data folder. A missing folder is created.

        Args:
            data: the folder.
            config: by default read from `data/tasktrail.toml`.
            accept_loss: why it is right to go on without records that are missing; recorded with `actor`.
            accept_lost_keys: why it is right to cancel the tasks, and remove the schedules and sources, whose keys of
                personal data are missing; recorded, too.
            actor: who accepts that.
            own_only: work only on tasks that this object creates, or takes on with `work_on`. All others stay as they
                are: they are not started or timed out, and schedules make none. Attempts that a killed service left
                open are still recorded as interrupted. The schedules that the code declares are not updated.
            connecting: the process that `tasktrail serve` has started before, so that a cluster is reached sooner.

        Raises:
            ConfigurationError: the configuration cannot be used; it names all that is wrong.
            DataInUse: a service has the folder.
            HistoryMissing: views or snapshots have seen records that the log lacks, without `accept_loss`.
            KeysUnreadable: keys that unfinished work needs are missing, without `accept_lost_keys`.
        """
        folder = path_of(data, "data")
        config = load_config(folder) if config is None else checked(config)
        paths = DataPaths(folder, Path(config.temp_dir) if config.temp_dir else None, config.log)
        acceptance = Acceptance(actor=actor, reason=accept_loss) if accept_loss else None
        giving_up = Acceptance(actor=actor, reason=accept_lost_keys) if accept_lost_keys else None
        system = System(
            paths, config, acceptance=acceptance, giving_up=giving_up, own_only=own_only, connecting=connecting
        )
        system.start()
        service = cls(system)
        if not own_only:
            apply_declared_schedules(service, system.registry)
            service.watcher.start()
        return service

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._system.config

    def close(self) -> None:
        """Stop in good order. Attempts that run are recorded as interrupted and go on at the next start."""
        if not self._running.closed and not self._running.is_copy:
            self.watcher.stop()
            self._running.closed = True
            self.pictures.close()
            if self._size is not None:
                self._size.close()
            self.source.disconnect()  # the last to close the log merges its write-ahead log, which a reader cannot
            self._system.stop()
            self.source.disconnect()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def reload(self, config: Config | None = None) -> Reloaded:
        """Read the configuration again, and take what can change while the service runs.

        Args:
            config: take this one instead of the one in the data folder.

        Raises:
            ConfigurationError: it cannot be used, and nothing has changed.
        """
        config = load_config(self._system.paths.data) if config is None else checked(config)
        reloaded = self._system.reload(config)
        self._intake = self._make_intake()
        return reloaded

    # --- commands -----------------------------------------------------------------------------------------------

    async def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:
        return self._answers_to(commands, checked=checked)

    def _answers_to(
        self, commands: Sequence[Command], *, checked: bool, of_batch: bytes | None = None
    ) -> list[Accepted | TasktrailError]:
        self._running.refuse_copy()
        waiter = _Waiter()
        self.submit(commands, waiter.set, checked=checked, of_batch=of_batch)
        return waiter.get(_COMMIT_WITHIN)

    async def _find_ids(self, filters: TaskFilters) -> list[int]:
        return self.ids_of(filters)

    async def _make_batch(self, wanted: NewBatch) -> MadeBatch:
        return await self.carry_out_batch(wanted, wanted.actor, None, self._send_batch)

    async def carry_out_batch(
        self,
        wanted: NewBatch,
        actor: str,
        user_id: int | None,
        send: Callable[[CreateGraph, bytes], Awaitable[Accepted | TasktrailError]],
        patience: Patience | None = None,
    ) -> MadeBatch:
        """Make a batch; with a user as if there were no tasks of others. Refusals are recorded.

        `send` gets the digest of the batch, too. A batch with the id of one that has created tasks gets the answer of
        that one, whatever files there are now. Raises `HungUp`, and does nothing, if the caller has gone before there
        is a plan.
        """
        try:
            wanted = validated(wanted)
            refuse_odd(wanted)
            compared = _digest_of(alike(wanted), user_id)

            def made_before() -> MadeBatch | None:
                question = Repetition(wanted.command_id, compared, user_id)
                first: Answer | None = self._running.ask_scheduler(question) if wanted.command_id else None
                return None if first is None else batch_made_before(self.source.log(), first, wanted.batch)

            if not wanted.dry_run and (first := made_before()) is not None:
                return first
            plan = self.plan_batch(wanted, user_id, patience)
        except TasktrailError as error:
            if not wanted.dry_run:
                self.note_refusal(actor, wanted, error)
            raise

        def note(refused: Refused) -> None:
            self._system.refusals.note_problem(actor, _tag_of(NewBatch), refused.problem)

        return await carry_out(plan, wanted, lambda graph: send(graph, compared), note, made_before)

    def make_source_tasks(self, wanted: NewBatch, found: Sequence[FoundFile]) -> MadeBatch:
        """Create tasks for these files: one for each content that a file ever has."""
        plan = self._planner(None).plan(wanted, self._system.clock.now(), found=found, once=True)

        async def send(graph: CreateGraph) -> Accepted | TasktrailError:
            return self._answers_to([graph], checked=False)[0]

        return answer_without_waiting(carry_out(plan, wanted, send))

    async def _send_batch(self, graph: CreateGraph, of_batch: bytes) -> Accepted | TasktrailError:
        return self._answers_to([graph], checked=False, of_batch=of_batch)[0]

    def plan_batch(self, wanted: NewBatch, user_id: int | None = None, patience: Patience | None = None) -> Plan:
        """Plan what a batch would create; with a user as if there were no tasks of others. Nothing is written."""
        return self._planner(user_id).plan(wanted, self._system.clock.now(), patience=patience)

    def _planner(self, user_id: int | None) -> BatchPlanner:
        return BatchPlanner(self._intake, earlier_tasks(self.source, user_id))

    def submit(
        self,
        commands: Sequence[Command],
        reply: Callable[[list[Accepted | TasktrailError]], None],
        *,
        checked: bool = False,
        only_user: int | None = None,
        of_batch: bytes | None = None,
    ) -> None:
        """Hand commands over without waiting; `reply` is called once, from another thread, with all the answers.

        `checked`: the values were checked when the commands were made. `only_user`: as if others had no tasks.
        `of_batch`: the digest of the batch for which the command is sent.
        """
        collector = _Collector(len(commands), lambda answers: self._answer(commands, answers, reply))
        messages = []
        for index, command in enumerate(commands):
            try:
                slot = collector.slot(index)
                messages.append(self._admit(command, slot, only_user, of_batch, checked=checked))
            except TasktrailError as error:
                collector.put(index, error)
        if self._running.closed or self._system.health.fatal:
            for message in messages:
                message.token.reply(NotReady("The service is stopped", remedy="Start it again."))
        elif messages:
            self._system.scheduler.tell(messages)

    def _answer(
        self,
        commands: Sequence[Command],
        answers: list[Accepted | TasktrailError],
        reply: Callable[[list[Accepted | TasktrailError]], None],
    ) -> None:
        reply(answers)
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, TasktrailError):
                self.note_refusal(command.actor, command, answer)
        if self._system.service_log is not None:
            self._system.service_log.answered(commands, answers)

    def note_refusal(self, actor: str, command: Command | NewBatch, error: TasktrailError) -> None:
        """Have the refusal of a known caller's command recorded, soon."""
        self._system.refusals.note(actor, _tag_of(type(command)), error, getattr(command, "task_id", None))

    def note_refused_route(self, actor: str, route: str, error: TasktrailError) -> None:
        """Have it recorded that a known caller's request was refused before its command was read."""
        self._system.refusals.note(actor, route, error)

    def _never_fits_reason(self, memory: int, temp: int) -> str:
        """Say why a task with these needs could never start; empty if it could. Only huge needs go to the Scheduler."""
        if memory <= self._most.memory and temp <= self._most.temp:
            return ""
        return self.source.state(lambda state, _: why_it_never_fits(memory, temp, state.limits, state.sample))

    def _admit(
        self,
        command: Command,
        reply: Callable[[Any], None],
        only_user: int | None,
        of_batch: bytes | None,
        *,
        checked: bool,
    ) -> Submit:
        command = sent = self._intake.as_sent(command, checked=checked)
        fresh = not sent.command_id
        intake, refusal = Intake(), None
        try:
            command = self._intake.normalized(sent)
            intake = self._examined(command, only_user)
        except TasktrailError as error:
            if fresh:
                raise
            refusal = error  # unless it is a repetition: by now its output may be there, or its input or preset gone
        if fresh:
            command = replace(command, command_id=new_command_id())
        if of_batch is not None:
            ticket = Ticket(reply, command.command_id, of_batch, fresh, refusal, of_batch=True)
        else:
            compared = alike(sent)
            others = [] if fresh else [one for one in (sent, command) if one is not compared]
            earlier = tuple(_digest_of(one, only_user) for one in others)
            ticket = Ticket(reply, command.command_id, _digest_of(compared, only_user), fresh, refusal, earlier)
        if refusal is None:
            command = with_type_defaults(command, self._system.registry)
        return Submit(command, intake, ticket, only_user)

    def _examined(self, command: Command, only_user: int | None) -> Intake:
        intake = self._intake.examine(command)
        if isinstance(command, RedeliverNotice):
            first = next(self.log(limit=1))
            found = None  # for a task of somebody else: the Scheduler refuses it
            if self.is_of(command.task_id, only_user):
                found = redelivery(log_id(first), self.events(command.task_id), command.notice_id)
            return replace(intake, redelivery=found)
        if isinstance(command, EraseUser):  # here, so that the Scheduler need not look through the whole log
            return replace(intake, belongings=self.source.log().belongings(command.user_id))
        return intake

    def work_on(self, task_id: int) -> None:
        """Take on a task that another program has created; see `own_only` of `open`."""
        check_task_id(task_id)
        self._system.scheduler.tell(WorkOn(task_id))

    # --- waiting and following ----------------------------------------------------------------------------------

    def wait(self, task_id: int, timeout: float | None = None) -> Task:
        """Wait until the task's life is over, and return it. Raises `WaitTimeout` after `timeout` seconds."""
        check_task_id(task_id)
        timeout = check_patience(timeout)
        self._running.refuse_copy()
        ended = threading.Event()
        with self.expecting(task_id, ended.set):
            # An end from before we listened is in the log by now. The views would have to catch up with it first.
            if not self.is_open(task_id) and (task := self.get_task(task_id)).status in FINISHED:
                return task
            if not ended.wait(timeout):
                raise WaitTimeout(f"Task {task_id} is still {self.get_task(task_id).status} after {timeout:g} s")
        return self.get_task(task_id)

    def is_open(self, task_id: int) -> bool:
        """Whether the log shows that the task's life is not over. If not, `get_task` has the answer, or raises why."""
        return not self._running.closed and super().is_open(task_id)

    def backup(self, destination: str | Path, *, base: str | Path | None = None, check: bool = False) -> Backup:
        """Copy the log to a file, or into a folder, while the work goes on; see `backups.backup.back_up`.

        `base`: an earlier backup, or a folder with some, to which only what is new is added. `check`: read all of the
        result back, also what was in `base`.
        """
        return back_up(self.paths.data, destination, base=base, check=check)

    def recover_tasks(self) -> RecoveryReport:
        """The tasks that `open` found unfinished and started again. Every start recovers; this only reports it."""
        return self._system.recovery

    # --- for the HTTP server ------------------------------------------------------------------------------------

    @property
    def obstacles(self) -> list[TasktrailError]:
        """The reasons why commands are refused now, the gravest first."""
        if self._running.closed:
            return [NotReady("The service is stopped", remedy="Start it again.")]
        return self._system.health.obstacles()

    @property
    def numbers(self) -> ServiceNumbers:
        """Counts of what has happened since the start."""
        return self._system.numbers

    def _log_size(self) -> int | None:
        if self._size is not None:
            return self._size.bytes()
        try:
            return self.source.log().size()
        except (TasktrailError, OSError):  # the error is reported elsewhere
            return None

    def readings(self) -> Readings:
        """Measure the service as it is now. Does not wait for views that lag, and hardly for the Scheduler."""
        system = self._system
        position = system.consumers.committed.position
        load = None if system.health.fatal else system.load()
        return Readings(
            tasks=self._running.counts(),
            load=load,
            position=position,
            log_bytes=self._log_size(),
            views_lag=max(0, position - system.projected.position),
            notices_lag=max(0, position - system.health.notices.position),
            notices_waiting=system.health.notices.waiting,
            ready=self.ready,
            degraded=len(system.degraded(load)),
            spans_sent=None if system.tracing is None else system.tracing.sent,
            spans_dropped=None if system.tracing is None else system.tracing.dropped,
        )

    @property
    def known_tokens(self) -> Mapping[str, Token]:
        """Digest → token, for all tokens that were added and not revoked. Some may have expired."""
        return self._system.tokens

    def watch_tokens(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called, in another thread, when a token was added or revoked. Call the result to end that."""
        self._system.token_callbacks.append(callback)
        return lambda: self._system.token_callbacks.remove(callback)

    def rebuild(self, progress: Callable[[int, int], None] | None = None) -> Rebuilt:
        """Build the views anew beside the live ones, compare, and put them in place. Work goes on meanwhile.

        Snapshots that differ from the fold of the log are deleted. Returns what differed. `progress` is called with a
        position and the last one. Raises `NotReady` while another rebuild runs.
        """
        with self.rebuilding():
            self.source.settle()
            built = rebuild_beside(self.source.log(), self._system.paths, progress)
            self.adopt_views()
        return built

    @contextmanager
    def rebuilding(self) -> Iterator[None]:
        """While the context lasts, no other rebuild can begin. Raises `NotReady` if one runs."""
        if not self._system.rebuilding.acquire(blocking=False):
            raise NotReady("Another rebuild is running", remedy="Wait until it is done.")
        try:
            yield
        finally:
            self._system.rebuilding.release()

    def adopt_views(self) -> None:
        """Replace the live views with those built beside them. Raises `ViewsFailed`; the live ones then stay."""
        self._system.adopt_views()

    def archive(
        self,
        before: int | str | datetime | None = None,
        *,
        dry_run: bool = False,
        reason: str = "",
        actor: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Archived:
        """Move the beginning of the log into compressed files, from which it is read as before. See the guide on it.

        Ranges of 65,536 records are moved. A range with a record of an unfinished task stays, and so do all after it.

        Args:
            before: a position or a time: only records from before it. None: as many as possible.
            dry_run: only count them.
            reason: why; recorded.
            actor: who; recorded.
            progress: called with the number of records archived so far, and of all that will be.
        """
        point = None if before is None else parse_point(before, "before")
        if dry_run:
            return self._system.archiver.count(point)
        return self._system.archiver.archive(point, actor=actor or "python", reason=reason, progress=progress)

    def forget(
        self,
        older_than: float | timedelta,
        *,
        status: str | None = None,
        type: str | None = None,  # noqa: A002 - as the field
        user_id: int | None = None,
        dry_run: bool = False,
        reason: str = "",
        actor: str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Forgotten:
        """Forget tasks that are over, for good: stubs take the place of their records. See the guide on old tasks.

        It returns once views, snapshots and folders have nothing left of them.

        Args:
            older_than: the least seconds since a task's end.
            status: only tasks that are `completed`, `failed` or `cancelled`.
            type: only tasks of this type.
            user_id: only tasks of this user.
            dry_run: only count them.
            reason: why; recorded.
            actor: who; recorded.
            progress: called with the number of tasks looked at so far, and of all.
        """
        rule = rule_of(older_than, status, type, user_id)
        self.check_types(TaskFilters(type=(rule.type,) if rule.type else ()))
        if dry_run:
            return self._system.forgetter.count(rule)
        looked_at, due = count(1), self._system.forgetter.count(rule).tasks if progress is not None else 0

        def look() -> None:
            if progress is not None:
                progress(min(next(looked_at), due), due)

        done = self._system.forgetter.forget((rule,), actor=actor or "python", reason=reason, on_progress=look)
        if self._system.cleared.wait(done.position, _CLEARED_WITHIN):
            return replace(done, kept=self._system.forgetter.count(rule).kept)
        if self._system.stopping.is_set():
            raise NotReady(
                "The tasks are forgotten, and the service stops while views or folders may still have some",
                remedy="The next start clears up by itself.",
            )
        raise NotReady(
            f"The tasks are forgotten, and the views still have them after {_CLEARED_WITHIN:g} s",
            remedy="The service goes on clearing up by itself; see its log.",
        )

    @property
    def failed(self) -> threading.Event:
        """Set when the service cannot go on; `fatal` says why."""
        return self._system.health.failed

    @property
    def fatal(self) -> BaseException | None:
        """The error that ended the service, if one did."""
        return self._system.health.fatal

    def watch_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called, in another thread and perhaps more than once, when the service cannot go on."""
        self._system.health.end_callbacks.append(callback)

    def expecting(self, task_id: int, wake: Callable[[], object]) -> AbstractContextManager[None]:
        """While the context lasts, `wake` is called when the task ends, from a thread that must not be held up."""
        return self._system.consumers.endings.expecting(task_id, wake)

    @property
    def watermark(self) -> Watermark:
        """How far the log is committed."""
        return self._system.consumers.committed

    def memory_of_attempts(self) -> dict[tuple[int, int], int]:
        """Map the task and number of each running attempt to its bytes in memory. Unknown ones are left out."""
        return self._system.use.memory()

    @property
    def degraded(self) -> list[str]:
        """Describe what is out of order although commands are accepted."""
        return self._system.degraded(self._system.load())


def _digest_of(command: Command | NewBatch, only_user: int | None) -> bytes:
    """The digest of a command. Two users may use the same id: those are two commands, even if they are alike."""
    return digest(command) if only_user is None else sha256(digest(command) + b"%d" % only_user).digest()


def _tag_of(command: type[Command | NewBatch]) -> str:
    return str(command.__struct_config__.tag)


def earlier_tasks(source: Source, user_id: int | None = None) -> EarlierTasks:
    """The questions that a batch asks about earlier tasks; with a user, only about that user's."""
    return EarlierTasks(
        writers=lambda outputs: source.ask(lambda views: views.last_writers(outputs, user_id)),
        makers=lambda outputs: source.ask(lambda views: views.last_writers(outputs, user_id, "completed")),
        origins=lambda outputs: source.ask(lambda views: views.last_origins(outputs, user_id)),
        readers=lambda batch, inputs: source.ask(lambda views: views.last_readers(batch, inputs)),
        taken=lambda outputs: source.state(lambda state, _now: _taken_outputs(state, outputs, user_id)),
    )


def _taken_outputs(state: SchedulerState, outputs: Sequence[str], user_id: int | None) -> dict[str, OutputTaken]:
    """Map each output that an unfinished task will write to the error that refuses it to another task."""
    return {
        output: hide_foreign_task(state, OutputTaken.by(holder, repr(output), field="output_file"), user_id)
        for output in outputs
        if (holder := state.outputs.first.get(output))
    }


class _Running(Source):
    """The files of a running service, which announces new records, and the state that its Scheduler holds."""

    live = True

    def __init__(self, system: System) -> None:
        super().__init__(system.paths, system.registry, system.clock, config=lambda: system.config)
        self._system = system
        self._process = os.getpid()
        self.closed = False

    @property
    def is_copy(self) -> bool:
        """Whether this process was forked from the one that opened the service, and has none of its threads."""
        return os.getpid() != self._process

    def refuse_copy(self) -> None:
        """Raise `NotReady` in a forked process, where nothing would ever answer."""
        if self.is_copy:
            raise NotReady(
                f"The service runs in process {self._process}, and not in this one that was forked from it",
                remedy="Run `tasktrail serve`, and connect each process with a `Client`.",
            )

    def state(self, function: Callable[[SchedulerState, datetime], T]) -> T:
        """Ask the Scheduler, in its own thread. Its state has all commands that were accepted before."""
        now = self.clock.now()
        answer: T = self.ask_scheduler(StateQuery(lambda state: function(state, now)))
        return answer

    def ask_scheduler(self, question: StateQuery | Repetition) -> Any:
        """Ask the Scheduler a question. Raises `NotReady` if it has stopped."""
        self.refuse_copy()
        if self.closed or self._system.health.fatal:
            raise NotReady("The service is stopped", remedy="Start it again.")
        return self._system.scheduler.ask(question, timeout=_COMMIT_WITHIN)

    def settle(self) -> None:
        """Wait until the views have everything that is durable, because the caller may know of any of it.

        Wait also while the log cannot be opened: the service before may have reported what these views lack.
        Raises `ViewsFailed` with the reason if they cannot be brought up or built anew, `NotReady` if it takes long.
        """
        self.refuse_copy()
        if self.closed:
            raise NotReady("The service is closed", remedy="Open it again.")
        self._system.wait_for_views(self._end(), within=VIEWS_WITHIN, trouble_for=VIEWS_TROUBLE_FOR)
        self._wait_until_sound()

    def wait_for_log(self, position: int) -> bool:
        """Wait for the log to reach `position`; false once the service is closed."""
        self.refuse_copy()
        while not self._system.consumers.committed.wait(position, 1.0):
            if self.closed or self._system.health.fatal:
                return False
        return True

    def generation(self) -> int:
        """A number that changes when damaged views have been built anew."""
        return self._system.health.views.generation

    def mend(self, generation: int, error: ViewsFailed) -> bool:
        """Have the Projector build the views anew, unless it has done so since.

        Raises `ViewsFailed` with the reason if that is not possible, and `NotReady` if it takes long.
        """
        self._system.doubt_views(generation, error)
        self._wait_until_sound(error)
        return True

    def _wait_until_sound(self, error: ViewsFailed | None = None) -> None:
        """Wait while the views are checked or built anew, but not longer than it takes to see that they cannot be."""
        began = self.clock.monotonic()
        while not self._system.health.views.wait(min(_LOOK_EVERY, MENDED_WITHIN)):
            waited = self.clock.monotonic() - began
            if (trouble := self._system.health.views_trouble) is not None and waited >= VIEWS_TROUBLE_FOR:
                raise views_behind(self._system.consumers.committed.position, trouble) from error
            if waited >= MENDED_WITHIN:
                raise NotReady(_STILL_MENDED) from error

    def _end(self) -> int:
        """Return where the log ends. Records can be read shortly before they are announced."""
        try:
            return self.log().head().position
        except TasktrailError:  # another program has locked it, perhaps; then no caller can have read more than this
            return self._system.consumers.committed.position


class _Waiter:
    """A one-time mailbox between the Scheduler's thread and the caller's. Lighter than a condition variable."""

    def __init__(self) -> None:
        self._answers: list[Accepted | TasktrailError] | None = None
        self._full = threading.Lock()
        self._full.acquire()

    def set(self, answers: list[Accepted | TasktrailError]) -> None:
        self._answers = answers
        self._full.release()

    def get(self, timeout: float) -> list[Accepted | TasktrailError]:
        if not self._full.acquire(timeout=timeout) or self._answers is None:
            raise NotReady(f"The command was not answered within {timeout:g} s")
        return self._answers


class _Collector:
    """Gathers the answers to one submission and passes them on together. A second answer to a command is ignored."""

    def __init__(self, number: int, reply: Callable[[list[Accepted | TasktrailError]], None]) -> None:
        self._answers: list[Accepted | TasktrailError | None] = [None] * number
        self._missing = number
        self._reply = reply
        self._lock = threading.Lock()
        if not number:
            reply([])

    def slot(self, index: int) -> Callable[[Accepted | TasktrailError], None]:
        return partial(self.put, index)

    def put(self, index: int, answer: Accepted | TasktrailError) -> None:
        with self._lock:
            if self._answers[index] is not None:
                return
            self._answers[index] = answer
            self._missing -= 1
            done = self._missing == 0
        if done:
            self._reply([answer for answer in self._answers if answer is not None])
