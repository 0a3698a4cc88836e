"""How much memory and temp space the running attempts take, for the ResourceMonitor."""

from collections.abc import Callable
from pathlib import Path

from ..events.errors import NotReady
from ..handlers.publish import space_before_publishing
from ..handlers.workspace import Unlistable
from .handover import Handover
from .logger import get_logger

logger = get_logger(__name__)


class AttemptUse:
    """Measures what running attempts take.

    Args:
        temp: the folder that holds the work folder of each task.
        handover: returns what hands attempts to the executor; None before there is one.
        outputs: returns the path of the output of each running task. Raises `NotReady`.
    """

    def __init__(
        self, temp: Path, *, handover: Callable[[], Handover | None], outputs: Callable[[], dict[int, str]]
    ) -> None:
        self._temp = temp
        self._handover = handover
        self._outputs = outputs
        self._unseen: set[int] = set()
        """Tasks whose files could not be looked at or removed, and for which this is logged already."""

    def memory(self) -> dict[tuple[int, int], int]:
        """Map the task and number of each attempt to its bytes in memory. Unknown ones are left out."""
        handover = self._handover()
        return {} if handover is None else handover.executor.memory()

    def measured_memory(self) -> dict[tuple[int, int], int] | None:
        """The same; None if the executor cannot measure it."""
        handover = self._handover()
        return self.memory() if handover is not None and handover.executor.capabilities.measures_memory else None

    def temp(self) -> dict[int, int] | None:
        """Map each running task to the bytes of temp space that it takes; negative if they cannot be counted.

        None while the Scheduler does not answer.
        """
        try:
            outputs = self._outputs()
        except NotReady:
            return None
        return {task_id: self._temp_of(task_id, Path(output)) for task_id, output in outputs.items()}

    def _temp_of(self, task_id: int, output: Path) -> int:
        try:
            return space_before_publishing(self._temp / str(task_id), output, task_id)
        except Unlistable as error:
            self.tell_unseen(task_id, error)
            return -1
        except OSError as error:  # the next sample may succeed, and the other tasks are still measured
            self.tell_unseen(task_id, error)
            return 0

    def tell_unseen(self, task_id: int, error: OSError) -> None:
        """Log the error once for each task. Several threads call this; at worst that gives a second line."""
        if task_id not in self._unseen:
            self._unseen.add(task_id)
            logger.warning("the files of a task could not be looked at or removed", task_id=task_id, error=str(error))
