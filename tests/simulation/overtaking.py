"""How often a queued task sees a worse one start before it. The bound stands in docs/explanation/scheduling.md."""

from collections import Counter

from broken import must

from tasktrail.actors.core import dispatch
from tasktrail.actors.core.overtaking import is_eligible
from tasktrail.actors.core.state import SchedulerState
from tasktrail.events.priority import queue_key


class Overtakings:
    """Counts for one memory of the Scheduler: after a restart it counts anew, and so does this."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self.most = 0
        """The highest count there was."""

    def follow(self, state: SchedulerState, before: dict[int, int], *, by_hand: bool) -> None:
        """Look at what the last message has started. `before`: the attempt of each running task before it.

        By hand anything may start; and while nothing runs, the next that fits may: keeping resources would not help.
        """
        counts = self._counts
        if counts:
            for task_id in [task_id for task_id in counts if task_id not in state.queue]:
                del counts[task_id]
        if by_hand:
            return
        started = [task_id for task_id, entry in state.running.items() if before.get(task_id) != entry.attempt]
        if started and len(started) == len(state.running):
            started = started[1:]
        if not started:
            return
        keys = {task.id: queue_key(task) for task in state.tasks.values() if is_eligible(state, task)}
        for task_id in started:
            key = queue_key(state.tasks[task_id])
            counts.update(other for other, theirs in keys.items() if theirs < key)
        self.most = max(self.most, max(counts.values(), default=0))
        must(
            self.most <= dispatch.BACKFILL_BOUND,
            f"I5: {counts.most_common(3)} are overtaken more often than {dispatch.BACKFILL_BOUND} times",
        )
