"""Orders reach the executor in sequence, in the Scheduler's thread unless something has to be read first."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from tasktrail.actors.dependency_results import DependencyResults
from tasktrail.actors.executor import Reporter
from tasktrail.actors.handover import Handover
from tasktrail.actors.messages import Orders
from tasktrail.events import Completed, Recorded
from tasktrail.events.reports import AttemptEnded, Order, Report, Run, Stop
from tasktrail.handlers.publish import part_path


class Told:
    """An executor that only remembers its orders, and breaks at the given tasks."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.breaks_at = 0

    def open(self, report: Reporter) -> None:
        pass

    def do(self, orders: Sequence[Order]) -> None:
        for order in orders:
            if isinstance(order, Run) and order.task_id == self.breaks_at:
                raise RuntimeError("planted")
            self.orders.append(order)


class Answering:
    """A log in which every task has completed."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def last_of(self, task_id: int) -> Recorded | None:
        self.asked.append(task_id)
        return Recorded(task_id, 3, Completed(result={"answer": task_id}), datetime(2026, 1, 1, tzinfo=UTC))

    def close(self) -> None:
        pass


class House:
    """A handover with a WorkerPool that works when it is told to."""

    def __init__(self) -> None:
        self.told = Told()
        self.deferred: list[Orders] = []
        self.reports: list[Report] = []
        executor: Any = self.told  # the test uses nothing else of it
        self.log = Answering()
        self.handover = Handover(
            executor,
            results=DependencyResults(lambda: self.log),
            report=self.reports.extend,
        )
        self.handover.open(self.deferred.append)

    def order(self, *orders: Order) -> None:
        self.handover.order(Orders(list(orders)))

    def work_off(self) -> None:
        while self.deferred:
            self.handover.carry_out(self.deferred.pop(0))


def run(task_id: int, *depends_on: int, output: str = "") -> Run:
    return Run(task_id, 1, "noop", "", output, {}, None, "/nowhere", depends_on=depends_on)


def test_orders_are_given_at_once() -> None:
    house = House()
    house.order(run(1), Stop(1, 1))
    assert house.told.orders == [run(1), Stop(1, 1)]
    assert house.deferred == []


def test_an_attempt_that_is_handed_results_waits_until_they_are_read() -> None:
    house = House()
    house.order(run(2, 1))
    assert house.told.orders == []
    house.work_off()
    (given,) = house.told.orders
    assert isinstance(given, Run)
    assert given.results == {1: {"answer": 1}}


def test_what_several_attempts_wait_for_is_read_once() -> None:
    house = House()
    house.order(run(2, 1), run(3, 1), run(4, 5, 1))
    house.work_off()
    assert house.log.asked == [1, 5]
    assert [order.results for order in house.told.orders if isinstance(order, Run)] == [
        {1: {"answer": 1}},
        {1: {"answer": 1}},
        {5: {"answer": 5}, 1: {"answer": 1}},
    ]


def test_nothing_passes_an_order_that_waits() -> None:
    """Otherwise a stop that came before its run would be ignored."""
    house = House()
    house.order(run(2, 1))
    house.order(Stop(2, 1))
    house.order(run(3))
    assert house.told.orders == []
    house.work_off()
    assert [type(order) for order in house.told.orders] == [Run, Stop, Run]
    house.order(run(4))
    assert house.told.orders[-1] == run(4)


def test_an_order_that_cannot_be_carried_out_keeps_none_back() -> None:
    house = House()
    house.told.breaks_at = 3
    with capture_logs() as logs:
        house.order(run(2, 1), run(3))
        house.work_off()
    assert [entry["event"] for entry in logs] == ["orders could not be given"]
    house.order(run(4))
    assert house.told.orders[-1] == run(4)


@pytest.mark.parametrize(("outcome", "left"), [("lost", False), ("completed", True)])
def test_what_an_attempt_leaves_of_its_output_is_gone_when_its_end_is_reported(
    tmp_path: Path, outcome: Any, *, left: bool
) -> None:
    house = House()
    output = tmp_path / "out.bin"
    part = part_path(output, 1)
    part.write_bytes(b"half")
    house.order(run(1, output=str(output)))
    ended = AttemptEnded(1, 1, outcome)
    house.handover.pass_on([ended])
    assert part.exists() == left
    assert house.reports == [ended]


def test_the_late_end_of_an_attempt_leaves_the_output_of_the_next_alone(tmp_path: Path) -> None:
    """The Scheduler may have ended it by itself, when its host was silent."""
    house = House()
    output = tmp_path / "out.bin"
    part = part_path(output, 1)
    house.order(run(1, output=str(output)), msgspec.structs.replace(run(1, output=str(output)), attempt=2))
    part.write_bytes(b"half")

    house.handover.pass_on([AttemptEnded(1, 1, "interrupted")])
    assert part.exists()
    house.handover.pass_on([AttemptEnded(1, 2, "failed")])

    assert not part.exists()
