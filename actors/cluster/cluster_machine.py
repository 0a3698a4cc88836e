"""Samples the nodes of a cluster instead of one machine."""

from collections.abc import Callable

from ..core.nodes import NodeSample
from ..core.resources import MachineSample
from ..machine import Machine
from .wire import NodeUse


class ClusterMachine(Machine):
    """Samples each node by itself. An attempt runs on one node, so their sum, or this machine, says nothing.

    Args:
        uses: returns the use of each node, if known, and how many seconds ago the node was seen.
    """

    def __init__(self, uses: Callable[[], dict[str, tuple[NodeUse | None, float]]]) -> None:
        self._uses = uses

    def sample(self) -> MachineSample:
        """See `Machine`: no values hold for all nodes."""
        return MachineSample()

    def nodes(self) -> dict[str, NodeSample]:
        """See `Machine`."""
        return {
            name: NodeSample(
                None
                if use is None
                else MachineSample(
                    cpu_percent=use.cpu_percent,
                    memory_available=use.memory_available,
                    memory_total=use.memory_total,
                    temp_free=use.temp_free,
                    temp_total=use.temp_total,
                ),
                max(0.0, age),
            )
            for name, (use, age) in self._uses().items()
        }
