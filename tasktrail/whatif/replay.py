"""Replays a recording: the Scheduler's own `step` gets the recorded messages, in virtual time.

Time jumps from one message to the next. At the same moment timers come first, then the others in the log's order.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from heapq import heapify, heappop, heappush

from msgspec.structs import replace

from ..actors.core.messages import Answered, Boot, Close, Commanded, Jumped, Message, Staged, Submit, Tick
from ..actors.core.state import Running, SchedulerState
from ..actors.core.step import resume_from_log, step, tasks_to_load
from ..actors.core.tasks import Tasks
from ..events import CreateTask, Recorded, Started, TaskState, TasktrailError
from ..events.reports import CapacityChanged, Run, Stop
from ..events.system_events import ClockJumped
from .executor import AttemptAction, ReplayExecutor
from .policy import Policy
from .recording import LATE, Arrival, Recording, ServiceKilled, StartExpected, WorkersReady, as_played
from .timeline import Timeline

_GRACE = 0.5
_TELL = 1000
"""Arrivals between two reports of progress."""
_ALL_WINDOWS = timedelta(days=8)
"""Within this time every window opens at least once: windows repeat weekly, and clocks are put forward."""


class Replay:
    """Replays a recording once, under one policy.

    Args:
        recording: the recorded history.
        policy: the policy under which decisions are made.
        listen: whether to find out when stopped attempts were gone. Only under the recorded policy does the log show
            it; later replays of the same recording use what was found.
        new_state: makes the Scheduler's memory from limits and the grace times of types.
    """

    def __init__(
        self,
        recording: Recording,
        policy: Policy,
        *,
        listen: bool = False,
        new_state: Callable[..., SchedulerState] = SchedulerState,
    ) -> None:
        self._recording = recording
        self._policy = policy
        self._listen = listen
        self.timeline = Timeline()
        self.refused = 0
        """Commands of the log that were refused in the replay, because the task had started or was over."""
        self.passed_over: set[int] = set()
        """Tasks that did not fit while others were started ahead of them."""
        self._order: list[tuple[datetime, int, int, Arrival | AttemptAction]] = [
            (arrival.at, arrival.order, -len(recording.arrivals) + number, arrival)
            for number, arrival in enumerate(recording.arrivals)
        ]
        heapify(self._order)
        self._executor = ReplayExecutor(
            recording.attempts, lambda call: heappush(self._order, call), recording.gone_after
        )
        self._known: dict[int, TaskState] = {}
        self._arrived = 0
        self._progress: Callable[[float], None] | None = None
        self._now = recording.began_at
        self._state = new_state(policy.limits, grace=dict.fromkeys(recording.types, _GRACE))

    @property
    def guessed(self) -> int:
        """Attempts whose end is not in the log."""
        return self._executor.guessed

    def play(self, until: datetime | None = None, progress: Callable[[float], None] | None = None) -> Timeline:
        """Play to the end, or until `until`, and return the timeline. `progress` is called with the share done."""
        if self._now is None:
            return self.timeline
        self._progress = progress
        self._begin(self._now)
        busy = self._now
        while (at := self._next_at()) is not None and (until is None or at <= until):
            if self._order or self._state.next_wake(windows=False) is not None:
                busy = at
            elif at > busy + _ALL_WINDOWS:
                break  # every window has opened since, and nothing has started
            self._next_step()
        if until is not None:
            self.timeline.stop(until)
        return self.timeline

    # --- the beginning ------------------------------------------------------------------------------------------

    def _begin(self, now: datetime) -> None:
        state, recording = self._state, self._recording
        for record in recording.before:
            state.apply(record, record.position)
            self.timeline.note(record)
            if isinstance(record.event, Started) and self._is_over(record):
                self._executor.skip((record.task_id, record.life))
        self._policy.set_up(state)
        state.durable.open_keys.clear()
        state.durable.experience.clear()  # the recorded estimates have been corrected already
        state.durable.schedules.by_name.clear()  # their tasks come as recorded
        for task_id, task in state.tasks.items():
            state.tasks[task_id] = replace(task, spec=as_played(task.spec))
        self._known = dict(state.tasks)
        if not recording.before:
            state.closed = recording.starts_with_a_service
            self._set_workers(0 if state.closed else self._policy.slots)
            return
        self.timeline.begin_here(now)
        self._set_workers(0 if recording.starts_with_a_service else self._policy.slots)
        state.closed = not recording.up_at_the_beginning
        if not state.closed:
            self._carry_out(resume_from_log(state, self._take_over(now), now))

    def _set_workers(self, slots: int) -> None:
        there = self._policy.capacity(slots)
        self._state.workers_changed(there.slots, there.offers)

    def _is_over(self, started: Recorded) -> bool:
        """Whether the attempt does not run when the recording begins."""
        return (started.task_id, started.attempt) not in self._recording.running_at_the_beginning

    def _take_over(self, now: datetime) -> dict[int, Running]:
        """The attempts that ran when the recording begins."""
        running = {}
        for task in self._state.tasks.values():
            if task.status == "running":
                since = self._state.durable.jumps.moved(task.started_at or now)
                running[task.id] = Running(task.id, task.attempt, self._state.position, task, since)
                order = _run_of(task)
                self._executor.run(order, task.life, task.spec, since)
        return running

    # --- time ---------------------------------------------------------------------------------------------------

    def _tick_at(self) -> datetime | None:
        wake = None if self._state.closed else self._state.next_wake()
        return None if wake is None else self._recording.timer_seen_at(wake, LATE) or wake

    def _next_at(self) -> datetime | None:
        moments = [at for at in (self._tick_at(), self._order[0][0] if self._order else None) if at is not None]
        return min(moments, default=None)

    def _next_step(self) -> None:
        tick_at = self._tick_at()
        if tick_at is not None and (not self._order or tick_at <= self._order[0][0]):
            self._set_clock(tick_at)
            self._step(Tick())
            return
        at, _, _, item = heappop(self._order)
        self._set_clock(at)
        if isinstance(item, AttemptAction):
            self._state.memory_next = item.live.plan.memory_next  # it followed from samples, which are not recorded
            for report in self._executor.reports(item):
                self._step(report)
        else:
            self._arrive(item)

    def _set_clock(self, at: datetime) -> None:
        self._now = at if self._now is None else max(self._now, at)

    # --- arrivals -----------------------------------------------------------------------------------------------

    def _arrive(self, arrival: Arrival) -> None:
        self._arrived += 1
        if self._progress is not None and not self._arrived % _TELL:
            self._progress(self._arrived / len(self._recording.arrivals))
        match arrival.message:
            case ServiceKilled():
                self._executor.cut_all()
                self._state.closed = True
            case Boot() as boot:
                self._boot(boot)
            case Close() as close:
                self._step(close)
                self._executor.cut_all()
            case WorkersReady():
                self._step(self._policy.capacity(self._policy.slots))
            case CapacityChanged(slots=slots):
                self._step(self._policy.capacity(min(slots, self._policy.slots)))
            case StartExpected(attempt=attempt):
                self._expect(arrival.task_id, attempt)
            case Submit() as submit:
                self._submit(arrival, submit)
            case Jumped(jump=jump):
                self._jump(jump)
            case message:
                self._step(message)

    def _submit(self, arrival: Arrival, submit: Submit) -> None:
        state = self._state
        if isinstance(submit.command, CreateTask):
            state.durable.last_task_id = arrival.task_id - 1
        slots = state.workers.slots
        if arrival.joined:
            state.workers.slots = 0
        self._step(self._policy.apply_to(submit))
        state.workers.slots = slots

    def _jump(self, jump: ClockJumped) -> None:
        """Put the wall clock forward. The actions of attempts come no sooner because of it."""
        by = jump.shows - jump.shown
        self._executor.set_clock(by)
        self._order = [
            (at + by if isinstance(what, AttemptAction) else at, order, number, what)
            for at, order, number, what in self._order
        ]
        heapify(self._order)
        self._set_clock(jump.shows)
        self._step(Jumped(jump))

    def _expect(self, task_id: int, attempt: int) -> None:
        """Note a recorded start. If it needs the end of a stopped attempt, that attempt is reported gone."""
        while self._listen and self._now is not None:
            running = self._state.running.get(task_id)
            stopping = self._executor.stopping()
            if stopping is None or (running is not None and running.attempt >= attempt):
                return
            self._step(self._executor.report_gone(stopping, self._now))

    def _boot(self, boot: Boot) -> None:
        """Start the next service. It would fold the log; here it keeps this state, less what only memory held."""
        state = self._state
        self._executor.cut_all()
        for running in list(state.running.values()):
            state.release(running)
        state.closed = state.draining = False
        state.workers.slots = 0
        state.overtaken.clear()
        state.unblocked_at.clear()
        for task in list(state.tasks.values()):
            for other in (*task.spec.depends_on, *self._ancestors(task)):
                state.tasks.setdefault(other, self._known[other])
        state.queue.wake_all()
        state.tasks = Tasks(state.tasks[task_id] for task_id in sorted(state.tasks))
        self._step(boot)

    def _ancestors(self, task: TaskState) -> Iterator[int]:
        while (parent := task.spec.parent_task_id) is not None:
            yield parent
            task = self._known[parent]

    # --- steps --------------------------------------------------------------------------------------------------

    def _step(self, message: Message) -> None:
        now, state = self._now, self._state
        assert now is not None
        while missing := list(tasks_to_load(state, message)):
            for task_id in missing:
                state.load(self._known[task_id])
        self._carry_out(step(state, message, now))

    def _carry_out(self, staged: Staged) -> None:
        state, now = self._state, self._now
        assert now is not None
        touched: set[int] = set()
        for fact in staged.facts:
            self.timeline.note(fact)
            if fact.task_id:
                touched.add(fact.task_id)
        for task_id in touched:
            self._known[task_id] = state.tasks[task_id]
        for effect in staged.effects:
            match effect:
                case Commanded(order=Run() as run):
                    task = self._known[run.task_id]
                    self._executor.run(run, task.life, task.spec, now)
                case Commanded(order=Stop() as stop):
                    self._executor.stop(stop, now, draining=state.draining)
                case Answered(answer=TasktrailError()):
                    self.refused += 1
        self.passed_over.update(state.overtaken)
        state.forget_finished(touched)


def _run_of(task: TaskState) -> Run:
    spec = task.spec
    return Run(
        task.id,
        task.attempt,
        spec.type,
        spec.input_file,
        spec.output_file,
        spec.options,
        task.resume_from,
        "",
        grace=_GRACE,
    )
