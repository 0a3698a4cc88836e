"""What happened, in words: the last steps before a failure, for people to read."""

from collections import deque
from datetime import datetime

from tasktrail.events import Recorded
from tasktrail.events.recorded import EVENT_TAGS


class Story:
    """Keeps the lines of the last steps."""

    def __init__(self, steps: int = 60) -> None:
        self._steps: deque[list[str]] = deque(maxlen=steps)

    def begin(self, number: int, at: datetime, what: str) -> None:
        """Begin a step."""
        self._steps.append([f"step {number} at {at:%d.%m. %H:%M:%S}: {what}"])

    def tell(self, line: str) -> None:
        """Add something that happens in it."""
        if not self._steps:
            self._steps.append(["before the first step"])
        self._steps[-1].append(f"    {line if len(line) <= 300 else line[:300] + ' …'}")

    def recorded(self, records: list[Recorded]) -> None:
        """Note that these records are durable."""
        for record in records:
            data = record.event
            text = f"{EVENT_TAGS[type(data)]} {_brief(data)}"
            self.tell(f"log {record.position}: task {record.task_id} attempt {record.attempt}: {text}")

    def __str__(self) -> str:
        return "\n".join(line for step in self._steps for line in step)


def _brief(event: object) -> str:
    """Return the fields with content."""
    shown = ((name, getattr(event, name)) for name in type(event).__struct_fields__)  # type: ignore[attr-defined]  # a Struct
    return ", ".join(f"{name}={value!s:.60}" for name, value in shown if value not in (None, "", 0, (), {}, False))
