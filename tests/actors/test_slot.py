"""When a dead worker is replaced: at once the first time, and later and later if it dies repeatedly."""

import os
import threading
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import psutil
import pytest
from structlog.testing import capture_logs

from tasktrail.actors.machine import ControlGroup, ControlGroups
from tasktrail.actors.workers import usage
from tasktrail.actors.workers.reactor import Reactor
from tasktrail.actors.workers.slot import Given, Slot, SlotRules
from tasktrail.actors.workers.worker_process import Exit
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Report,
    Run,
    Saved,
    WorkerGone,
)
from tasktrail.events.task_events import Checkpoint, Estimated, ReadInput
from tasktrail.handlers.process.channel import AttemptUsed, GarbageFrame, Kept, Retiring, Setup
from tasktrail.handlers.process.report_limits import (
    BASIS_LIMIT,
    CHECKPOINT_LIMIT,
    ERROR_LIMIT,
    MESSAGE_LIMIT,
    RESULT_LIMIT,
)


class FakeHub:
    """Records the slot's requests."""

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
    """A worker that receives everything and sends nothing."""

    reaper = 0

    def send(self, _frame: bytes) -> bool:
        return True

    def tell(self, _frame: bytes) -> None: ...

    def ask_to_end(self, _frame: bytes) -> None: ...

    def kill(self) -> None: ...


def test_one_that_was_to_stop_does_not_begin_again_when_its_worker_is_killed_for_another() -> None:
    """The end of the other was on its way when the worker was killed, so the slot comes to the next one."""
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())
    slot._process = FakeProcess()  # type: ignore[assignment]
    for task_id in (1, 2):
        slot.give(Run(task_id, 1, "echo", "", "", {}, None, "/nowhere", shared_workers=1), b"")
    slot.stop((2, 1))
    slot.kill("the service has not renewed the lease")
    slot._on_frame(AttemptEnded(1, 1, "completed"))

    slot._on_exit(Exit(code=-9))

    ends = {report.task_id: report.outcome for report in hub.told if isinstance(report, AttemptEnded)}
    assert ends == {1: "completed", 2: "stopped"}


def test_where_a_handler_can_speak_for_the_worker_no_process_is_kept() -> None:
    slot = Slot(FakeHub(), cannot_launch, Setup({}, 0), SlotRules())

    with pytest.raises(GarbageFrame):
        slot._on_frame(Kept("echo"))


def test_no_worker_says_that_it_was_interrupted() -> None:
    """That outcome is for a service that was gone: such an attempt is tried again without end, and costs no crash."""
    hub = FakeHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())
    slot._process = FakeProcess()  # type: ignore[assignment]
    slot.give(Run(1, 1, "echo", "", "", {}, None, "/nowhere"), b"")
    ended = AttemptEnded(1, 1, "interrupted")

    for frame in (ended, Retiring(ended, "worn")):
        with pytest.raises(GarbageFrame):
            slot._on_frame(frame)


