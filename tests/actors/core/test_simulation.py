"""The simulator finds nothing in the core as it is, and finds the faults that are planted."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from simulated_executor import BrokenInvariantError
from simulation import play

from tasktrail.actors.core import commands, dispatch, lifecycle, reports
from tasktrail.actors.core.running import Running
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.turn import Turn
from tasktrail.events import Cancelled, Failed, TaskState
from tasktrail.events.state import _EVOLVE

SCRIPT = Path(__file__).parent / "simulation.py"

SEEDS_THAT_FAILED = {
    3: "a cancelled task stayed in memory",
    7: "cancels that waited for publishing were never answered",
    121: "a task beyond the limits stopped the queue",
}
"""Each found a fault of the core once."""


@pytest.mark.parametrize("seed", [*range(30), *(seed for seed in SEEDS_THAT_FAILED if seed >= 30)])
def test_no_invariant_breaks_and_everything_settles(seed: int) -> None:
    play(seed, steps=1000)


def test_a_seed_gives_the_same_world_in_every_process() -> None:
    """No order of a set or of hashes may reach the log."""
    outputs = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, str(SCRIPT), "--seed", "5", "--steps", "300", "--quiet"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        outputs.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64


def test_another_seed_gives_another_world() -> None:
    assert play(1, steps=50) != play(2, steps=50)


# --- planted faults ---------------------------------------------------------------------------------------------

Plant = Callable[[pytest.MonkeyPatch], None]


def _fence_dropped(patch: pytest.MonkeyPatch) -> None:
    """Reports of a stale attempt count."""
    patch.setattr("tasktrail.events.attempts._refuse_stale", lambda _state, _report: None)
    patch.setattr(reports, "_current", lambda turn, task_id, _attempt: turn.state.running.get(task_id))


def _reservation_leaked(patch: pytest.MonkeyPatch) -> None:
    """What a lost attempt was promised is never given back."""

    def release(self: SchedulerState, running: Running) -> None:
        del self.running[running.task_id]
        self._released.add(running.task_id)
        if not running.stopping:
            self.reserved.give_back(running.reserved_for)

    patch.setattr(SchedulerState, "release", release)


def _retry_ignores_the_old_attempt(patch: pytest.MonkeyPatch) -> None:
    """A retry by hand starts although the cancelled attempt is not gone."""
    place = Turn.place

    def hasty(self: Turn, task: TaskState) -> None:
        running = self.state.running.pop(task.id, None)
        if running is not None:
            self.state.reserved.give_back(running.reserved_for, seen=running.seen)
        place(self, task)

    patch.setattr(Turn, "place", hasty)


def _timers_not_restored(patch: pytest.MonkeyPatch) -> None:
    """At boot, what waits for a time is forgotten."""
    resume = lifecycle.resume

    def forgetful(turn: Turn, running: dict[int, Running]) -> None:
        resume(turn, running)
        turn.state.timers.clear()

    patch.setattr(lifecycle, "resume", forgetful)


def _blocked_not_restored(patch: pytest.MonkeyPatch) -> None:
    """At boot, what waits for another task is forgotten."""
    resume = lifecycle.resume

    def forgetful(turn: Turn, running: dict[int, Running]) -> None:
        resume(turn, running)
        turn.state.dependents.clear()

    patch.setattr(lifecycle, "resume", forgetful)


def _crashes_uncounted(patch: pytest.MonkeyPatch) -> None:
    """A task that kills its worker is tried again for ever."""
    table: dict[type, Any] = _EVOLVE
    failed = table[Failed]

    def kind(state: TaskState, event: Failed, at: Any) -> TaskState:
        changed: TaskState = replace(failed(state, event, at), crash_count=0)
        return changed

    patch.setitem(table, Failed, kind)


def _backfill_unbounded(patch: pytest.MonkeyPatch) -> None:
    """Smaller tasks start past a big one for ever."""
    patch.setattr(dispatch, "_has_been_overtaken_enough", lambda *_: False)
    patch.setattr(dispatch, "BACKFILL_BOUND", 2)  # what the checker goes by


def _too_big_stops_the_queue(patch: pytest.MonkeyPatch) -> None:
    """Resources are kept for a task that can never have enough."""
    patch.setattr(dispatch, "is_too_big", lambda *_: False)
    patch.setattr(dispatch, "_has_been_overtaken_enough", lambda *_: True)


def _deferred_cancel_lost(patch: pytest.MonkeyPatch) -> None:
    """A cancel during publishing is put aside and forgotten."""
    handle = commands.handle

    def forgetful(turn: Turn, submit: Any) -> None:
        handle(turn, submit)
        for running in turn.state.running.values():
            running.deferred.clear()

    patch.setattr(commands, "handle", forgetful)


def _cancel_ignores_publishing(patch: pytest.MonkeyPatch) -> None:
    """A cancel is recorded although the output may already be there."""
    handle = commands.handle

    def hasty(turn: Turn, submit: Any) -> None:
        running = turn.state.running.get(getattr(submit.command, "task_id", 0))
        if running is not None:
            running.granted_at = None
        handle(turn, submit)

    patch.setattr(commands, "handle", hasty)


def _limits_ignored(patch: pytest.MonkeyPatch) -> None:
    """More is promised than is allowed."""
    patch.setattr(dispatch, "obstacles", lambda *_: ())


def _held_forgets_its_release(patch: pytest.MonkeyPatch) -> None:
    """A task that was released and has ended is read back as held."""
    table: dict[type, Any] = _EVOLVE
    cancelled = table[Cancelled]

    def odd(state: TaskState, event: Any, at: Any) -> TaskState:
        changed: TaskState = replace(cancelled(state, event, at), held=state.held)
        return changed

    patch.setitem(table, Cancelled, odd)


def _stop_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A cancelled attempt is not told."""
    patch.setattr(Turn, "stop", lambda _self, running: setattr(running, "stopping", True))


PLANTED: dict[Plant, str] = {
    _fence_dropped: "completed|I2|I7|is (failed|cancelled|retrying)",
    _reservation_leaked: "reservations leak",
    _retry_ignores_the_old_attempt: "two live attempts|without a slot",
    _timers_not_restored: "nothing will wake it",
    _blocked_not_restored: "will not hear",
    _crashes_uncounted: "I6",
    _backfill_unbounded: "overtaken",
    _too_big_stops_the_queue: "I5",
    _deferred_cancel_lost: "never get an answer",
    _cancel_ignores_publishing: "I7",
    _limits_ignored: "I7",
    _held_forgets_its_release: "I4",
    _stop_forgotten: "goes on although",
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.strip("_"))
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    with pytest.raises(BrokenInvariantError, match=PLANTED[plant]):
        play_many(range(60), steps=1000)


def play_many(seeds: range, steps: int) -> None:
    for seed in seeds:
        play(seed, steps)
