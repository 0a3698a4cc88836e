"""Commands of operators for the whole service: limits, pauses, drains and schedules. `wishes.py` has the others."""

from datetime import timedelta
from random import Random
from typing import Any

from eyes import NODE_WISHES, Eyes, wish
from sim_cluster import DRAINED
from wishes import KEYS, LABELS

from tasktrail.actors.core.messages import Intake
from tasktrail.events import Command, CreateTask
from tasktrail.events.commands import (
    AddSchedule,
    DrainNode,
    DrainQueue,
    PauseQueue,
    RemoveSchedule,
    ResumeQueue,
    SetLimits,
    UndrainNode,
)
from tasktrail.events.task_events import Estimated

SCHEDULES = ("first", "second", "third")
PATTERNS: tuple[dict[str, Any], ...] = (
    {"every": 90.0},
    {"every": 1800.5},
    {"cron": "*/2 * * * *"},
    {"cron": "30 2 * * *", "timezone": "Europe/Berlin"},
)
"""The expressions whose times `firing.py` computes independently."""
CHANGES: tuple[dict[str, Any], ...] = (
    {"max_concurrent": 1},
    {"max_concurrent": 4},
    {"max_memory": 8},
    {"max_memory": 0},
    {"max_temp_size": 5},
    {"max_cpu": 60.0},
    {"max_per_type": 2, "types": {"plain": 1}},
    {"max_per_type": 0, "types": {"plain": 3, "other": 1}},
    {"types": {"plain": None, "other": None}},
    {"max_per_user": 1},
    {"max_per_user": 2, "users": {"1": 1, "2": None}},
    {"users": {"0": 1, "1": None}},
    {"max_per_label": 1, "labels": {"blue": 2}},
    {"max_per_label": 0, "labels": {"red": 1, "blue": None}},
    {"rates": {"type:plain": "1/m", "user:1": "2/h"}},
    {"rates": {"type:plain": "5/m", "user:1": None, "label:*": "3/m"}},
    {"rates": {"type:plain": None, "user:*": None, "label:*": None}},
    {"fair_share": True},
    {"fair_share": False},
    {"reset": True},
    {"reset": True, "max_per_user": 2},
    {},
)


def _scope(rng: Random) -> dict[str, Any]:
    return rng.choice(({}, {"type": "plain"}, {"type": "other"}, {"user_id": 1}, {"user_id": rng.randint(0, 3)}))


@wish(0.6)
def set_limits(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return SetLimits(**eyes.rng.choice(CHANGES), command_id=command_id), Intake()


@wish(0.3)
def pause(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return PauseQueue(**_scope(eyes.rng), command_id=command_id), Intake()


@wish(0.9)
def resume(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    """Resume mostly the oldest pause."""
    scope = _scope(eyes.rng) if eyes.rng.random() < 0.2 else next(iter(eyes.standing.pauses.values()), _scope(eyes.rng))
    return ResumeQueue(**scope, command_id=command_id), Intake()


@wish(0.1)
def drain_queue(_eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return DrainQueue(command_id=command_id), Intake()


@wish(0.5)
def add_schedule(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    rng = eyes.rng
    task = CreateTask(
        type=rng.choice(("plain", "other")),
        user_id=rng.randint(0, 3),
        label=rng.choice(LABELS),
        unique=rng.choice(KEYS),
        options={"fate": ""},
        output_file=rng.choice(("", "/out/{fire_time}")),
        queue_timeout=rng.choice((None, 1800.0)),
    )
    command = AddSchedule(
        schedule=rng.choice(SCHEDULES),
        task=task,
        starting_at=rng.choice((None, None, eyes.now + timedelta(seconds=rng.randint(-5000, 5000)))),
        missed=rng.choice(("skip", "once", "all")),
        max_missed=rng.choice((1, 3)),
        command_id=command_id,
        **rng.choice(PATTERNS),
    )
    return command, Intake(estimate=Estimated(memory=rng.choice((0, 2))))


@wish(0.1)
def remove_schedule(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return RemoveSchedule(schedule=eyes.rng.choice(SCHEDULES), command_id=command_id), Intake()


@wish(0.5, NODE_WISHES)
def drain_node(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return DrainNode(node=eyes.rng.choice(DRAINED), command_id=command_id), Intake()


@wish(0.8, NODE_WISHES)
def undrain_node(eyes: Eyes, command_id: str) -> tuple[Command, Intake]:
    return UndrainNode(node=eyes.rng.choice([*eyes.standing.node_drains, *DRAINED]), command_id=command_id), Intake()


def undo(eyes: Eyes) -> list[Command]:
    """Make the world kind again: no pause, no schedule, and the limits as configured."""
    resumes = [ResumeQueue(**scope) for scope in eyes.standing.pauses.values()]
    undrains = [UndrainNode(node=name) for name in eyes.standing.node_drains]
    return [
        SetLimits(reset=True),
        *resumes,
        *undrains,
        *(RemoveSchedule(schedule=name) for name in eyes.standing.plans),
    ]
