"""The Scheduler actor: everything reported is durable before, and a failed commit is unknown, never lost."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Archive, Boot, Close, Delivered, Forget, Intake, Sampled, Submit, Tick
from tasktrail.actors.core.resources import MachineSample
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.messages import PING, PONG, Committed, Orders, StateQuery, Ticket
from tasktrail.actors.scheduler import Scheduler, _WaitingMessages
from tasktrail.actors.snapshots import loader
from tasktrail.events import (
    Accepted,
    Answer,
    CancelTask,
    Checkpoint,
    Command,
    Completed,
    Created,
    CreateGraph,
    CreateTask,
    Fact,
    Failed,
    GraphTask,
    Progressed,
    Recorded,
    RetryTask,
    TasktrailError,
)
from tasktrail.events.clock import Clock, SystemClock
from tasktrail.events.commands import digest
from tasktrail.events.errors import (
    ChangedMeanwhile,
    CommandIdReused,
    DiskFailed,
    Fenced,
    LogCorrupt,
    LogFull,
    LogGone,
    LogNotWritable,
    OutcomeUnknown,
    TaskForgotten,
    UnknownTask,
    UnusableOrder,
)
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.stubs import digest_of
from tasktrail.events.ranges import to_ranges
from tasktrail.events.recorded import Stub, timestamp
from tasktrail.events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProgressed,
    CapacityChanged,
    Grant,
    PublishWanted,
    Run,
    Saved,
    Stop,
)
from tasktrail.events.system_events import (
    ClockJumped,
    DeliveryAttempted,
    RetentionRule,
    SegmentArchived,
    TasksForgotten,
)
from tasktrail.events.values import MAX_INTEGER

WITHIN = 10


class TroubledLog(MemoryEventLog):
    """A log that counts its commits, and whose next appends can fail, before or after they were written."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: list[tuple[BaseException, bool]] = []
        self.commits = 0
        self.full: BaseException | None = None
        self.unreadable: BaseException | None = None
        self.reads = 0
        self.read_tasks: list[int] = []
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> "TroubledLog":
        return self

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        self.reads += 1
        return super().read(after, limit)

    def read_task(self, task_id: int, *, adjusted: bool = False) -> list[Recorded]:
        self.read_tasks.append(task_id)
        return super().read_task(task_id, adjusted=adjusted)

    def answer(self, command_id: str) -> Answer | None:
        if self.unreadable is not None:
            raise self.unreadable
        return super().answer(command_id)

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        self.entered.set()
        assert self.gate.wait(WITHIN)
        if self.full is not None:
            raise self.full
        if self.trouble:
            error, happened = self.trouble.pop(0)
            if happened:
                super().append(facts, answers, expected=expected)
            raise error
        self.commits += 1
        return super().append(facts, answers, expected=expected)


class House:
    """A Scheduler and the actors that it talks to."""

    def __init__(
        self,
        clock: Clock | None = None,
        *,
        log: TroubledLog | None = None,
        settle: bool = True,
        outlived: bool = False,
        fatal: list[BaseException] | None = None,
    ) -> None:
        self.log = log or TroubledLog()
        self.troubles: list[TasktrailError | None] = []
        self.orders: list[Any] = []
        self.committed: list[Recorded] = []
        self.fatal: list[BaseException] = [] if fatal is None else fatal
        self.ordered = threading.Condition()
        self.ref = Scheduler.start(
            open_log=self.log.open,
            read_log=lambda: self.log,
            new_state=lambda: SchedulerState(Limits(max_concurrent=4), grace={"noop": 0.5}, outlived=outlived),
            boot=lambda _log: Boot(version="1", epoch=1, pid=1, host="here"),
            clock=clock or SystemClock(),
            order=self._order,
            publish=lambda message: self.publish(message),  # noqa: PLW0108 - tests put another in its place
            on_fatal=self.fatal.append,
            on_trouble=self.troubles.append,
        )
        if settle:
            self.settle()

    def _order(self, message: Orders) -> None:
        with self.ordered:
            self.orders += message.orders
            self.ordered.notify_all()

    def publish(self, message: Committed) -> None:
        self.committed += message.records

    def settle(self) -> None:
        assert self.ref.ask(PING, timeout=WITHIN) == PONG

    def send(self, *commands: Command) -> list["Promise"]:
        """Send commands as one message."""
        promises = [Promise() for _ in commands]
        self.ref.tell(
            [
                Submit(command, Intake(), Ticket(promise.set, command.command_id, digest(command)))
                for command, promise in zip(commands, promises, strict=True)
            ]
        )
        return promises

    def settled(self, condition: Callable[[], bool]) -> bool:
        """Return whether a condition comes true while the Scheduler continues."""
        pause = threading.Event()
        for _ in range(1000):
            self.settle()
            if condition():
                return True
            pause.wait(0.01)
        return False

    def state(self, look: Callable[[SchedulerState], Any]) -> Any:
        return self.ref.ask(StateQuery(look), timeout=WITHIN)


