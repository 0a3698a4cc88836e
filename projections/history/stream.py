"""One task's records: its own, and what the service noted about it under task id 0."""

from ...events import Recorded, TaskState
from ...events.log.event_log import ReadableLog
from ...events.state import fold
from ..notices.outbox import Recall
from ..views.notes import SPEAK_OF_A_TASK


def read_stream(log: ReadableLog, task_id: int) -> list[Recorded]:
    """All records that speak of a task, in order of position; empty when there is none."""
    own = log.read_task(task_id) if 0 < task_id < 2**63 else []
    if not own:
        return []
    notes = [record for record in log.read_task(0) if _speaks_of(record, task_id)]
    return sorted((*own, *notes), key=lambda record: record.position)


def recall_from(log: ReadableLog) -> Recall:
    """What an `Outbox` asks the log about a task it has forgotten, or a notice whose state it has not kept."""

    def recall(task_id: int, position: int) -> tuple[TaskState, Recorded] | None:
        records = [record for record in log.read_task(task_id, adjusted=True) if record.position <= position]
        state = fold(task_id, ((record.event, record.recorded_at) for record in records))  # type: ignore[misc]  # task events and adjustments
        own = [record for record in records if record.task_id == task_id]
        return None if state is None else (state, own[-1])

    return recall


def _speaks_of(record: Recorded, task_id: int) -> bool:
    return isinstance(record.event, SPEAK_OF_A_TASK) and record.event.task_id == task_id
