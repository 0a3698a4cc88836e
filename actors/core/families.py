"""Which open tasks are below which: what a cancel with children needs. Ids only."""

from collections.abc import Callable, Iterator


class Families:
    """Links from parents to children, kept as long as the child is open or has something open below it."""

    def __init__(self) -> None:
        self.parents: dict[int, int] = {}
        self._children: dict[int, set[int]] = {}

    def link(self, task_id: int, parent_of: Callable[[int], int | None]) -> None:
        """A task is open: see to it that every task above it leads to it. `parent_of` must know them all."""
        while task_id not in self.parents and (parent := parent_of(task_id)) is not None:
            self.parents[task_id] = parent
            self._children.setdefault(parent, set()).add(task_id)
            task_id = parent

    def unlink(self, task_id: int, is_open: Callable[[int], bool]) -> None:
        """A task is over: drop the links that lead to nothing open any more."""
        while task_id in self.parents and task_id not in self._children and not is_open(task_id):
            parent = self.parents.pop(task_id)
            siblings = self._children[parent]
            siblings.discard(task_id)
            if siblings:
                return
            del self._children[parent]
            task_id = parent

    def below(self, task_id: int) -> Iterator[int]:
        """All that is below a task, parents before their children; among them tasks that are over."""
        generation = [task_id]
        while generation:
            generation = [child for parent in generation for child in sorted(self._children.get(parent, ()))]
            yield from generation
