"""What there is to run attempts on, where they run on the nodes of a cluster."""

from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from ..core.limits import UNLIMITED
from ..core.resources import MachineSample
from ..machine import Machine
from .wire import NodeUse


class ClusterMachine(Machine):
    """Memory and CPU of the node that the next attempt goes to, and the disk of the temp folder as seen from here.

    An attempt runs on one node, so what all of them have together says nothing.

    Args:
        temp: the folder whose free space counts.
        use: asks what that node has; None: no node is known, and nothing starts.
    """

    def __init__(self, temp: Path, use: Callable[[], NodeUse | None]) -> None:
        super().__init__(temp)
        self._use = use

    def sample(self) -> MachineSample:
        """See `Machine`."""
        here, use = super().sample(), self._use()
        if use is None:
            return replace(here, cpu_percent=0.0, memory_available=UNLIMITED, memory_total=UNLIMITED)
        return replace(
            here,
            cpu_percent=use.cpu_percent,
            memory_available=use.memory_available,
            memory_total=use.memory_total,
        )
