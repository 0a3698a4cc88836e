"""The same worlds with operators in them: limits, pauses, drains, adjustments and schedules, faults as ever.

When faults stop, the operators let go of everything; then all must settle as it does without them.
"""

from typing import Any

import people
import pytest
import simulation
from doings import tell
from msgspec.structs import replace
from people import Asked, Eyes
from world import World

from tasktrail.actors.core.messages import Intake
from tasktrail.events import AdjustTask, Command, CreateTask
from tasktrail.events.operator_commands import (
    AddSchedule,
    DrainQueue,
    PauseQueue,
    RemoveSchedule,
    ResumeQueue,
    SetLimits,
)
from tasktrail.events.system_events import LimitsChanged, QueueDrained, QueuePaused

SCOPES: tuple[dict[str, Any], ...] = ({}, {"type": "plain"}, {"user_id": 1})


def pause(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return PauseQueue(command_id=command_id, **eyes.rng.choice(SCOPES)), Intake()


def resume(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return ResumeQueue(command_id=command_id, **eyes.rng.choice(SCOPES)), Intake()


def drain(_eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return DrainQueue(command_id=command_id), Intake()


def limit(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    number = eyes.rng.randint(1, 3)
    changes: tuple[dict[str, Any], ...] = (
        {"max_per_type": number},
        {"max_per_user": number},
        {"users": {"2": number}},
        {"types": {"plain": None}},
    )
    return SetLimits(command_id=command_id, **eyes.rng.choice(changes)), Intake()


def adjust(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    priority, held = eyes.rng.randint(0, 10), eyes.rng.choice((None, None, True, False))
    return AdjustTask(task_id=eyes.task("pending"), priority=priority, held=held, command_id=command_id), Intake()


def schedule(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    task = CreateTask(type="plain", user_id=1, options={"fate": ""})
    return AddSchedule(schedule="often", task=task, every=eyes.rng.choice((5.0, 60.0)), command_id=command_id), Intake()


def unschedule(_eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return RemoveSchedule(schedule="often", command_id=command_id), Intake()


OFTEN: dict[people.Wish, float] = {
    pause: 0.5,
    resume: 2.0,
    drain: 0.2,
    limit: 0.7,
    adjust: 1.0,
    schedule: 0.3,
    unschedule: 0.3,
}
"""Function → how often it is wanted, beside the wishes that there are."""


def let_go(world: World) -> None:
    """Operators undo whatever they have done."""
    wishes: list[Command] = [ResumeQueue(**scope) for scope in SCOPES]
    wishes += [SetLimits(reset=True), RemoveSchedule(schedule="often")]
    for number, command in enumerate(wishes):
        named: Command = replace(command, command_id=f"let go {number}")
        tell(world, world.people._submit(Asked(named, Intake()), world.failing))
    world.commit()


@pytest.mark.parametrize("seed", range(1, 7))
def test_every_promise_holds_with_operators_and_everything_settles(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    play_out = simulation._play_out

    def first_let_go(world: World) -> None:
        let_go(world)
        play_out(world)

    monkeypatch.setattr(simulation, "_play_out", first_let_go)
    for wish, often in OFTEN.items():
        monkeypatch.setitem(people.WISHES, wish, often)
    world = simulation.play(seed, 2500)
    kinds = {type(record.event) for record in world.log.read()}
    assert kinds & {LimitsChanged, QueuePaused, QueueDrained}, "operators were there"
