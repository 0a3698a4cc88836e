"""A random life of a service: people, operators, workers, deliveries and time, all in one log."""

from random import Random
from typing import Any

from core_harness import Core

from tasktrail.actors.core.messages import Archive, Delivered, ErasureDone, Tick
from tasktrail.events import AdjustTask, Command, CreateTask, EnableEndpoint
from tasktrail.events.commands import (
    AddSchedule,
    AddSource,
    AddToken,
    DrainNode,
    DrainQueue,
    EraseUser,
    PauseQueue,
    PauseSource,
    RemoveSchedule,
    RemoveSource,
    ResumeQueue,
    ResumeSource,
    RevokeToken,
    SetLimits,
    UndrainNode,
)
from tasktrail.events.context import Belongings
from tasktrail.events.system_events import DeliveryAttempted, RetentionRule, SegmentArchived
from tasktrail.events.task_events import Estimated

TYPES = ("work", "other")
GRACE = dict.fromkeys(TYPES, 0.5)
HOOKS = ("https://a.test/x", "https://b.test/x")
_LIMITS: tuple[dict[str, Any], ...] = (
    {"max_concurrent": 3},
    {"max_per_type": 2},
    {"types": {"work": 2}, "users": {"1": 1}, "labels": {"x": 2}},
    {"types": {"work": None}},
    {"fair_share": True, "max_memory": 0},
    {"rates": {"type:work": "2/m", "user:*": "9/h"}},
    {"rates": {"type:work": "5/m", "user:*": None}},
    {"reset": True},
)
_SCOPES: tuple[dict[str, Any], ...] = ({}, {"type": "work"}, {"user_id": 1})


def live(seed: int, steps: int) -> Core:
    """Return a core after a number of random messages, which depend only on the seed."""
    dice = Random(seed)
    core = Core(slots=3, grace=GRACE, rates={"label:x": "4/m"}, retention=(RetentionRule(older_than=9.0),))
    for number in range(steps):
        core.wait(dice.choice([0, 0.5, 20]))
        operations = (_create, _end, _by_person, _by_operator, _delivered, _time, _clock_set)
        operation = dice.choices(operations, (8, 9, 6, 3, 3, 2, 0.5))[0]
        operation(core, dice, number)
    return core


def _some(core: Core, dice: Random) -> int:
    return dice.randint(1, max(1, core.state.durable.last_task_id))


def _create(core: Core, dice: Random, number: int) -> None:
    known = core.state.durable.last_task_id
    core.ask(
        CreateTask(
            type=dice.choice(TYPES),
            priority=dice.randint(0, 10),
            options={"number": number, "deep": [1.5, None, {"名": "x"}]},
            user_id=dice.randint(0, 2),
            label=dice.choice(["", "x"]),
            unique=dice.choice(["", "", "", "k"]),
            held=dice.random() < 0.15,
            max_retries=dice.randint(0, 2),
            retry_delay=dice.choice([0.0, 30.0]),
            queue_timeout=dice.choice([None, None, 600.0]),
            scheduled_for=dice.choice([None, None, core.now]),
            depends_on=(_some(core, dice),) if known and dice.random() < 0.3 else (),
            on_dependency_failure=dice.choice(["wait", "cancel", "ignore"]),
            parent_task_id=_some(core, dice) if known and dice.random() < 0.3 else None,
            notify_webhook=dice.choice(["", *HOOKS]),
        ),
        estimate=Estimated(memory=100, seconds=10.0),
    )


def _end(core: Core, dice: Random, _number: int) -> None:
    if core.running():
        task_id = dice.choice(core.running())
        if dice.random() < 0.3:
            core.checkpoint(task_id, core.state.running[task_id].attempt, progress=50.0)
        outcome = dice.choice(["completed", "completed", "failed", "lost"])
        core.end(task_id, outcome, memory_used=dice.randint(50, 200), time_used=dice.uniform(5, 20))  # type: ignore[arg-type]  # one of the outcomes


def _by_person(core: Core, dice: Random, _number: int) -> None:
    task_id = _some(core, dice)
    match dice.randint(0, 4):
        case 0:
            core.cancel(task_id)
        case 1 | 2:
            core.retry(task_id, force=True)
        case 3:
            core.start(task_id)
        case _:
            held = dice.choice([None, True, False])
            core.ask(AdjustTask(task_id=task_id, priority=dice.randint(0, 10), held=held))


def _by_operator(core: Core, dice: Random, number: int) -> None:
    match dice.randint(0, 12):
        case 12:
            core.ask(dice.choice((DrainNode, UndrainNode))(node="local"))
        case 0 | 1:
            core.ask(SetLimits(**dice.choice(_LIMITS)))
        case 2:
            core.ask(PauseQueue(**dice.choice(_SCOPES)))
        case 3:
            core.ask(DrainQueue())
        case 4:
            core.ask(AddSchedule(schedule=f"s{number % 3}", task=CreateTask(type="work"), every=90.0))
        case 5:
            core.ask(RemoveSchedule(schedule=f"s{number % 3}"))
        case 6:
            core.ask(AddToken(token=f"t{number % 3}", role="reader", digest=f"{number:064x}"))
        case 7:
            core.ask(RevokeToken(token=f"t{number % 3}"))
        case 9:
            core.ask(AddSource(source=f"f{number % 3}", inputs=("/in",), to="/out/"))
        case 10:
            commands: list[Command] = [
                kind(source=f"f{number % 3}") for kind in (PauseSource, ResumeSource, RemoveSource)
            ]
            core.ask(dice.choice(commands))
        case 11:
            _erase(core, dice)
        case _:
            for scope in _SCOPES:
                core.ask(ResumeQueue(**scope))


def _erase(core: Core, dice: Random) -> None:
    """Erase a user without open tasks; some erasures are finished at once."""
    open_tasks = core.state.tasks.keys()
    over = tuple(one for one in range(1, core.state.durable.last_task_id + 1) if one not in open_tasks)
    core.ask(EraseUser(user_id=9), belongings=Belongings(keys=("k",), tasks=over[-3:]))
    if dice.random() < 0.5:
        core.tell(ErasureDone(core.state.position))


def _delivered(core: Core, dice: Random, _number: int) -> None:
    target = dice.choice(HOOKS)
    told = [record for record in core.log.read() if record.task_id][-1:]
    if dice.random() < 0.2:
        core.ask(EnableEndpoint(target=target))
    for record in told:
        attempt = DeliveryAttempted(
            notice_id=f"n{record.position}",
            task_id=record.task_id,
            channel="webhook",
            target=target,
            ok=False,
            disabled=dice.random() < 0.2,
            rest_until=core.now if dice.random() < 0.3 else None,
        )
        core.tell(Delivered(attempt))


def _time(core: Core, dice: Random, _number: int) -> None:
    core.wait(dice.choice([60, 1000]))
    core.tell(Tick())
    until = max((one.last for one in core.state.durable.archives.values()), default=0)
    event = SegmentArchived(first=until + 1, last=core.state.position, root="", sha256="", size=0, newest_task=0)
    core.tell(Archive(event=event, actor="retention", token="archive"))


def _clock_set(core: Core, dice: Random, _number: int) -> None:
    core.set_clock(dice.choice([-300, 300, 3600]))
