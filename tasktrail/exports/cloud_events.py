"""A record as a CloudEvent 1.0, in the JSON format, structured mode."""

from typing import Any

from ..events import Recorded
from ..events.recorded import timestamp
from .rows import task_about


def cloud_event(record: Recorded, source: str) -> dict[str, Any]:
    """The record as others take it in.

    Args:
        record: it stands in `data` as everywhere else.
        source: which log it is of. Source and id together tell it from all others.
    """
    task_id = task_about(record)
    return {
        "specversion": "1.0",
        "id": str(record.position),
        "source": source,
        "type": f"tasktrail.{record.name}",
        **({"subject": f"tasks/{task_id}"} if task_id else {}),
        "time": timestamp(record.recorded_at),
        "datacontenttype": "application/json",
        "sequence": f"{record.position:016}",  # an extension of the specification: it sorts as text
        "data": record.flat(),
    }
