"""Faults to plant in the core's handling of nodes, and of attempts that outlive the service."""

from typing import Any

import pytest
from planted import Plant, after_resume, planted
from planted_operators import PLANTED

from tasktrail.actors.core import attempts, dispatch, node_changes
from tasktrail.actors.core.limits import UNLIMITED
from tasktrail.actors.core.node_search import Search
from tasktrail.actors.core.nodes import Node, Nodes
from tasktrail.actors.core.recorded_nodes import RecordedNodes
from tasktrail.actors.core.resources import Ceiling, Used, used_of
from tasktrail.actors.core.routing import Workers
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.unit_of_work import UnitOfWork
from tasktrail.events import TaskState
from tasktrail.events.reports import AttemptEnded, Settled

__all__ = ["NODE_FAULTS", "PLANTED"]

_OTHERS = set(PLANTED)

# --- where attempts run -----------------------------------------------------------------------------------------


@planted("I17: .* which is drained")
def drains_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """A drain is recorded, and nodes still take tasks."""
    drained = Nodes.drained
    patch.setattr(Nodes, "drained", lambda self, _: drained(self, ()))


@planted("the executor avoids")
def drains_not_told(patch: pytest.MonkeyPatch) -> None:
    """The executor makes workers on drained nodes."""
    patch.setattr(node_changes, "_order_drains", lambda _: None)


@planted("I4: nodes|the executor avoids")
def drains_forgotten_after_restart(patch: pytest.MonkeyPatch) -> None:
    """A drain lives in memory only."""
    after_resume(patch, lambda state: state.durable.nodes.drains.clear())


@planted("I17: .* and requires")
def labels_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """A task runs anywhere, whatever it requires."""
    patch.setattr(Node, "is_asked_for", lambda *_: True)


@planted("I17: .* are promised on")
def nodes_promise_anything(patch: pytest.MonkeyPatch) -> None:
    """Only the limits of all nodes together are checked."""
    patch.setattr(Node, "bytes_left", lambda _: Ceiling(UNLIMITED, UNLIMITED))


@planted("I17: .* are still to be used")
def reservation_gone_once_seen_on_a_node(patch: pytest.MonkeyPatch) -> None:
    """An attempt that a sample of its node has seen has used all that was reserved for it."""
    use_of = Node.use_of

    def seen(self: Node, task: TaskState, *args: Any, **kinds: Any) -> Used:
        used = use_of(self, task, *args, **kinds)
        return used_of(task) if used.memory or used.unmeasured else used

    patch.setattr(Node, "use_of", seen)


@planted("I17: .* are promised on|I17: .* workers of")
def promises_forgotten_with_the_name(patch: pytest.MonkeyPatch) -> None:
    """A node whose name changes looks empty."""
    patch.setattr(RecordedNodes, "present_name_of", lambda _self, name, _seen: name)


@planted("I5: .* overtaken more often")
def no_node_is_kept(patch: pytest.MonkeyPatch) -> None:
    """A large task starves among small ones."""
    patch.setattr(dispatch, "BACKFILL_BOUND", 1)
    patch.setattr(Search, "keep_for", lambda *_: None)


# --- what outlives the service ----------------------------------------------------------------------------------


@planted("I7: task .* two live attempts|I7: attempts without a slot")
def found_attempts_ended(patch: pytest.MonkeyPatch) -> None:
    """When all is found, the found attempts are taken for dead, too."""

    def hasty(work: UnitOfWork) -> None:
        for entry in list(work.state.running.values()):
            attempts._handle_ended(work, AttemptEnded(entry.task_id, entry.attempt, "interrupted", error="gone"))

    patch.setattr(attempts, "_handle_all_found", hasty)


@planted("I7: slots|I5: stuck|I14")
def dead_attempts_waited_for(patch: pytest.MonkeyPatch) -> None:
    """An attempt that is not found is waited for, for ever."""
    patch.setattr(attempts, "_handle_all_found", lambda _: None)


@planted("never settled")
def ends_not_settled(patch: pytest.MonkeyPatch) -> None:
    """Hosts keep each end, and report it to each service."""
    order = UnitOfWork.order
    patch.setattr(UnitOfWork, "order", lambda self, one: None if isinstance(one, Settled) else order(self, one))


@planted("I16: .* short attempts hold")
def found_short_attempts_hold_nothing(patch: pytest.MonkeyPatch) -> None:
    """An attempt that began before the workers were known shares a worker that is not counted."""
    take = Workers.take

    def light(self: Workers, offer: Any, most: int, *, short: bool) -> None:
        shared = self.shared
        take(self, offer, most, short=short)
        if short and self.room(most) + self.shared - shared <= 0:
            self.shared = shared

    patch.setattr(Workers, "take", light)


@planted("I17: .* are promised on|I17: .* workers of")
def found_attempts_not_counted_where_they_are(patch: pytest.MonkeyPatch) -> None:
    """An attempt is found, and its node is taken from the log."""
    patch.setattr(SchedulerState, "move", lambda *_: None)


NODE_FAULTS: set[Plant] = set(PLANTED) - _OTHERS
"""The faults that show only in clusters."""
