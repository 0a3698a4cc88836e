"""Compares `why` with what the next look at the queue really does."""

from broken import broken
from world import World

from tasktrail.actors.core.explanation import explain
from tasktrail.actors.core.messages import Tick
from tasktrail.events import Created, Started

ASKED = 4
"""The waiting tasks that are asked about at once."""


def check_why(world: World) -> None:
    """Check that a task still waiting after a look has a reason, and one started by that look alone had none."""
    world.pass_time(world.rng.choice((0, 1, 100)))
    if world.house.in_trouble:
        return  # nothing is looked at until the log can be written
    wake = world.house.wake_at
    if world.cluster is not None and wake is not None and wake <= world.time:
        world.tell(Tick())  # `why` counts a rate's rest as of the last look, and many tasks wait here for one rate
        if world.house.in_trouble:
            return
    state = world.house.state
    waiting = [task_id for task_id, task in state.tasks.items() if task.waiting]
    due = [timer.task_id for timer in state.timers[:2] if timer.task_id in state.tasks]
    asked = {*world.rng.sample(waiting, min(ASKED, len(waiting))), *due}
    before = {task_id: _reasons(world, task_id) for task_id in sorted(asked)}
    world.tell(Tick())
    if world.house.state is not state:
        return  # the commit has failed, and memory was replaced
    started = {fact.task_id for fact in world.staged_last if isinstance(fact.event, Started)}
    only_starts = all(isinstance(fact.event, Started | Created) for fact in world.staged_last)
    for task_id, reasons in before.items():
        if task_id in started:
            if reasons and only_starts:
                broken(f"why says that task {task_id} waits for {reasons}, and it starts")
        elif task_id in state.tasks and state.tasks[task_id].waiting and not _reasons(world, task_id):
            broken(f"why has no reason for task {task_id}, which waits")


def _reasons(world: World, task_id: int) -> list[str]:
    answer = explain(world.house.state, task_id, world.time)
    if answer is None:
        return []
    why = answer()
    if why.reasons and not why.waiting:
        broken(f"why explains the wait of task {task_id}, which is {why.status}")
    return [obstacle.reason.value for obstacle in why.reasons]
