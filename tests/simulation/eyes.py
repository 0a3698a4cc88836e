"""What people see when they decide, and the list of their possible wishes."""

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from ledger import Ledger
from sim_notifier import Receivers

if TYPE_CHECKING:
    from tasktrail.actors.core.messages import Intake
    from tasktrail.events import Command

Wish: TypeAlias = "Callable[[Eyes, str], tuple[Command, Intake]]"

WISHES: dict[Wish, float] = {}
"""Function that makes a command → how often it is wanted."""


NODE_WISHES: dict[Wish, float] = {}
"""The same for nodes, where there are any."""


def wish(often: float, wishes: dict[Wish, float] = WISHES) -> Callable[[Wish], Wish]:
    """Register a command that people send: the function gets what they see, and the command id."""

    def enlist(function: Wish) -> Wish:
        wishes[function] = often
        return function

    return enlist


class Eyes:
    """What people see: the tasks and standing orders of the log; the notices; and the time."""

    def __init__(self, rng: Random, ledger: Ledger, receivers: Receivers, *, nodes: bool) -> None:
        self.rng = rng
        self.tasks = ledger.tasks
        self.standing = ledger.standing
        self.receivers = receivers
        self.nodes = nodes
        """Whether people may ask for nodes."""
        self.now = datetime.min.replace(tzinfo=UTC)

    @property
    def last(self) -> int:
        """Return the newest task."""
        return len(self.tasks)

    def task(self, *wanted: str) -> int:
        """Return mostly a recent task in one of these states, now and then any task, or one that does not exist."""
        if self.rng.random() < 0.3:
            return max(0, self.last + 2 - int(self.rng.expovariate(0.15)))
        recent = range(max(1, self.last - 20), self.last + 1)
        fitting = [task_id for task_id in recent if self.tasks[task_id].status in wanted]
        return self.rng.choice(fitting) if fitting else self.last
