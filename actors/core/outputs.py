"""Which unfinished task writes which file. A fold of the open tasks, made anew at each start."""

from ...events import TaskState
from ...events.task_events import output_of


class Outputs:
    """The files that unfinished tasks write, and who does."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        """Output → the task that writes it; of several, which overwrite on purpose, the one with the lowest id."""
        self._others: dict[str, set[int]] = {}
        """Those that have only one writer are not in here: there may be a million."""

    def claim(self, task: TaskState) -> None:
        """The task is not finished. Saying so again changes nothing."""
        output = output_of(task.spec)
        holder = self.first.setdefault(output, task.id) if output else task.id
        if holder != task.id:
            self.first[output] = min(holder, task.id)
            self._others.setdefault(output, set()).update({holder, task.id} - {self.first[output]})

    def give_back(self, task: TaskState) -> None:
        """The task is over."""
        output = output_of(task.spec)
        others = self._others.get(output)
        if others is None:
            if self.first.get(output) == task.id:
                del self.first[output]
            return
        others.discard(task.id)
        if self.first[output] == task.id:
            self.first[output] = min(others)
            others.remove(self.first[output])
        if not others:
            del self._others[output]
