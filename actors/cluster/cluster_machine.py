"""What there is to run attempts on, where they run on the nodes of a cluster."""

from collections.abc import Callable

from ..core.nodes import NodeSample
from ..core.resources import MachineSample
from ..machine import Machine
from .wire import NodeUse


class ClusterMachine(Machine):
    """Each node by itself. An attempt runs on one, so what all of them have together, or this machine, says nothing.

    Args:
        uses: asks what nodes have, where that is known, and how many seconds ago each was seen.
    """

    def __init__(self, uses: Callable[[], dict[str, tuple[NodeUse | None, float]]]) -> None:
        self._uses = uses

    def sample(self) -> MachineSample:
        """See `Machine`: nothing is known that holds for all."""
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
