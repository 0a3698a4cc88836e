"""When a dead worker is replaced: at once the first time, ever later in a row."""

import threading
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from tasktrail.actors.workers.reactor import Reactor
from tasktrail.actors.workers.slot import Given, Slot, SlotRules
from tasktrail.actors.workers.worker_process import Exit
from tasktrail.events.reports import AttemptEnded, Report, Run, WorkerGone
from tasktrail.handlers.process.channel import GarbageFrame, Kept, Retiring, Setup


class FakeHub:
    """Records what the slot wants."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.reactor = Reactor(lambda: None)
        self.told: list[Report] = []
        self.delays: list[float] = []

    def tell(self, report: Report) -> None:
        self.told.append(report)

    def ready(self, slot: Slot) -> None:
        raise AssertionError(slot)

    def idle(self, slot: Slot) -> None:
        raise AssertionError(slot)

    def returned(self, runs: list[Given]) -> None:
        raise AssertionError(runs)

    def empty(self, slot: Slot, delay: float) -> None:
        assert slot.state == "empty"
        self.delays.append(delay)


def cannot_launch() -> NoReturn:
    raise OSError("too many open files")


def test_a_worker_that_cannot_start_is_tried_again_ever_later_up_to_a_limit() -> None:
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules(backoff=0.1, backoff_max=0.5))

    for _ in range(6):
        slot.start()

    assert hub.delays == [0.0, 0.1, 0.2, 0.4, 0.5, 0.5]
    assert hub.told[0] == WorkerGone(0, 127, "it died: too many open files")


def test_whatever_keeps_a_worker_from_starting_it_is_tried_again() -> None:
    def broken() -> NoReturn:
        raise ValueError("embedded null byte")

    hub = FakeHub()
    slot = Slot(hub, broken, Setup({}, 0), SlotRules(backoff=0.1))

    with capture_logs() as logs:
        slot.start()
        slot.start()

    assert (slot.state, hub.delays) == ("empty", [0.0, 0.1])
    assert {entry["event"] for entry in logs} == {"worker_not_started"}


def test_a_thousand_failures_in_a_row_are_counted_without_overflow() -> None:
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())

    for _ in range(2000):
        slot.start()

    assert hub.delays[-1] == 5.0


def test_wishes_to_an_empty_slot_do_nothing() -> None:
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())

    slot.stop((1, 1))
    slot.kill("why")
    slot.kill_reaper()

    assert (slot.state, hub.told) == ("empty", [])
    assert not any(isinstance(report, AttemptEnded | Run) for report in hub.told)


class FakeProcess:
    """A worker that hears everything and says nothing."""

    reaper = 0

    def send(self, _frame: bytes) -> bool:
        return True

    def tell(self, _frame: bytes) -> None: ...

    def wish_end(self, _frame: bytes) -> None: ...

    def kill(self) -> None: ...


def test_one_that_was_to_stop_does_not_begin_again_when_its_worker_is_killed_for_another() -> None:
    """The end of the other was on its way when the worker was killed; so the slot comes to the next one."""
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())
    slot._process = FakeProcess()  # type: ignore[assignment]
    for task_id in (1, 2):
        slot.give(Run(task_id, 1, "echo", "", "", {}, None, "/nowhere", shared_workers=1), b"")
    slot.stop((2, 1))
    slot.kill("nobody has renewed the lease")
    slot._on_frame(AttemptEnded(1, 1, "completed"))

    slot._on_exit(Exit(code=-9))

    ends = {report.task_id: report.outcome for report in hub.told if isinstance(report, AttemptEnded)}
    assert ends == {1: "completed", 2: "stopped"}


def test_where_a_handler_can_speak_for_the_worker_no_process_is_kept() -> None:
    slot = Slot(FakeHub(), cannot_launch, Setup({}, 0), SlotRules())

    with pytest.raises(GarbageFrame):
        slot._on_frame(Kept("echo"))


def test_no_worker_says_that_it_was_interrupted() -> None:
    """That is for a service that was gone: such an attempt is tried again without end, and costs no crash."""
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())
    slot._process = FakeProcess()  # type: ignore[assignment]
    slot.give(Run(1, 1, "echo", "", "", {}, None, "/nowhere"), b"")
    ended = AttemptEnded(1, 1, "interrupted")

    for frame in (ended, Retiring(ended, "worn")):
        with pytest.raises(GarbageFrame):
            slot._on_frame(frame)
