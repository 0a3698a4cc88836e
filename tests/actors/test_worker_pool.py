"""Whatever goes wrong between the Scheduler and the workers: no slot is lost, and no task runs without a process."""

from collections.abc import Callable, Iterator, Sequence
from threading import Condition
from typing import Any, cast

import pytest
import sample_handlers
from inline_executor import InlineExecutor
from structlog.testing import capture_logs

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import Boot, Intake, Submit
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.executor import Reporter
from tasktrail.actors.handover import Handover
from tasktrail.actors.messages import PING, Committed, Orders, StateQuery, Ticket
from tasktrail.actors.scheduler import Scheduler
from tasktrail.actors.worker_pool import RECONCILE_EVERY, WorkerPool
from tasktrail.events import Completed, CreateTask, Failed, Recorded, Started
from tasktrail.events.clock import SystemClock
from tasktrail.events.commands import digest
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.reports import AttemptEnded, Order, Report, Run, TellHeld

WITHIN = 20
TYPES = {name: getattr(sample_handlers, name).__tasktrail__ for name in ("noop", "patient")}


class Faulty(InlineExecutor):
    """An executor that fails once, at the first attempt of task 1, in the way that `fault` says."""

    def __init__(self, fault: str) -> None:
        super().__init__(TYPES, slots=2)
        self._fault = fault
        self._asked = 0

    def open(self, report: Reporter) -> None:
        super().open(lambda reports: report([one for one in reports if not self._swallows(one)]))

    def do(self, orders: Sequence[Order]) -> None:
        kept = []
        for order in orders:
            if isinstance(order, Run) and (order.task_id, order.attempt) == (1, 1):
                if self._fault == "forgets":
                    continue
                if self._fault == "raises":
                    raise RuntimeError("planted")
            if isinstance(order, TellHeld):
                self._asked += 1
                if self._fault == "deaf" and self._asked < 3:
                    raise RuntimeError("planted")
            kept.append(order)
        super().do(kept)

    def _swallows(self, report: Report) -> bool:
        first = isinstance(report, AttemptEnded) and (report.task_id, report.attempt) == (1, 1)
        return first and self._fault in ("swallows", "deaf")


class House:
    """A Scheduler and a WorkerPool on an executor that fails."""

    def __init__(self, executor: InlineExecutor) -> None:
        self.records: list[Recorded] = []
        self.told: list[Report] = []
        self.recorded = Condition()
        self.pool: Any = None
        self.handover = Handover(executor, results=None, report=self._report)
        self.scheduler = Scheduler.start(
            open_log=MemoryEventLog,
            new_state=lambda: SchedulerState(Limits(max_concurrent=4), grace=dict.fromkeys(TYPES, 0.5)),
            boot=lambda _log: Boot(version="1", epoch=1, pid=1, host="here"),
            clock=SystemClock(),
            order=self._order,
            publish=self._publish,
            on_fatal=lambda error: pytest.fail(repr(error)),
        )
        self.scheduler.ask(PING, timeout=WITHIN)
        self.pool = WorkerPool.start(
            handover=self.handover, compare=self._report, close_within=1.0, reconcile_every=0.01
        )
        self.pool.ask(PING, timeout=WITHIN)

    def _report(self, message: Any) -> None:
        with self.recorded:
            self.told += message if isinstance(message, list) else []
            self.recorded.notify_all()
        self.scheduler.tell(message)

    def _order(self, orders: Orders) -> None:
        self.handover.order(orders)

    def _publish(self, message: Committed) -> None:
        with self.recorded:
            self.records += message.records
            self.recorded.notify_all()

    def create(self, number: int, kind: str = "noop") -> None:
        command = CreateTask(type=kind, command_id=str(number), max_retries=0)
        self.scheduler.tell(Submit(command, Intake(), Ticket(lambda _: None, str(number), digest(command))))

    def until(self, wanted: Callable[[Recorded], bool]) -> Recorded:
        with self.recorded:
            assert self.recorded.wait_for(lambda: any(map(wanted, self.records)), WITHIN), self.records
            return next(filter(wanted, self.records))

    def until_told(self, wanted: Callable[[Report], bool]) -> None:
        with self.recorded:
            assert self.recorded.wait_for(lambda: any(map(wanted, self.told)), WITHIN), self.told

    def running(self) -> int:
        return cast("int", self.scheduler.ask(StateQuery(lambda state: len(state.running)), timeout=WITHIN))

    def close(self) -> None:
        self.pool.stop(timeout=WITHIN)
        self.scheduler.stop(timeout=WITHIN)


@pytest.fixture
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    made = House(Faulty(request.param))
    yield made
    made.close()


@pytest.mark.parametrize("house", ["forgets", "raises", "swallows", "deaf"], indirect=True)
def test_an_attempt_that_got_lost_is_found_and_its_slot_works_on(house: House) -> None:
    with capture_logs():  # the exception is logged
        for number in range(1, 4):
            house.create(number)
        lost = house.until(lambda record: record.task_id == 1 and isinstance(record.event, Failed))
        for number in range(1, 4):
            house.until(lambda record, number=number: record.task_id == number and isinstance(record.event, Completed))  # type: ignore[misc]  # bound
    assert isinstance(lost.event, Failed)
    assert (lost.event.outcome, lost.event.error_type, lost.attempt) == ("lost", "AttemptForgotten", 1)
    assert [record.task_id for record in house.records if isinstance(record.event, Failed)] == [1]
    assert house.running() == 0


@pytest.mark.parametrize("house", ["nothing"], indirect=True)
def test_an_attempt_that_nobody_wants_is_stopped(house: House) -> None:
    """It runs beside a wanted one, which continues: somebody has ordered it without the Scheduler."""
    house.create(1, "patient")
    house.until(lambda record: isinstance(record.event, Started))
    house.handover.order(Orders([Run(99, 4, "patient", "", "", {}, None, "/nowhere")]))
    house.until_told(lambda report: isinstance(report, AttemptEnded) and report.task_id == 99)
    assert house.running() == 1


def test_two_comparisons_are_over_within_five_seconds() -> None:
    assert 2 * RECONCILE_EVERY < 5