class Promise:
    """An answer to come."""

    def __init__(self) -> None:
        self._there = threading.Event()
        self._answer: Accepted | TasktrailError | None = None

    def set(self, answer: Accepted | TasktrailError) -> None:
        if not self._there.is_set():
            self._answer = answer
            self._there.set()

    @property
    def given(self) -> bool:
        return self._there.is_set()

    def get(self) -> Any:
        assert self._there.wait(WITHIN), "never answered"
        return self._answer


@pytest.fixture
def house() -> Iterator[House]:
    made = House()
    yield made
    made.log.gate.set()
    made.ref.stop(timeout=WITHIN)


def create(command_id: str, **fields: Any) -> CreateTask:
    return CreateTask(type="noop", command_id=command_id, **fields)


def test_consumers_are_told_of_a_commit_before_those_who_waited_for_it(house: House) -> None:
    """The answered caller may ask for that position at once."""
    told: list[bool] = []

    def reply(answer: Accepted | TasktrailError) -> None:
        told.append(isinstance(answer, Accepted) and house.committed[-1].position >= answer.position)

    command = create("c")
    house.ref.tell(Submit(command, Intake(), Ticket(reply, "c", digest(command))))
    house.settle()
    assert told == [True]


def test_commands_of_one_message_share_a_commit(house: House) -> None:
    before = house.log.commits
    answers = [promise.get() for promise in house.send(*(create(f"c{n}") for n in range(50)))]
    assert [answer.task_id for answer in answers] == list(range(1, 51))
    assert house.log.commits == before + 1


def test_commands_that_arrive_during_a_commit_share_the_next(house: House) -> None:
    house.log.entered.clear()
    house.log.gate.clear()
    first = house.send(create("first"))
    assert house.log.entered.wait(WITHIN)
    before = house.log.commits
    later = [house.send(create(f"later{n}"))[0] for n in range(20)]
    house.log.gate.set()
    for promise in (*first, *later):
        assert isinstance(promise.get(), Accepted)
    assert house.log.commits == before + 2


