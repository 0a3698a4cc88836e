"""Samples the nodes of a cluster instead of one machine."""

from collections.abc import Callable
from typing import NamedTuple

from ..core.nodes import NodeSample
from ..core.resources import MachineSample
from ..machine import Machine
from .wire import NodeUse


class UseThere(NamedTuple):
    """What is used on a node."""

    node: NodeUse | None
    """None if no host has sampled it."""
    age: float
    """How many seconds ago it was seen."""
    attempts: dict[tuple[int, int], int] | None = None
    """Task and number of each attempt → bytes of memory, measured before the node; None if that cannot be measured."""


class ClusterMachine(Machine):
    """Samples each node by itself. An attempt runs on one node, so their sum, or this machine, says nothing.

    Args:
        uses: returns the use of each node.
    """

    def __init__(self, uses: Callable[[], dict[str, UseThere]]) -> None:
        self._uses = uses

    def sample(self) -> MachineSample:
        """See `Machine`: no values hold for all nodes."""
        return MachineSample()

    def nodes(self) -> dict[str, NodeSample]:
        """See `Machine`."""
        return {
            name: NodeSample(
                None
                if there.node is None
                else MachineSample(
                    cpu_percent=there.node.cpu_percent,
                    memory_available=there.node.memory_available,
                    memory_total=there.node.memory_total,
                    temp_free=there.node.temp_free,
                    temp_total=there.node.temp_total,
                ),
                max(0.0, there.age),
                there.attempts,
            )
            for name, there in self._uses().items()
        }