@pytest.mark.parametrize(("kills", "why"), [(4, ""), (5, ", because memory had run out")])
def test_the_end_of_a_worker_says_whether_the_kernel_killed_for_memory_meanwhile(
    kills: int, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom_kill 3\n")
    monkeypatch.setattr(
        "tasktrail.actors.workers.slot.find_groups", lambda: ControlGroups(memory=ControlGroup(2, (tmp_path,)))
    )
    slot, hub = running()
    events.write_text("oom_kill 4\n")
    slot._on_frame(AttemptEnded(1, 1, "completed"))
    slot.give(Run(2, 1, "echo", "", "", {}, None, "/nowhere"), b"")
    events.write_text(f"oom_kill {kills}\n")

    slot._on_exit(Exit(code=-9))

    end = next(report for report in hub.told if isinstance(report, AttemptEnded) and report.task_id == 2)
    assert end.error == f"The worker was killed by signal 9 (SIGKILL){why}."
    assert end.memory_ran_out is (kills == 5)


@pytest.mark.parametrize(("kills", "ran_out"), [("oom_kill 3\n", False), ("oom_kill 4\n", True), ("", None)])
def test_so_does_the_end_of_an_attempt_whose_tool_was_killed(
    *, kills: str, ran_out: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("oom_kill 3\n" if kills else "")
    monkeypatch.setattr(
        "tasktrail.actors.workers.slot.find_groups", lambda: ControlGroups(memory=ControlGroup(2, (tmp_path,)))
    )
    slot, hub = running()
    events.write_text(kills)
    slot._on_frame(AttemptEnded(1, 1, "failed", exit_code=-9))
    (end,) = (report for report in hub.told if isinstance(report, AttemptEnded))
    assert end.memory_ran_out is ran_out


# --- what an attempt says is held to the limits, whatever its own process lets through ---


class RestingHub(FakeHub):
    """A hub that gives nothing more to an idle slot."""

    def idle(self, slot: Slot) -> None: ...


def running(run: Run | None = None) -> tuple[Slot, FakeHub]:
    hub = RestingHub()
    slot = Slot(hub, cannot_launch, Setup({}, 0), SlotRules())
    slot._process = FakeProcess()  # type: ignore[assignment]
    slot.give(run or Run(1, 1, "echo", "", "", {}, None, "/nowhere"), b"")
    return slot, hub


def checkpoint(size: int = 1, *, input_state: str = "") -> AttemptCheckpointed:
    empty = len(msgspec.json.encode(Checkpoint(data={"x": ""})))
    return AttemptCheckpointed(1, 1, Checkpoint(data={"x": "x" * (size - empty)}, input_state=input_state))


LONGEST = [
    checkpoint(CHECKPOINT_LIMIT, input_state="1:2:3"),
    AttemptProgressed(1, 1, 5.0, "m" * MESSAGE_LIMIT),
    AttemptProbed(1, 1, Estimated(basis={"b": "b" * (BASIS_LIMIT - 8)})),
    AttemptEnded(1, 1, "completed", {"r": "r" * (RESULT_LIMIT - 8)}, "m" * MESSAGE_LIMIT),
    AttemptEnded(1, 1, "failed", error="é" * ERROR_LIMIT, error_type="E" * ERROR_LIMIT),
]
TOO_LONG = [
    checkpoint(CHECKPOINT_LIMIT + 1),
    checkpoint(input_state="s" * 900_000),
    AttemptCheckpointed(1, 1, Checkpoint(), 5.0, "m" * (MESSAGE_LIMIT + 1)),
    AttemptProgressed(1, 1, 5.0, "m" * (MESSAGE_LIMIT + 1)),
    AttemptProbed(1, 1, Estimated(basis={"b": "b" * BASIS_LIMIT})),
    AttemptEnded(1, 1, "completed", {"r": "r" * 900_000}),
    AttemptEnded(1, 1, "completed", message="m" * (MESSAGE_LIMIT + 1)),
    AttemptEnded(1, 1, "failed", error="e" * (ERROR_LIMIT + 1)),
    AttemptEnded(1, 1, "failed", error_type="e" * (ERROR_LIMIT + 1)),
    AttemptEnded(1, 1, "failed", retry_on="e" * (ERROR_LIMIT + 1)),
    AttemptEnded(1, 1, "completed", tools={"t": "1" * 900_000}),
    AttemptEnded(1, 1, "completed", input_read=ReadInput(size=1, modified=1, sha256="0" * 900_000)),
    Retiring(AttemptEnded(1, 1, "failed", error="e" * (ERROR_LIMIT + 1)), "worn"),
    Retiring(AttemptEnded(1, 1, "failed"), "w" * (ERROR_LIMIT + 1)),
]


@pytest.mark.parametrize("frame", TOO_LONG, ids=lambda frame: type(frame).__name__)
def test_what_is_too_long_is_garbage(frame: Any) -> None:
    slot, hub = running()

    with pytest.raises(GarbageFrame, match="the limit is"):
        slot._on_frame(frame)

    assert hub.told == []


@pytest.mark.parametrize("frame", LONGEST, ids=lambda frame: type(frame).__name__)
def test_what_is_as_long_as_may_be_is_told(frame: Any) -> None:
    slot, hub = running()

    slot._on_frame(frame)

    assert [type(report) for report in hub.told] == [type(frame)]


def test_an_attempt_waits_until_its_checkpoint_is_saved() -> None:
    slot, hub = running()

    for _ in range(3):
        slot._on_frame(checkpoint())
        slot.answer(Saved(1, 1))
    slot._on_frame(checkpoint())
    with pytest.raises(GarbageFrame, match="before the last one was saved"):
        slot._on_frame(checkpoint())

    assert len(hub.told) == 4


def test_one_that_is_to_stop_gives_up_waiting_and_may_try_again_twice() -> None:
    slot, hub = running()

    slot._on_frame(checkpoint())
    slot.stop((1, 1))
    slot._on_frame(checkpoint())
    slot._on_frame(checkpoint())
    with pytest.raises(GarbageFrame):
        slot._on_frame(checkpoint())

    assert len(hub.told) == 3


def test_the_next_attempt_owes_nothing() -> None:
    slot, hub = running(Run(1, 1, "echo", "", "", {}, None, "/nowhere", shared_workers=1))
    slot.give(Run(2, 1, "echo", "", "", {}, None, "/nowhere", shared_workers=1), b"")
    slot._on_frame(checkpoint())
    slot._on_frame(AttemptEnded(1, 1, "failed"))

    slot._on_frame(AttemptCheckpointed(2, 1, Checkpoint()))

    assert len(hub.told) == 3


# --- what an attempt says of its cost ---

MACHINE = psutil.virtual_memory().total
ABSURD: dict[str, Any] = {"memory_used": 2**62, "cpu_used": 1e308, "time_used": 1e308}
NEGATIVE: dict[str, Any] = {"memory_used": -5, "temp_used": -1, "cpu_used": -1e9, "time_used": -3.0}


@pytest.mark.parametrize("retires", [False, True])
def test_no_attempt_used_more_than_there_was(*, retires: bool) -> None:
    slot, hub = running()
    ended = AttemptEnded(1, 1, "completed", **ABSURD)

    slot._on_frame(Retiring(ended, "worn") if retires else ended)
    slot._on_exit(Exit(code=-9))

    (told,) = [report for report in hub.told if isinstance(report, AttemptEnded)]
    assert told.memory_used == MACHINE
    assert 0 < told.time_used < 60
    assert 0 < told.cpu_used < 60 * (os.cpu_count() or 1)


def test_no_attempt_used_less_than_nothing() -> None:
    slot, hub = running()

    slot._on_frame(AttemptEnded(1, 1, "completed", **NEGATIVE))

    assert hub.told == [AttemptEnded(1, 1, "completed")]
    assert slot._cpu_known == 0.0


def test_nor_did_one_that_died() -> None:
    slot, hub = running()
    slot._on_frame(AttemptUsed(1, 1, 2**62, 1e308))

    slot._on_exit(Exit(code=-9))

    (told,) = [report for report in hub.told if isinstance(report, AttemptEnded)]
    assert told.memory_used == MACHINE
    assert told.cpu_used < 60 * (os.cpu_count() or 1)


def test_what_can_be_is_told_as_it_was_said() -> None:
    ended = AttemptEnded(1, 1, "completed", memory_used=10**6, cpu_used=2.5, temp_used=10**9, time_used=3.0)

    assert usage.believable(ended, 2.5) is ended


@pytest.mark.parametrize("probed", [False, True], ids=["twice", "after an earlier attempt"])
def test_an_input_is_looked_into_once(*, probed: bool) -> None:
    """The look comes before the handler, so a hijacked handler cannot raise its bound on CPU time."""
    slot, hub = running(Run(1, 1, "echo", "", "", {}, None, "/nowhere", probed=probed))
    if not probed:
        slot._on_frame(AttemptProbed(1, 1, Estimated(seconds=5.0)))

    with pytest.raises(GarbageFrame, match="no look"):
        slot._on_frame(AttemptProbed(1, 1, Estimated(seconds=1e9)))

    assert len(hub.told) == (0 if probed else 1)