def test_nobody_is_told_before_the_commit(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.settle()
    house.log.entered.clear()
    house.log.gate.clear()
    (promise,) = house.send(create("c"))
    assert house.log.entered.wait(WITHIN)
    assert not promise.given
    assert house.orders == []
    assert all(record.task_id == 0 for record in house.committed)
    house.log.gate.set()
    assert isinstance(promise.get(), Accepted)


def test_an_idle_worker_gets_the_task_in_the_commit_that_creates_it(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.settle()
    before = house.log.commits
    house.send(create("c"))[0].get()
    assert house.log.commits == before + 1
    assert [type(order) for order in house.orders] == [Run]


def test_a_repeated_command_gets_the_first_answer_and_has_no_second_effect(house: House) -> None:
    first = house.send(create("same"))[0].get()
    again = [
        promise.get() for promise in house.send(create("same", actor="another", reason="impatient"), create("same"))
    ]
    assert again == [first, first]
    assert house.state(lambda state: state.durable.last_task_id) == 1


def test_a_repetition_inside_one_batch_is_found_too(house: House) -> None:
    one, two = (promise.get() for promise in house.send(create("same"), create("same")))
    assert one == two


def test_a_command_that_found_its_task_to_be_there_is_answered_alike_when_repeated(house: House) -> None:
    """In the batch, after the commit, and after the task is over."""
    first = house.send(create("first", unique="k", held=True))[0].get()
    graph = CreateGraph(
        tasks=(GraphTask(name="new", type="noop"), GraphTask(name="old", type="noop", unique="k")), command_id="graph"
    )
    again = create("again", unique="k")
    answers = [promise.get() for promise in house.send(again, graph, again, graph)]
    assert answers[:2] == answers[2:]
    assert (answers[0].task_id, answers[0].existing) == (first.task_id, True)
    assert (answers[1].task_id, answers[1].existing, answers[1].ids) == (2, False, {"new": 2, "old": first.task_id})
    house.send(CancelTask(task_id=first.task_id, command_id="over"))[0].get()
    assert [promise.get() for promise in house.send(again, graph)] == answers[:2]
    assert house.send(create("first", unique="k", held=True))[0].get() == first
    assert house.state(lambda state: state.durable.last_task_id) == 2


def test_a_command_id_cannot_be_used_for_another_command(house: House) -> None:
    house.send(create("same"))[0].get()
    assert isinstance(house.send(create("same", priority=3))[0].get(), CommandIdReused)


@pytest.mark.parametrize(("only_user", "named"), [(None, True), (1, True), (2, False)])
def test_whoever_knows_the_tasks_of_one_user_is_not_told_which_other_task_had_the_id(
    house: House, only_user: int | None, *, named: bool
) -> None:
    task_id = house.send(create("al-3", user_id=1, held=True))[0].get().task_id
    promise, command = Promise(), create("al-3", user_id=only_user or 0)
    house.ref.tell(Submit(command, Intake(), Ticket(promise.set, "al-3", digest(command)), only_user))
    answer = promise.get()
    assert isinstance(answer, CommandIdReused)
    assert (f"task {task_id}" in answer.message) is named


def test_a_refusal_records_nothing_and_is_not_remembered(house: House) -> None:
    head = house.log.head()
    refused = house.send(CancelTask(task_id=1, command_id="x"))[0].get()
    assert isinstance(refused, UnknownTask)
    assert house.log.head() == head
    house.send(create("c"))[0].get()
    assert isinstance(house.send(CancelTask(task_id=1, command_id="x"))[0].get(), Accepted)


@pytest.mark.parametrize("happened", [False, True])
def test_a_failed_commit_is_unknown_and_the_repetition_has_one_effect(house: House, happened: bool) -> None:  # noqa: FBT001
    """An error of COMMIT can mean that it happened. Either way the client repeats, and there is one task."""
    house.log.trouble.append((OutcomeUnknown("the disk hiccuped"), happened))
    assert isinstance(house.send(create("c"))[0].get(), OutcomeUnknown)
    answer = _repeat_until_accepted(house, create("c"))
    assert answer.task_id == 1
    assert [type(r.event).__name__ for r in house.log.read() if r.task_id == 1] == ["Created"]


def _repeat_until_accepted(house: House, command: Command) -> Accepted:
    for _ in range(1000):
        answer = house.send(command)[0].get()
        if isinstance(answer, Accepted):
            return answer
        threading.Event().wait(0.01)
    raise AssertionError("the log never came back")


def test_a_first_commit_that_breaks_interrupts_no_attempt_that_may_live() -> None:
    first = House(outlived=True)
    first.ref.tell(CapacityChanged(1))
    task_id = first.send(create("a"))[0].get().task_id
    first.settle()
    first.ref.stop(timeout=WITHIN)
    first.log.trouble = [(RuntimeError("planted"), False)]

    second = House(log=first.log, outlived=True)

    assert second.state(lambda state: [entry.sought for entry in state.running.values()]) == [True]
    assert second.state(lambda state: state.tasks[task_id].status) == "running"
    second.ref.stop(timeout=WITHIN)


class ShiftedClock(SystemClock):
    """A wall clock that can be set, and time that can pass."""

    shift = timedelta(0)
    passed = 0.0

    def now(self) -> datetime:
        return super().now() + self.shift + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


def test_a_failed_commit_is_tried_again_although_the_clock_was_set_back() -> None:
    clock = ShiftedClock()
    house = House(clock)
    house.log.trouble.append((LogFull("no room"), False))
    assert isinstance(house.send(create("c"))[0].get(), OutcomeUnknown)
    clock.shift = timedelta(hours=-1)
    assert _repeat_until_accepted(house, create("c")).task_id == 1
    house.ref.stop(timeout=WITHIN)


DELIVERY = DeliveryAttempted(notice_id="n", task_id=1, channel="email", target="a@b.test", ok=True)
LIMITED = {"timeout": 1800.0, "heartbeat_timeout": 600.0, "total_timeout": 1800.0}


def _run_with_limits(house: House) -> None:
    """Run task 1, with each of its limits shorter than the coming jumps."""
    house.ref.tell(CapacityChanged(1))
    house.send(create("limited", **LIMITED))[0].get()
    house.settle()


def _ends(house: House) -> list[str]:
    """Return the errors of task 1 after a check of the timers."""
    house.ref.tell(Tick())
    house.settle()
    return [record.event.error for record in house.log.read_task(1) if isinstance(record.event, Failed)]


@pytest.mark.parametrize("hours", [1, 24, -1])
def test_a_jump_of_the_wall_clock_ends_no_attempt(hours: int) -> None:
    clock = ShiftedClock()
    house = House(clock)
    _run_with_limits(house)
    clock.shift = timedelta(hours=hours)
    assert _ends(house) == []
    jumps = [record.event for record in house.log.read() if isinstance(record.event, ClockJumped)]
    assert [round((jump.shows - jump.shown) / timedelta(seconds=1)) for jump in jumps] == [hours * 3600]
    house.ref.stop(timeout=WITHIN)


def test_time_that_really_passes_ends_an_attempt_however_the_wall_clock_is_set() -> None:
    clock = ShiftedClock()
    house = House(clock)
    _run_with_limits(house)
    clock.shift = timedelta(hours=-5)
    assert _ends(house) == []
    clock.passed = 601.0
    assert _ends(house) == []
    clock.passed += 1.0  # a silent attempt is looked at twice
    assert len(_ends(house)) == 1
    house.ref.stop(timeout=WITHIN)


@pytest.mark.parametrize("happened", [False, True])
def test_a_jump_that_could_not_be_recorded_at_once_ends_no_attempt_either(*, happened: bool) -> None:
    clock = ShiftedClock()
    house = House(clock)
    _run_with_limits(house)
    house.log.trouble.append((OutcomeUnknown("lost the answer"), happened))
    clock.shift = timedelta(hours=1)
    assert _ends(house) == []
    _repeat_until_accepted(house, create("after"))
    assert _ends(house) == []
    assert len([record for record in house.log.read() if isinstance(record.event, ClockJumped)]) == 1
    house.ref.stop(timeout=WITHIN)


def test_a_sign_of_life_that_comes_while_the_log_cannot_be_written_counts() -> None:
    """A disk that is full for longer than an attempt may be silent ends no attempt that sends heartbeats."""
    clock = ShiftedClock()
    house = House(clock)
    _run_with_limits(house)
    clock.passed = 500.0
    house.log.trouble += [(LogFull("no room"), False)] * 2
    house.ref.tell([AttemptBeat(1, 1), Delivered(DELIVERY)])
    house.settle()
    clock.passed = 610.0
    house.settle()
    _repeat_until_accepted(house, create("after"))
    assert _ends(house) == []
    house.ref.stop(timeout=WITHIN)


def test_a_small_difference_of_the_clocks_is_recorded_nowhere() -> None:
    clock = ShiftedClock()
    house = House(clock)
    house.settle()
    clock.shift = timedelta(seconds=0.9)
    house.ref.tell(Tick())
    house.settle()
    assert not [record for record in house.log.read() if isinstance(record.event, ClockJumped)]
    house.ref.stop(timeout=WITHIN)


def test_reports_of_the_executor_survive_a_full_disk(house: House) -> None:
    """An end that a worker reports while the log cannot be written is recorded once it can."""
    house.ref.tell(CapacityChanged(1))
    house.send(create("c"))[0].get()
    house.log.trouble += [(LogFull("no room"), False)] * 2
    house.ref.tell([AttemptEnded(1, 1, "completed", {"n": 1})])
    with pytest.raises(OutcomeUnknown):
        raise house.send(create("meanwhile"))[0].get()
    _repeat_until_accepted(house, create("after"))
    names = [type(record.event).__name__ for record in house.log.read_task(1)]
    assert names == ["Created", "Started", "Completed"]


def test_who_wants_an_archive_recorded_is_answered_at_once_while_the_log_cannot_be_written(house: House) -> None:
    """If it were kept, it would be recorded after its sender has given up, and has perhaps begun anew."""
    house.log.trouble += [(LogFull("no room"), False)] * 2
    assert isinstance(house.send(create("c"))[0].get(), OutcomeUnknown)
    promise = Promise()
    event = SegmentArchived(first=1, last=9, newest_task=0, root="", sha256="", size=0)
    house.ref.tell(Archive(event=event, actor="somebody", token=Ticket(promise.set, "", b"", fresh=True)))
    assert isinstance(promise.get(), OutcomeUnknown)
    _repeat_until_accepted(house, create("after"))
    assert not [record for record in house.log.read() if isinstance(record.event, SegmentArchived)]


def _to_forget(house: House, *tasks: int) -> tuple[Forget, Promise]:
    promise = Promise()
    gone = [record for record in house.log.read() if record.task_id in tasks]
    left = ((one.position, one.task_id, one.version, timestamp(one.recorded_at), one.hash) for one in gone)
    positions = to_ranges(one.position for one in gone)
    rule = RetentionRule(older_than=0.0)
    event = TasksForgotten(tasks=to_ranges(tasks), positions=positions, stubs=digest_of(left), rule=rule)
    found = {task_id: loader(house.log)(task_id, MAX_INTEGER) for task_id in tasks}
    return Forget(tasks=found, event=event, actor="ann", token=Ticket(promise.set, "", b"", fresh=True)), promise


def test_what_comes_right_behind_what_was_forgotten_finds_it_gone(house: House) -> None:
    """The commands are in one message, so that no other decision is involved in the commit."""
    house.send(create("c", held=True), CancelTask(task_id=1, command_id="x"))[1].get()
    forget, _ = _to_forget(house, 1)
    promises = [Promise() for _ in range(4)]
    first, second, retried, dependent = (Ticket(one.set, str(n), b"", fresh=True) for n, one in enumerate(promises))
    house.ref.tell(
        [
            replace(forget, token=first),
            replace(forget, token=second),
            Submit(RetryTask(task_id=1, force=True), Intake(), retried),
            Submit(create("d", depends_on=(1,)), Intake(), dependent),
        ]
    )
    assert isinstance(promises[0].get(), Accepted)
    assert [type(one.get()) for one in promises[1:]] == [TaskForgotten] * 3
    assert house.fatal == []
    assert [type(one.event) for one in house.log.read_task(1)] == [Stub, Stub]


def test_what_was_read_of_tasks_that_are_forgotten_is_not_read_once_more(house: House) -> None:
    """In archives that takes seconds for hundreds, and everything waits for it."""
    for task_id in (1, 2):
        house.send(create(f"c{task_id}", held=True), CancelTask(task_id=task_id, command_id=f"x{task_id}"))[1].get()
    forget, promise = _to_forget(house, 1, 2)
    house.log.read_tasks.clear()
    house.ref.tell(forget)
    assert isinstance(promise.get(), Accepted)
    assert house.log.read_tasks == []


def test_a_task_that_went_on_since_it_was_read_is_not_forgotten(house: House) -> None:
    for task_id in (1, 2):
        house.send(create(f"c{task_id}", held=True), CancelTask(task_id=task_id, command_id=f"x{task_id}"))[1].get()
    forget, promise = _to_forget(house, 1, 2)
    house.send(RetryTask(task_id=2, force=True, command_id="r"), CancelTask(task_id=2, command_id="y"))[1].get()
    house.log.read_tasks.clear()
    house.ref.tell(forget)
    assert isinstance(promise.get(), ChangedMeanwhile)
    assert house.log.read_tasks == [2]
    assert not any(isinstance(record.event, Stub) for record in house.log.read())


def test_a_start_is_ordered_once_although_its_commit_was_told_as_failed(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.settle()
    house.log.trouble.append((OutcomeUnknown("lost the answer"), True))
    house.send(create("c"))[0].get()
    assert house.orders == []
    assert _repeat_until_accepted(house, create("c")).task_id == 1
    house.settle()
    assert [type(record.event).__name__ for record in house.log.read_task(1)] == ["Created", "Started"]
    assert [(type(order), order.attempt) for order in house.orders] == [(Run, 1)]
    assert [record.position for record in house.committed] == list(range(1, house.log.head().position + 1))


def test_a_refusal_that_rests_on_what_was_not_written_is_unknown_too(house: House) -> None:
    house.send(create("c"))[0].get()
    house.log.trouble.append((LogFull("no room"), False))
    cancels = (CancelTask(task_id=1, command_id="x"), CancelTask(task_id=1, command_id="y"))
    assert [type(promise.get()) for promise in house.send(*cancels)] == [LogFull, LogFull]
    assert [type(record.event).__name__ for record in house.log.read_task(1)] == ["Created"]


# --- while the log cannot be written ---------------------------------------------------------------------------------


@pytest.fixture
def stuck(house: House) -> House:
    """Run a task, and create another one that cannot be recorded until `room`."""
    house.ref.tell(CapacityChanged(1))
    house.send(create("runs"))[0].get()
    house.log.full = LogFull("no room")
    assert isinstance(house.send(create("held"))[0].get(), LogFull)
    return house


def room(house: House) -> None:
    """Make room again, which the next try finds."""
    house.log.full = None
    assert isinstance(_repeat_until_accepted(house, create("after")), Accepted)
    house.settle()


def test_a_batch_that_cannot_be_written_costs_no_fold(stuck: House) -> None:
    """With a million waiting tasks a fold takes half a minute and a gigabyte."""
    memory = stuck.state(id)
    folds = stuck.log.reads
    room(stuck)
    assert stuck.state(id) == memory
    assert stuck.log.reads == folds
    assert [record.task_id for record in stuck.committed if isinstance(record.event, Created)] == [1, 2, 3]


def test_new_commands_are_refused_at_once_and_take_no_memory(stuck: House) -> None:
    answers = [promise.get() for promise in stuck.send(*(create(f"c{n}") for n in range(500)))]
    assert {type(answer) for answer in answers} == {LogFull}
    assert stuck.state(lambda state: state.durable.last_task_id) == 2
    room(stuck)
    assert stuck.state(lambda state: state.durable.last_task_id) == 3


def test_a_command_of_the_batch_that_waits_is_not_staged_twice(stuck: House) -> None:
    assert isinstance(stuck.send(create("held"))[0].get(), LogFull)
    stuck.log.full = None
    assert _repeat_until_accepted(stuck, create("held")).task_id == 2
    assert [record.command_id for record in stuck.log.read() if isinstance(record.event, Created)] == ["runs", "held"]


def test_questions_are_answered_meanwhile_and_their_faults_are_their_own(stuck: House) -> None:
    memory = stuck.state(id)
    with pytest.raises(KeyError):
        stuck.state(lambda state: state.tasks[999])
    assert stuck.state(lambda state: (id(state), len(state.running))) == (memory, 1)


def test_nothing_that_a_running_attempt_says_is_lost_and_nothing_interrupts_it(stuck: House) -> None:
    checkpoint = Checkpoint(processed_frames=7)
    stuck.ref.tell([AttemptProgressed(1, 1, float(percent)) for percent in range(50)])
    stuck.ref.tell([AttemptCheckpointed(1, 1, checkpoint, 50.0), PublishWanted(1, 1)])
    stuck.settle()
    assert not [order for order in stuck.orders if isinstance(order, Saved | Grant)]
    room(stuck)
    assert [type(order) for order in stuck.orders] == [Run, Saved, Grant]
    stuck.ref.tell([AttemptEnded(1, 1, "completed")])
    stuck.settle()
    names = [type(record.event).__name__ for record in stuck.log.read_task(1)]
    assert names == ["Created", "Started", "Progressed", "Checkpointed", "Completed"]


def test_what_repeats_itself_is_kept_once(stuck: House) -> None:
    for percent in range(1000):
        stuck.ref.tell([AttemptProgressed(1, 1, percent / 10), AttemptBeat(1, 1), Sampled(MachineSample())])
        stuck.ref.tell(Delivered(DELIVERY))
    room(stuck)
    progress = [record.event.progress for record in stuck.log.read_task(1) if isinstance(record.event, Progressed)]
    assert progress == [99.9]
    assert len([record for record in stuck.log.read() if isinstance(record.event, DeliveryAttempted)]) == 1


def test_what_is_kept_does_not_grow_with_what_repeats_itself() -> None:
    kept = _WaitingMessages()
    for percent in range(1000):
        for message in (
            AttemptProgressed(1, 1, percent / 10),
            AttemptBeat(1, 1),
            Sampled(MachineSample()),
            Delivered(DELIVERY),
        ):
            kept.add(message)
    kept.add(AttemptEnded(1, 1, "completed"))
    assert [type(message).__name__ for message in kept.take()] == [
        *("AttemptProgressed", "AttemptBeat", "Sampled", "Delivered"),
        "AttemptEnded",
    ]
    assert list(kept.take()) == []


def test_trouble_and_its_end_are_told(stuck: House) -> None:
    assert {type(trouble) for trouble in stuck.troubles} == {LogFull}
    room(stuck)
    assert stuck.troubles[-1] is None
    assert stuck.fatal == []


def test_a_fault_that_trying_again_would_not_cure_is_dropped_with_its_batch(house: House) -> None:
    """Such as a value that cannot be encoded. Held, it would keep everything else out for ever."""
    house.log.trouble.append((OverflowError("too large an integer"), False))
    assert isinstance(house.send(create("poison"))[0].get(), OutcomeUnknown)
    assert _repeat_until_accepted(house, create("c")).task_id == 1
    assert [record.command_id for record in house.log.read() if isinstance(record.event, Created)] == ["c"]


def test_a_batch_that_is_there_although_it_failed_does_not_make_a_replaced_service_give_orders(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.settle()
    house.log.trouble += [(OutcomeUnknown("lost the answer"), True), (Fenced("somebody newer"), False)]
    house.send(create("c"))[0].get()
    assert house.settled(lambda: bool(house.fatal))
    assert isinstance(house.fatal[0], Fenced)
    assert house.orders == []
    assert isinstance(house.send(create("d"))[0].get(), Fenced)


def test_a_deleted_log_ends_the_service(house: House) -> None:
    house.log.trouble.append((LogGone("log.db was deleted"), False))
    assert isinstance(house.send(create("c"))[0].get(), LogGone)
    assert isinstance(house.fatal[0], LogGone)


def test_a_log_that_cannot_be_read_for_a_moment_refuses_one_command_and_costs_no_fold(house: House) -> None:
    memory = house.state(id)
    house.log.unreadable = DiskFailed("log.db cannot be read")
    assert isinstance(house.send(create("c"))[0].get(), DiskFailed)
    house.log.unreadable = None
    assert isinstance(house.send(create("c"))[0].get(), Accepted)
    assert house.state(id) == memory


def test_a_service_that_stops_while_the_log_cannot_be_written_stops(stuck: House) -> None:
    stuck.ref.tell(Close())
    assert stuck.ref.stop(timeout=WITHIN)
    assert [type(record.event).__name__ for record in stuck.log.read_task(1)] == ["Created", "Started"]


class ShutLog(TroubledLog):
    """A log that at first cannot be opened for writing."""

    def __init__(self) -> None:
        super().__init__()
        self.shut: BaseException | None = LogFull("no room")

    def open(self) -> "ShutLog":
        if self.shut is not None:
            raise self.shut
        return self


def _log_of_one_task() -> ShutLog:
    log = ShutLog()
    log.append([Fact(1, 1, Created(type="noop"), datetime.now(UTC), life=1)], expected=0)
    return log


def test_a_start_without_room_answers_questions_and_goes_on_by_itself_when_there_is_room() -> None:
    log = _log_of_one_task()
    house = House(log=log)
    assert house.state(lambda state: (list(state.tasks), len(state.queue))) == ([1], 1)
    house.ref.tell(CapacityChanged(1))
    assert isinstance(house.send(create("c"))[0].get(), LogFull)
    assert log.head().position == 1
    log.shut = None
    assert _repeat_until_accepted(house, create("c")).task_id == 2
    assert [type(record.event).__name__ for record in log.read()][:3] == ["Created", "ServiceStarted", "Started"]
    assert [order.task_id for order in house.orders] == [1]
    assert house.fatal == []
    house.ref.stop(timeout=WITHIN)


@pytest.mark.parametrize(
    "error", [LogNotWritable("not yours"), LogCorrupt("damaged"), LogGone("not there"), UnusableOrder(2, "no zone")]
)
def test_a_start_that_only_a_person_can_help_fails_with_its_reason(error: TasktrailError) -> None:
    log = _log_of_one_task()
    log.shut = error
    fatal: list[BaseException] = []
    house = House(log=log, settle=False, fatal=fatal)
    assert house.ref.actor_stopped.wait(WITHIN)
    assert fatal == [error]


def test_an_attempt_is_stopped_when_its_cancel_turns_out_to_be_in_the_log(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.send(create("c"))[0].get()
    house.log.trouble.append((OutcomeUnknown("lost the answer"), True))
    assert isinstance(house.send(CancelTask(task_id=1, command_id="x"))[0].get(), OutcomeUnknown)
    _repeat_until_accepted(house, create("after"))
    house.settle()
    assert house.orders[1:] == [Stop(1, 1)]


def test_a_message_that_breaks_a_rule_does_not_end_the_scheduler(house: House) -> None:
    house.ref.tell(Submit("nonsense", Intake(), Ticket(lambda _answer: None, "n", b"")))  # type: ignore[arg-type]
    answer = _repeat_until_accepted(house, create("c"))
    assert answer.task_id == 1


def test_a_message_at_fault_takes_nothing_of_its_list_along(house: House) -> None:
    """Reports come in lists. One that cannot be handled must not lose the ends before and after it."""
    house.ref.tell(CapacityChanged(3))
    for number in range(3):
        house.send(create(f"c{number}"))[0].get()
    broken = AttemptEnded([], 1, "completed")  # type: ignore[arg-type]  # what no executor may say
    house.ref.tell([AttemptEnded(1, 1, "completed"), broken, AttemptEnded(2, 1, "completed")])
    _repeat_until_accepted(house, create("after"))
    house.settle()
    ends = [type(house.log.read_task(task_id)[-1].event).__name__ for task_id in (1, 2, 3)]
    assert ends == ["Completed", "Completed", "Started"]


def test_an_unknown_message_is_survived(house: House) -> None:
    house.ref.tell(object())
    house.settle()
    assert isinstance(_repeat_until_accepted(house, create("c")), Accepted)


def test_a_fenced_scheduler_gives_up(house: House) -> None:
    house.log.trouble.append((Fenced("somebody newer"), False))
    assert isinstance(house.send(create("c"))[0].get(), TasktrailError)
    house.settle()
    assert isinstance(house.fatal[0], Fenced)


def test_a_fenced_scheduler_orders_nothing_although_it_has_nothing_to_record(house: House) -> None:
    """A request to publish leads to an order and to no record."""
    house.ref.tell(CapacityChanged(1))
    house.send(create("a"))[0].get()
    house.settle()
    house.log.trouble.append((Fenced("somebody newer"), False))
    house.ref.tell(PublishWanted(1, 1))
    house.settle()
    assert not [order for order in house.orders if isinstance(order, Grant)]
    assert isinstance(house.fatal[0], Fenced)


def test_a_finished_task_leaves_memory_and_is_loaded_when_somebody_asks(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.send(create("c", max_retries=5, retry_delay=0.0))[0].get()
    house.send(CancelTask(task_id=1, command_id="x"))[0].get()
    house.ref.tell([AttemptEnded(1, 1, "stopped")])
    house.settle()
    assert house.state(lambda state: dict(state.tasks)) == {}
    assert isinstance(house.send(RetryTask(task_id=1, command_id="y"))[0].get(), Accepted)
    assert house.state(lambda state: state.tasks[1].attempt) == 2


def test_after_close_nothing_is_recorded(house: House) -> None:
    house.ref.tell(Close())
    assert isinstance(house.send(create("c"))[0].get(), TasktrailError)
    assert type(list(house.log.read())[-1].event).__name__ == "ServiceStopped"


def test_a_report_that_cannot_be_written_costs_no_other_one() -> None:
    """It is dropped; the attempt that it ended is found missing when slots are compared with processes."""
    clock = ShiftedClock()
    house = House(clock)
    house.ref.tell(CapacityChanged(2))
    for number, promise in enumerate(house.send(create("1"), create("2")), 1):
        assert promise.get().task_id == number
    with capture_logs() as logs:
        poison = AttemptEnded(1, 1, "failed", error="half a character: \udc80")
        house.ref.tell([poison, AttemptEnded(2, 1, "completed")])
        house.settle()
        clock.passed = 2.0  # the next try to record
        house.settle()
    assert "a report cannot be recorded" in {entry["event"] for entry in logs}
    assert isinstance(house.log.read_task(2)[-1].event, Completed)
    assert house.state(lambda state: set(state.running)) == {1}
    house.ref.stop(timeout=WITHIN)


def test_why_the_log_cannot_be_looked_after_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ShiftedClock()
    house = House(clock)
    failures = ["full", "full", "full", "fuller", "", "full"]

    def fail() -> None:
        if failure := failures.pop(0):
            raise LogFull(failure)

    monkeypatch.setattr(house.log, "maintain", fail)
    with capture_logs() as logs:
        while failures:
            clock.passed += 2.0
            house.ref.ask(Tick(), timeout=WITHIN)
    told = [entry["error"].split(".")[0] for entry in logs if entry["event"] == "the log could not be looked after"]
    assert told == ["full", "fuller", "full"]
    house.ref.stop(timeout=WITHIN)


def test_a_listener_that_breaks_costs_no_other_what_it_waits_for(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """All others get the records, orders and answers of the commit."""
    house.ref.tell(CapacityChanged(2))
    monkeypatch.setattr(house, "publish", lambda _: 1 / 0)
    broken = Promise()
    monkeypatch.setattr(broken, "set", lambda _: 1 / 0)
    command = create("broken")
    fine = Promise()
    other = create("fine")
    with capture_logs() as logs:
        house.ref.tell(
            [
                Submit(command, Intake(), Ticket(broken.set, "broken", digest(command))),
                Submit(other, Intake(), Ticket(fine.set, "fine", digest(other))),
            ]
        )
        assert fine.get().task_id == 2
    assert "somebody could not be told" in {entry["event"] for entry in logs}
    assert [order.task_id for order in house.orders if isinstance(order, Run)] == [1, 2]
