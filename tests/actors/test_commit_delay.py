"""A commit that no one waits for is put off while commands follow each other closely, and no longer."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.alarm import Alarm
from tasktrail.actors.commit_delay import SOON, CommitDelay
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot, Intake, Submit
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.inbox import Inbox
from tasktrail.actors.messages import DeleteArchived, DestroyKeys, Orders, StateQuery, Ticket
from tasktrail.actors.scheduler import Scheduler
from tasktrail.events import Accepted, Answer, Completed, CreateTask, Fact, Recorded, TasktrailError
from tasktrail.events.commands import digest
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptEnded, CapacityChanged, Run


class HandClock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return self.seconds


class HandAlarm(Alarm):
    """An alarm that never rings."""

    def __init__(self) -> None:
        pass

    def set(self, at: datetime | None) -> None:
        pass

    def close(self) -> None:
        pass


class HandInbox:
    """An empty inbox. The test says beforehand whether a message comes in time."""

    def __init__(self) -> None:
        self.comes = True
        self.waited: list[float] = []

    def empty(self) -> bool:
        return True

    def fills_within(self, seconds: float) -> bool:
        self.waited.append(seconds)
        return self.comes


class CountingLog(MemoryEventLog):
    """A log that keeps the content of each commit apart."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[list[str]] = []

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        records = super().append(facts, answers, expected=expected)
        self.commits.append([record.name for record in records])
        return records


class House:
    """A Scheduler without its thread, with one worker."""

    def __init__(self) -> None:
        self.log, self.clock, self.inbox = CountingLog(), HandClock(), HandInbox()
        self.awaited: set[int] = set()
        self.answers: list[Accepted | TasktrailError] = []
        self.runs: list[Run] = []
        self.fatal: list[BaseException] = []
        self.scheduler = Scheduler(
            open_log=lambda: self.log,
            new_state=lambda: SchedulerState(Limits(max_concurrent=4), grace={"noop": 0.5}),
            boot=lambda _log: Boot(version="1", epoch=1, pid=1, host="here"),
            clock=self.clock,
            order=self._order,
            publish=lambda _: None,
            on_fatal=self.fatal.append,
            alarm=lambda *_: HandAlarm(),
            is_awaited=self.awaited.__contains__,
        )
        inbox: Any = self.inbox
        self.scheduler.actor_inbox = inbox
        self.scheduler.on_start()
        self.tell([CapacityChanged(4)])
        self.log.commits.clear()

    def _order(self, orders: Orders) -> None:
        self.runs += [order for order in orders.orders if isinstance(order, Run)]

    def tell(self, message: Any, after: float = 0.0) -> None:
        self.clock.seconds += after
        self.scheduler.receive(message)

    def submit(self, number: int, after: float = 0.0) -> None:
        command = CreateTask(type="noop", command_id=str(number))
        ticket = Ticket(self.answers.append, command.command_id, digest(command))
        self.tell([Submit(command, Intake(), ticket)], after)

    def end(self, task_id: int, after: float = 0.0) -> None:
        self.tell([AttemptEnded(task_id, 1, "completed")], after)

    def submit_two_soon(self) -> None:
        self.submit(1)
        self.submit(2, after=SOON / 2)
        assert len(self.answers) == 2
        self.log.commits.clear()


def test_an_end_shares_the_commit_of_the_command_that_comes_next() -> None:
    house = House()
    house.submit_two_soon()
    house.end(1)
    assert house.log.commits == []
    house.submit(3, after=SOON / 4)
    assert house.log.commits == [["completed", "created", "started"]]
    assert len(house.answers) == 3


def test_it_waits_no_longer_than_the_next_command_may_take() -> None:
    house = House()
    house.submit_two_soon()
    house.inbox.comes = False
    house.end(1, after=SOON / 4)
    assert house.inbox.waited == [pytest.approx(SOON - SOON / 4)]
    assert house.log.commits == [["completed"]]
    house.end(2, after=SOON)
    assert len(house.inbox.waited) == 1
    assert house.log.commits == [["completed"], ["completed"]]


def test_commands_at_long_intervals_are_not_waited_for() -> None:
    house = House()
    house.submit(1)
    house.submit(2, after=2 * SOON)
    house.log.commits.clear()
    house.end(1)
    assert house.inbox.waited == []
    assert house.log.commits == [["completed"]]


def test_an_end_that_somebody_waits_for_is_told_at_once() -> None:
    house = House()
    house.submit_two_soon()
    house.awaited.add(2)
    house.end(1)
    assert house.log.commits == []
    house.end(2)
    assert house.log.commits == [["completed", "completed"]]


def test_an_end_that_lets_another_task_start_is_committed_at_once() -> None:
    house = House()
    for number in range(1, 6):
        house.submit(number, after=SOON / 2)
    assert [run.task_id for run in house.runs] == [1, 2, 3, 4]
    house.log.commits.clear()
    house.end(1)
    assert house.log.commits == [["completed", "started"]]
    assert house.runs[-1].task_id == 5


def test_a_command_is_answered_at_once() -> None:
    house = House()
    house.submit_two_soon()
    house.end(1)
    house.submit(2)  # a repetition records nothing
    assert house.log.commits == [["completed"]]
    assert len(house.answers) == 3


def test_whoever_asks_sees_only_what_is_durable() -> None:
    house = House()
    house.submit_two_soon()
    house.end(1)
    assert house.log.commits == []
    assert house.scheduler.on_receive(StateQuery(lambda state: state.position)) == house.log.head().position
    assert house.log.commits == [["completed"]]
    house.end(2)
    house.scheduler.settle()
    assert house.log.commits == [["completed"], ["completed"]]


@pytest.mark.parametrize("message", [DeleteArchived(0), DestroyKeys(())])
def test_what_is_done_to_the_log_beside_the_steps_strands_nothing(message: DeleteArchived | DestroyKeys) -> None:
    house = House()
    house.submit_two_soon()
    house.end(1)
    house.scheduler.on_receive(message)
    assert house.log.commits == [["completed"]]


def test_what_is_put_off_is_recorded_at_the_stop() -> None:
    house = House()
    house.submit_two_soon()
    house.end(1)
    house.scheduler.on_stop()
    assert [type(record.event) for record in house.log.read_task(1)][-1] is Completed


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3 * SOON))))
def test_nothing_is_put_off_beyond_the_bound(happens: list[tuple[bool, float]]) -> None:
    """Whatever comes when, the wait ends once the latest command is `SOON` ago."""
    delay, now, came = CommitDelay(), 0.0, float("-inf")
    for is_command, after in happens:
        now += after
        if is_command:
            delay.commands_came(now)
            came = now
        assert delay.seconds_left(now) <= 0 or now + delay.seconds_left(now) <= came + SOON + 1e-9


def test_an_inbox_that_was_waited_for_still_has_its_messages_in_their_order() -> None:
    inbox = Inbox()
    assert inbox.empty()
    assert not inbox.fills_within(0.0001)
    inbox.put(1)
    assert inbox.fills_within(10)
    inbox.put(2)
    assert inbox.fills_within(10)
    assert not inbox.empty()
    assert [inbox.get(), inbox.get()] == [1, 2]
    assert inbox.empty()
