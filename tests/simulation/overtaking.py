"""How often a queued task sees a worse one start before it. The bound stands in docs/explanation/scheduling.md."""

from collections import Counter

from broken import broken
from eligible import overtaken_by
from sim_cluster import MACHINES

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import TaskState


class Overtakings:
    """Counts for one memory of the Scheduler: both count anew after a restart."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.most = 0
        """The highest count so far."""

    def follow(self, state: SchedulerState, started: list[int]) -> None:
        """Check the starts of the last message, in this order, except those by hand.

        While nothing runs, the next task that fits may start: keeping resources would not help.
        """
        counts = self._counts
        for task_id in [task_id for task_id in counts if task_id not in state.queue]:
            del counts[task_id]
        if len(started) == len(state.running):
            started = started[1:]
        for task_id in started:
            counts.update(one for one in overtaken_by(state, state.tasks[task_id]) if _takes_from(state, task_id, one))
        self.most = max(self.most, max(counts.values(), default=0))
        for task_id, count in counts.items():
            bound = dispatch.BACKFILL_BOUND * _places_of(state, state.tasks[task_id])
            if count > bound:
                broken(f"I5: task {task_id} is overtaken more often than {bound} times")


def _places_of(state: SchedulerState, task: TaskState) -> int:
    """Return on how many machines it can be overtaken, which are kept for it one after another."""
    if not state.nodes.many:
        return 1
    return sum(
        task.memory_needed <= machine.memory
        and task.temp_needed <= machine.temp
        and any(machine.suits(task.spec.requires, name) for name in machine.names)
        for machine in MACHINES.values()
    )


def _takes_from(state: SchedulerState, started: int, task_id: int) -> bool:
    """Return whether the start takes room that the other task could use: on its node, if there are any."""
    if not state.nodes.many:
        return True
    return state.nodes.by_name[state.running[started].node].could_hold(state.tasks[task_id])
