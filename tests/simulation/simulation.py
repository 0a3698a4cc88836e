"""Plays a world: a number of steps with faults, and then a kind world in which everything has to end."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from random import Random

from broken import broken, must
from configuring import MAX_MEMORY
from doings import ALWAYS, DOINGS, ON_CLUSTERS, close, hand_over, ring, tell
from sim_cluster import ClusterExecutor
from story import Story
from structlog.testing import capture_logs
from world import World, has_nodes

from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.messages import LimitsConfigured, Reconcile, Sampled
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events import Started

WORLD_STEPS = 5000
"""Steps of one world. More steps are more worlds, each with the next seed."""
ATTEMPT_SECONDS = 10.0
"""The seconds of an attempt in the kind world."""
PATIENCE = 100
"""Rounds without an ended attempt or a new record that count as a hang; longer than any timeout."""
HORIZON = timedelta(days=3)
"""The virtual time without faults after which everything has ended that can: a notice may be retried for a day."""


def mixture(seed: int) -> list[float]:
    """Draw a mixture: each world has its own frequencies, and misses some happenings (swarm testing)."""
    rng = Random(-1 - seed)
    weights = []
    for function, often in DOINGS.items():
        if function.__name__ in ON_CLUSTERS and not has_nodes(seed):
            weights.append(0.0)
            continue
        choices = (0.5, 1.0, 1.0, 2.0) if function.__name__ in ALWAYS else (0.0, 0.3, 1.0, 1.0, 3.0)
        weights.append(often * rng.choice(choices))
    return weights


def run(world: World, steps: Iterable[int]) -> None:
    """Check safety: faults never stop, and the invariants are checked after each step."""
    doings, weights = list(DOINGS), mixture(world.seed)
    for number in steps:
        world.begin_step(number)
        function = world.rng.choices(doings, weights)[0]
        if world.story is not None:
            world.story.begin(number, world.time, function.__name__)
        function(world)
        world.check()


def settle(world: World) -> None:
    """Check liveness: faults stop. Every unhindered task must start within the bound, and end; doubts are resolved."""
    world.begin_step(1 << 23)
    if world.story is not None:
        world.story.begin(0, world.time, "faults stop")
    world.disk.full, world.disk.next_commit = False, "well"
    world.lag = world.losses = 0.0
    world.executor.obey()
    world.pass_time(2)  # a failed commit is tried again after a second
    ring(world)
    world.commit()
    if world.house.state.draining:
        close(world)
        world.log = world.log.taken_over()
        world.open()
    fair = world.limits.fair_share
    world.limits = Limits(max_concurrent=3, max_memory=MAX_MEMORY, max_temp_size=MAX_MEMORY, fair_share=fair)
    tell(world, LimitsConfigured(world.limits))
    tell(world, Sampled(MachineSample()))
    world.executor.be_kind()
    world.commit()
    world.notifier.catch_up()
    for submit in world.people.ask_again(world.failing):
        tell(world, submit)
    world.commit()
    for submit in world.people.undo(world.failing):
        tell(world, submit)
    for _ in range(2):  # two comparisons find what the executor has forgotten
        tell(world, Reconcile())
        _exchange(world)
    _play_out(world)
    _check_settled(world)


def _play_out(world: World) -> None:
    """Let attempts end, notices arrive and time pass, until nothing more is to come."""
    clock = StartClock(world)
    horizon = world.time + HORIZON
    idle = position = 0
    while idle < PATIENCE:
        _exchange(world)
        clock.look()
        if world.executor.live:
            world.pass_time(ATTEMPT_SECONDS)
            ring(world)
            idle = 0 if world.executor.finish_all() else idle + 1
            continue
        wakes = (world.house.wake_at, world.notifier.wake_at(world.time))
        wake = min((at for at in wakes if at is not None), default=None)
        if wake is None or wake > horizon:
            return
        idle = idle + 1 if world.ledger.position == position else 0
        position = world.ledger.position
        world.pass_time(max(0.0, (wake - world.time).total_seconds()))
        ring(world)


def _exchange(world: World) -> None:
    """Let everything under way arrive and be answered."""
    if isinstance(world.executor, ClusterExecutor):
        tell(world, Sampled(MachineSample(), nodes=world.executor.samples(kind=True)))
    world.commit()
    world.notifier.tell_again(world.time)
    while True:
        world.notifier.send(world.time)
        while world.notifier.busy:
            world.notifier.hear(world.time, kind=True)
        if not (world.executor.channel or world.deliveries):
            return
        while world.executor.channel:
            hand_over(world)
        while world.deliveries:
            tell(world, world.deliveries.pop(0))
        world.commit()


class StartClock:
    """How long unhindered tasks wait. The bound stands in docs/how-to/run-the-simulator.md."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._began = world.time
        self._seen = world.ledger.position
        open_ends = len(world.ledger.open) + len(world.executor.live)
        self._bound = timedelta(seconds=ATTEMPT_SECONDS * (open_ends + 1))

    def look(self) -> None:
        """Check that no task started since the last look has waited longer than the bound."""
        world = self._world
        for record in world.log.read(after=self._seen):
            self._seen = record.position
            if isinstance(record.event, Started):
                waited = world.time - self._eligible_since(record.task_id)
                if waited > self._bound:
                    broken(f"I5: task {record.task_id} has waited {waited}, the bound is {self._bound}")

    def _eligible_since(self, task_id: int) -> datetime:
        """Return the latest of: the end of faults, its last event before the start, its time, its dependencies."""
        world = self._world
        before = [record for record in world.log.read_task(task_id) if not isinstance(record.event, Started)]
        due = getattr(before[-1].event, "due_at", None)
        spec = world.ledger.tasks[task_id].spec
        ends = [world.ledger.tasks[other].completed_at for other in spec.depends_on]
        moments = [self._began, before[-1].recorded_at, due, world.ledger.tasks[task_id].scheduled_for, *ends]
        return max(at for at in moments if at is not None)


def _check_settled(world: World) -> None:
    tasks = world.ledger.tasks
    stuck = sorted(task_id for task_id in world.ledger.open if world.is_free(tasks[task_id]))
    must(not stuck, f"I5: stuck for ever: {[tasks[task_id] for task_id in stuck[:3]]}")
    doubts = world.people.in_doubt
    must(not doubts, f"I14: never answered: {[asked.command for asked in doubts.values()][:3]}")
    waiting = world.people.waiting
    must(not waiting, f"I14: commands {sorted(set(waiting.values()))} never get an answer")
    must(not world.house.state.running, "I7: slots are held for nothing")
    if isinstance(world.executor, ClusterExecutor):
        must(not world.executor.unsettled(), f"ends are never settled: {world.executor.unsettled()}")
    must(not world.receivers.due, f"I9: notices never arrive: {sorted(world.receivers.due)[:3]}")
    world.check_everything()


def play(
    seed: int, steps: int = WORLD_STEPS, *, only: Iterable[int] | None = None, story: Story | None = None
) -> World:
    """Play one world to its end, with `only` these steps of it, if given. Raises when an invariant breaks."""
    with capture_logs():
        world = World(seed, story)
        run(world, range(1, steps + 1) if only is None else only)
        settle(world)
    return world
