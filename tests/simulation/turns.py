"""Whose turn it is, computed from the starts alone: the users in the order of their last starts."""

from collections.abc import Iterable, Mapping

from tasktrail.actors.core.state import SchedulerState
from tasktrail.events import Fact, Recorded, Started, TaskState


class Turns:
    """The durable starts, and those that are staged and may yet be lost."""

    def __init__(self) -> None:
        self._starts = 0
        self._durable: dict[int, int] = {}
        self._before: dict[int, int] = {}
        """The same, without the last one."""
        self._staged: list[int] = []
        self._memory: object = None

    def stage(self, facts: Iterable[Fact], state: SchedulerState) -> None:
        """Note a stepped message. After memory was made anew, earlier staged starts will never be durable."""
        if state is not self._memory:
            self._memory = state
            self._staged.clear()
        started = [fact.task_id for fact in facts if isinstance(fact.event, Started)]
        self._staged += [state.tasks[task_id].spec.user_id for task_id in started]

    def follow(self, records: Iterable[Recorded], tasks: Mapping[int, TaskState]) -> None:
        """Make the staged starts durable."""
        for record in records:
            if isinstance(record.event, Started):
                user = tasks[record.task_id].spec.user_id
                self._starts += 1
                self._before, self._durable = self._durable, self._durable | {user: self._starts}
        self._staged.clear()

    def before_the_last(self) -> dict[int, int]:
        """Map each user to the time of the last start, counted from 1, as it stood before the latest start of all."""
        if not self._staged:
            return self._before
        staged = {user: self._starts + number for number, user in enumerate(self._staged[:-1], start=1)}
        return self._durable | staged
