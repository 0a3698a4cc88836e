"""The Scheduler actor: what is told is durable before, and what cannot be committed is unknown, never lost."""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from tasktrail.actors.base import PING, PONG
from tasktrail.actors.core.admission import Limits
from tasktrail.actors.core.messages import Boot, Close, Delivered, Intake, Submit, Tick
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.messages import Committed, Orders, Query, Ticket
from tasktrail.actors.scheduler import Scheduler
from tasktrail.events import (
    Accepted,
    Answer,
    CancelTask,
    Command,
    CreateTask,
    Fact,
    Failed,
    Recorded,
    RetryTask,
    TasktrailError,
)
from tasktrail.events.clock import Clock, SystemClock
from tasktrail.events.digest import digest
from tasktrail.events.errors import CommandIdReused, Fenced, LogFull, OutcomeUnknown, UnknownTask
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.system_events import ClockJumped, DeliveryAttempted
from tasktrail.handlers.process.frames import (
    AttemptBeat,
    AttemptEnded,
    CapacityChanged,
    Grant,
    PublishWanted,
    Run,
    Stop,
)

WITHIN = 10


class TroubledLog(MemoryEventLog):
    """A log whose next appends can be made to fail, before or after the fact, and which counts its commits."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: list[tuple[BaseException, bool]] = []
        self.commits = 0
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        self.entered.set()
        assert self.gate.wait(WITHIN)
        if self.trouble:
            error, happened = self.trouble.pop(0)
            if happened:
                super().append(facts, answers, expected=expected)
            raise error
        self.commits += 1
        return super().append(facts, answers, expected=expected)


class House:
    """A Scheduler with what it talks to."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.log = TroubledLog()
        self.orders: list[Any] = []
        self.committed: list[Recorded] = []
        self.fatal: list[BaseException] = []
        self.ordered = threading.Condition()
        self.ref = Scheduler.start(
            open_log=lambda: self.log,
            new_state=lambda: SchedulerState(Limits(max_concurrent=4), grace={"noop": 0.5}),
            boot=lambda _log: Boot(version="1", epoch=1, pid=1, host="here"),
            clock=clock or SystemClock(),
            order=self._order,
            publish=self._publish,
            on_fatal=self.fatal.append,
        )
        self.settle()

    def _order(self, message: Orders) -> None:
        with self.ordered:
            self.orders += message.orders
            self.ordered.notify_all()

    def _publish(self, message: Committed) -> None:
        self.committed += message.records

    def settle(self) -> None:
        assert self.ref.ask(PING, timeout=WITHIN) == PONG

    def send(self, *commands: Command) -> list["Promise"]:
        """Tell commands as one message."""
        promises = [Promise() for _ in commands]
        self.ref.tell(
            [
                Submit(command, Intake(), Ticket(promise.set, command.command_id, digest(command)))
                for command, promise in zip(commands, promises, strict=True)
            ]
        )
        return promises

    def state(self, look: Callable[[SchedulerState], Any]) -> Any:
        return self.ref.ask(Query(look), timeout=WITHIN)


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
    """Whoever was answered may ask for that position at once."""
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
    assert house.state(lambda state: state.last_task_id) == 1


def test_a_repetition_inside_one_batch_is_found_too(house: House) -> None:
    one, two = (promise.get() for promise in house.send(create("same"), create("same")))
    assert one == two


def test_a_command_id_cannot_be_used_for_another_command(house: House) -> None:
    house.send(create("same"))[0].get()
    assert isinstance(house.send(create("same", priority=3))[0].get(), CommandIdReused)


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


class ShiftedClock(SystemClock):
    """A wall clock that can be set, and time that can be let pass."""

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
    """Task 1 runs, and each of its limits is shorter than the jumps to come."""
    house.ref.tell(CapacityChanged(1))
    house.send(create("limited", **LIMITED))[0].get()
    house.settle()


def _ends(house: House) -> list[str]:
    """The errors of task 1 after a look at the timers."""
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
    clock.passed += 1.0  # whoever is silent is looked at twice
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
    """A disk that is full for longer than an attempt may be silent ends none that beats."""
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
    """What a worker finished while the log could not be written is recorded once it can."""
    house.ref.tell(CapacityChanged(1))
    house.send(create("c"))[0].get()
    house.log.trouble += [(LogFull("no room"), False)] * 2
    house.ref.tell([AttemptEnded(1, 1, "completed", {"n": 1})])
    with pytest.raises(OutcomeUnknown):
        raise house.send(create("meanwhile"))[0].get()
    _repeat_until_accepted(house, create("after"))
    names = [type(record.event).__name__ for record in house.log.read_task(1)]
    assert names == ["Created", "Started", "Completed"]


def test_a_started_that_was_never_ordered_is_closed_when_it_turns_out_to_be_in_the_log(house: House) -> None:
    house.ref.tell(CapacityChanged(1))
    house.settle()
    house.log.trouble.append((OutcomeUnknown("lost the answer"), True))
    house.send(create("c"))[0].get()
    _repeat_until_accepted(house, create("c"))
    house.settle()
    names = [type(record.event).__name__ for record in house.log.read_task(1)]
    assert names == ["Created", "Started", "Failed", "Retried", "Started"]
    assert [order.attempt for order in house.orders] == [2]


def test_a_refusal_that_rests_on_what_was_not_written_is_unknown_too(house: House) -> None:
    house.send(create("c"))[0].get()
    house.log.trouble.append((LogFull("no room"), False))
    cancels = (CancelTask(task_id=1, command_id="x"), CancelTask(task_id=1, command_id="y"))
    assert [type(promise.get()) for promise in house.send(*cancels)] == [LogFull, LogFull]
    assert house.state(lambda state: state.tasks[1].status) == "pending"


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
    """Reports come in lists. One that cannot be handled must not lose the ends before and behind it."""
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
    """The wish to publish leads to an order and to no record."""
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
