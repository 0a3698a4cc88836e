"""The real core keeps every promise in simulated worlds, and the simulator finds every planted fault."""

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from broken import BrokenInvariantError
from planted import Plant
from planted_nodes import NODE_FAULTS, PLANTED
from shrink import failure, shorter, shrink
from simulate import main, worlds
from simulation import play
from story import Story
from world import has_nodes

from tasktrail.actors.core import dispatch

SCRIPT = Path(__file__).parent / "simulate.py"

SEEDS_THAT_FAILED = {
    (6, 1000): "a commit that had failed was not tried again while the wall clock was behind",
    (214, 1500): "a cancel sent twice while publishing was accepted for one sender and refused for the other",
    (3, 1000): "a cancelled task stayed in memory",
    (7, 1000): "cancels that waited for publishing were never answered",
    (9, 1000): "a finished task that had been adjusted was read back otherwise than memory had it",
    (34, 1000): "where an adjustment is recorded was known in another way after a restart",
    (1055, 5000): "a service that was replaced still granted the wish to publish",
    (121, 1000): "a task beyond the limits stopped the queue",
    (97, 5000): "a time to start was forgotten when a jump of the clock moved a limit behind it",
}
"""(seed, steps) → the fault of the core that it once found. Most are of an older simulator's worlds."""


@pytest.mark.parametrize(
    "seed", [*range(1, 41), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(41, 101))]
)
def test_every_promise_holds_and_everything_settles(seed: int) -> None:
    play(seed, steps=1000)


@pytest.mark.parametrize(("seed", "steps"), SEEDS_THAT_FAILED)
def test_a_seed_that_failed_once_holds(seed: int, steps: int) -> None:
    play(seed, steps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [100, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(101, 104))])
def test_long_worlds_hold(seed: int) -> None:
    play(seed, steps=8_000)


# --- the bound on overtaking (docs/explanation/scheduling.md) -----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("bound", "depth"), [(1, 64), (2, 2), (3, 16)])
def test_nobody_is_overtaken_more_often_than_the_bound_says(
    bound: int, depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every world has other limits, machines and priorities. Each bound is also reached, so no lower one would hold."""
    monkeypatch.setattr(dispatch, "BACKFILL_BOUND", bound)
    monkeypatch.setattr(dispatch, "BACKFILL_DEPTH", depth)
    most = 0
    for seed in range(200, 240):
        if has_nodes(seed):
            continue  # on a cluster it holds for each node
        most = max(most, play(seed, steps=4000).most_overtaken)
        if seed >= 203 and most == bound:
            break
    assert most == bound


# --- the same world everywhere ------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_world_in_every_process() -> None:
    """The order of a set or of hashes must not reach the log."""
    outputs = set()
    for hash_seed in ("1", "2"):
        command = [sys.executable, str(SCRIPT), "--seed", "5", "--steps", "600", "--trace"]
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        outputs.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64


def test_another_seed_gives_another_world() -> None:
    assert play(1, steps=50).trace.hexdigest() != play(2, steps=50).trace.hexdigest()


# --- planted faults -----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found within the steps in which the real core holds: see the first test."""
    plant(monkeypatch)
    seeds, steps = (filter(has_nodes, range(44, 400)), 4000) if plant in NODE_FAULTS else (range(1, 201), 1000)
    with pytest.raises(BrokenInvariantError, match=PLANTED[plant]):
        _play_all(seeds, steps)


def _play_all(seeds: Iterable[int], steps: int) -> None:
    for seed in seeds:
        play(seed, steps)


def test_a_failure_is_made_short_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    plant = next(plant for plant in PLANTED if plant.__name__ == "stop_forgotten")
    plant(monkeypatch)
    seed, error = next((seed, error) for seed in range(1, 21) if (error := failure(seed, range(1, 301))))
    kept = shrink(seed, 300, error)
    story = Story()
    again = failure(seed, kept, story)
    assert isinstance(again, BrokenInvariantError)
    assert len(kept) < 30
    assert "orders: Run(" in str(story)


def test_the_shortest_list_that_still_fails_is_found() -> None:
    assert shorter(range(100), lambda steps: {17, 42} <= set(steps), seconds=5) == [17, 42]


# --- the command --------------------------------------------------------------------------------------------------


def test_many_steps_are_many_worlds() -> None:
    assert worlds(7, 12_000) == [(7, 5000), (8, 5000), (9, 2000)]
    assert worlds(7, 300) == [(7, 300)]


def test_the_command_says_what_broke_and_how_to_repeat_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    next(plant for plant in PLANTED if plant.__name__ == "reservation_leaked")(monkeypatch)
    monkeypatch.setattr(sys, "argv", ["simulate.py", "--seed", "1", "--steps", "20000", "--shrink", "2"])
    assert main() == 1
    printed = capsys.readouterr().out
    assert "I7: reservations leak" in printed
    assert "repeat it: make sim SEED=" in printed
    assert "only these: python tests/simulation/simulate.py --seed" in printed


def test_the_command_plays_at_least_one_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate.py", "--steps", "0"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "--steps: play at least one, not 0" in capsys.readouterr().err


def test_the_command_says_that_all_held(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["simulate.py", "--steps", "200"])
    assert main() == 0
    assert "no promise broken in 1 worlds" in capsys.readouterr().out
