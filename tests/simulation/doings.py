"""The possible happenings of a step. A new one is one function under `@doing`."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeAlias

from asking_why import check_why
from broken import must
from sim_cluster import ClusterExecutor
from world import World

from tasktrail.actors.core.messages import Drain, LimitsConfigured, Reconcile, Sampled, Submit, Tick
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events.errors import Fenced
from tasktrail.events.reports import AttemptEnded

RUSHED = 20
"""The number of tasks that may wait when a rush comes."""
Doing: TypeAlias = Callable[[World], None]

DOINGS: dict[Doing, float] = {}
"""Function → how often it usually happens."""

ALWAYS = ("deliver", "work", "ask", "commit", "pass_time")
"""Without these a world stands still; each other one is missing in some worlds."""


def doing(often: float) -> Callable[[Doing], Doing]:
    """Register a happening, with its frequency."""

    def enlist(function: Doing) -> Doing:
        DOINGS[function] = often
        return function

    return enlist


@doing(25)
def deliver(world: World) -> None:
    """Deliver a report of the executor, or the result of a notice, to the Scheduler."""
    if world.executor.channel:
        hand_over(world)
    elif world.deliveries:
        tell(world, world.deliveries.pop(0))


def hand_over(world: World) -> None:
    """Deliver the next report to the Scheduler."""
    report = world.executor.channel.popleft()
    tell(world, report)
    world.executor.received(report)


def tell(world: World, message: Any) -> None:
    """Send the Scheduler a message."""
    world.note(f"→ {message}")
    world.tell(message)


@doing(25)
def work(world: World) -> None:
    """Let the executor obey, and an attempt do something."""
    world.executor.obey(2)
    world.executor.act()


@doing(12)
def ask(world: World) -> None:
    """Let somebody send a command, which may get lost on the way."""
    submit = world.people.send(world.time, world.failing)
    _send(world, submit)


def _send(world: World, submit: Submit | None) -> None:
    if submit is None:
        return
    if world.rng.random() < 0.03:
        world.note(f"lost on its way: {submit.command}")
        world.people.lost()
        return
    world.note(f"→ {submit.command}, {submit.intake}")
    world.tell(submit)


@doing(2)
def ask_again(world: World) -> None:
    """Let somebody repeat a command."""
    _send(world, world.people.repeat(world.failing))


@doing(0.5)
def reuse_an_id(world: World) -> None:
    """Let somebody send another command under an old id."""
    _send(world, world.people.reuse_an_id(world.failing))


@doing(15)
def commit(world: World) -> None:
    """Let the inbox run dry."""
    world.commit()


@doing(8)
def pass_time(world: World) -> None:
    """Let some time pass; the alarm rings when it is due."""
    world.pass_time(world.rng.choice((0.1, 1, 1, 10, 100)) * world.rng.random())
    ring(world)


def ring(world: World) -> None:
    """Ring the alarm, if it is due."""
    wake = world.house.wake_at
    if (wake is not None and wake <= world.time) or world.clock_was_set:
        tell(world, Tick())
    world.check_schedules()


@doing(3)
def notify(world: World) -> None:
    """Send notices, and let a receiver answer."""
    world.notifier.send(world.time)
    world.notifier.hear(world.time)
    world.notifier.tell_again(world.time)


@doing(1)
def ask_why(world: World) -> None:
    """Let somebody ask why tasks wait, before and after the next look at the queue."""
    check_why(world)


@doing(1)
def sample(world: World) -> None:
    """Make the machine more or less busy and short of something, or sample the nodes."""
    if isinstance(world.executor, ClusterExecutor):
        tell(world, Sampled(MachineSample(), nodes=world.executor.samples()))
        return
    memory, temp = world.rng.randint(0, 20), world.rng.choice((3, 7, 7, 20))
    cpu = world.rng.choice((5.0, 50.0, 99.0))
    machine = MachineSample(cpu_percent=cpu, memory_available=memory, temp_free=temp, memory_total=20)
    running = world.house.state.running.values()
    temp_used = {one.task_id: world.rng.randint(-1, 5) for one in running if world.rng.random() < 0.7}
    memory_used = {(one.task_id, one.attempt): world.rng.randint(0, 9) for one in running if world.rng.random() < 0.7}
    tell(world, Sampled(machine, temp_used, memory_used=world.rng.choice((memory_used, None))))


@doing(1)
def tune(world: World) -> None:
    """Let somebody change the limits, or let workers come and go."""
    if world.rng.random() < 0.5:
        world.executor.change_capacity(world.rng.randint(0, 4))
    world.configure()
    tell(world, LimitsConfigured(world.limits))


@doing(3)
def look_at_nodes(world: World) -> None:
    """Let samples of nodes come."""
    sample(world)


# --- faults ---------------------------------------------------------------------------------------------------------


@doing(1)
def old_report(world: World) -> None:
    """Deliver a report late, or twice."""
    world.executor.repeat_an_old_report()


@doing(0.5)
def lost_report(world: World) -> None:
    """Lose a report."""
    world.executor.lose_a_report()


@doing(0.7)
def worker_dies(world: World) -> None:
    """Kill a worker."""
    world.executor.kill_a_worker()


@doing(0.4)
def failed_commit(world: World) -> None:
    """Let the next commit fail: either it is unknown whether it was written, or the log refuses it."""
    world.disk.next_commit = world.rng.choice(("written", "not written", "refused", "refused"))


@doing(0.15)
def full_disk(world: World) -> None:
    """Let no write succeed until there is room again."""
    world.disk.full = True


@doing(1)
def room_on_disk(world: World) -> None:
    """Make room."""
    world.disk.full = False


@doing(0.3)
def crash(world: World) -> None:
    """Kill the service: staged records are lost, all attempts die with it."""
    world.executor.close()
    world.pass_time(world.rng.randint(0, 100))
    world.log = world.log.taken_over()
    world.open()


@doing(0.1)
def second_owner(world: World) -> None:
    """Let a newer service take the log while the old one lives on without knowing."""
    old, executor = world.house, world.executor
    crash(world)
    if not world.disk.well or old.in_trouble:
        return
    world.disk.failing = False
    submit = world.people.send(world.time, world.failing)
    world.people.lost()
    old.tell(submit, dry=False)
    old.tell(AttemptEnded(0, 0, "completed"), dry=False)
    staged = old.staged_facts
    old.commit()
    must(not staged or isinstance(old.fatal, Fenced), "I13: a service that was replaced goes on")
    must(executor.closed, "the executor of a killed service lives on")


@doing(0.2)
def drain(world: World) -> None:
    """Ask the service to stop; some time later it stops normally, and is started again."""
    if not world.house.state.draining:
        tell(world, Drain())
    elif world.disk.well and not world.house.in_trouble:
        close(world)
        world.log = world.log.taken_over()
        world.open()


def close(world: World) -> None:
    """Stop the service normally; the executor kills running attempts, so orders come too late."""
    world.executor.close()
    world.executor.channel.clear()
    if world.cluster is not None:
        world.cluster.clear()
    world.house.close()
    waiting = world.people.waiting
    must(not waiting, f"I14: commands {sorted(set(waiting.values()))} never get an answer")
    must(all(task.status != "running" for task in world.ledger.tasks.values()), "an attempt outlives the service")


@doing(0.3)
def jump(world: World) -> None:
    """Set the wall clock, by up to an hour back or forward, or a day forward."""
    hours = world.rng.choice((1, 1, 1, 24))
    seconds = world.rng.randint(-3600, 3600) if hours == 1 else timedelta(hours=hours).total_seconds()
    world.set_clock(seconds)


@doing(0.2)
def forgotten_attempt(world: World) -> None:
    """Let the executor silently lose an attempt."""
    world.executor.forget()


@doing(1)
def reconcile(world: World) -> None:
    """Compare the attempts that should run with those that the executor holds."""
    tell(world, Reconcile())


@doing(0.7)
def node_comes_or_goes(world: World) -> None:
    """Lose a machine of the cluster, or bring it back."""
    assert isinstance(world.executor, ClusterExecutor)
    world.executor.lose_or_gain_a_node()


@doing(1.5)
def rush(world: World) -> None:
    """Create many tasks at once, if not too many wait already."""
    if len(world.house.state.queue) < RUSHED:
        for submit in world.people.rush(world.failing):
            tell(world, submit)


ON_CLUSTERS = ("node_comes_or_goes", "look_at_nodes", "rush")
"""The happenings for clusters only."""
