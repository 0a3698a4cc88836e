"""One task's records: its own, and what the service noted about it under task id 0."""

from ..events import Recorded, TaskState
from ..events.system_events import Adjusted, DeliveryAttempted
from .building import Records
from .outbox import Recall
from .tally import Tally
from .task_view import fold_batch


def read_stream(log: Records, task_id: int) -> list[Recorded]:
    """All records that speak of a task, in order of position; empty when there is none."""
    own = log.read_task(task_id) if 0 < task_id < 2**63 else []
    if not own:
        return []
    notes = [record for record in log.read_task(0) if _speaks_of(record, task_id)]
    return sorted((*own, *notes), key=lambda record: record.position)


def recall_from(log: Records) -> Recall:
    """What an `Outbox` asks the log when a task it has forgotten lives again."""

    def recall(task_id: int, position: int) -> TaskState | None:
        earlier = [record for record in read_stream(log, task_id) if record.position < position]
        return fold_batch(earlier, {}, Tally()).get(task_id)

    return recall


def _speaks_of(record: Recorded, task_id: int) -> bool:
    return isinstance(record.event, Adjusted | DeliveryAttempted) and record.event.task_id == task_id
